"""The arms of the study: what is learned from the judgements, and from which policy.

Each arm but the first names the arm that it departs from, its parent.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from steelyard.reports.spec import Role

Learner = Literal["none", "clone", "cpl", "piql"]
SHORT, SHORTEST = 100, 50
"""Gradient steps at λ 0.75 and at λ 1."""
Cloned = Literal["all", "winners", "top_rated", "top_return"]


@dataclasses.dataclass(frozen=True)
class PianoArm:
    """One arm.

    Attributes:
        title: Its name for people.
        description: What it is.
        learner: What learns.
        cloned: Which segments are cloned, where the learner clones.
        agent: Fields of CPL's config that differ.
        steps: Gradient steps; none takes the part's. More of them overshoot, the sooner the larger
            λ is (docs/methods/cpl.md), so they were chosen for each λ, on other seeds.
        weighting: Weighting of pairs by the strength of their judgement; none draws them alike.
        start: The policy that training begins with: that of all arms, or that of another arm.
        role: Its part in the comparison.
        parent: The arm it departs from.
    """

    title: str
    description: str
    learner: Learner = "cpl"
    cloned: Cloned = "all"
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    weighting: str | None = None
    start: str = "pretrained"
    role: Role = "method"
    parent: str | None = "cpl"


ARMS: Mapping[str, PianoArm] = {
    "pretrained": PianoArm(
        "Pretrained",
        "the policy that every other arm starts from",
        learner="none",
        role="baseline",
        parent=None,
    ),
    "bc": PianoArm(
        "BC", "goes on cloning all segments", "clone", role="control", parent="pretrained"
    ),
    "sft": PianoArm(
        "SFT", "clones segments as often as they won", "clone", "winners", parent="pretrained"
    ),
    "rated_bc": PianoArm(
        "Best-rated BC", "clones the segments of the best rating", "clone", "top_rated",
        parent="pretrained",
    ),
    "percent_bc": PianoArm(
        "10 % BC (oracle)",
        "clones the tenth of all segments that is worth most, which no judgement tells",
        "clone",
        "top_return",
        role="control",
        parent="pretrained",
    ),
    "piql": PianoArm(
        "P-IQL", "a reward from the same comparisons, then IQL on all segments", "piql",
        parent="pretrained",
    ),
    "cpl": PianoArm("CPL, λ 0.5", "contrastive preference learning", parent="pretrained"),
    "cpl_lam075": PianoArm(
        "CPL, λ 0.75", "a stronger push away from losers", agent={"lambda_": 0.75}, steps=SHORT
    ),
    "cpl_unbiased": PianoArm("CPL, λ 1", "the plain loss", agent={"lambda_": 1.0}, steps=SHORTEST),
    "cpl_kl": PianoArm(
        "CPL, to reference", "likelihoods counted from the pretrained policy's, λ 0.75",
        agent={"lambda_": 0.75, "anchor": "reference"}, steps=SHORT, parent="cpl_lam075",
    ),
    "cpl_bc": PianoArm(
        "CPL and BC", "the plain loss, and cloning of all segments",
        agent={"lambda_": 1.0, "bc_coeff": 1.0}, steps=SHORTEST, parent="cpl_unbiased",
    ),
    "cpl_policy_label": PianoArm(
        "CPL, to behaviour",
        "log-probabilities counted from those of the policies that played, which are known",
        agent={
            "lambda_": 0.75, "anchor": "behaviour", "likelihood": "clipped_gaussian",
        },
        steps=SHORT,
        parent="cpl_lam075",
    ),
    "cpl_from_rated": PianoArm(
        "CPL after best-rated BC", "begins with what the best-rated segments taught",
        agent={"lambda_": 0.75}, steps=SHORT, start="rated_bc", parent="cpl_lam075",
    ),
    "cpl_no_conservative": PianoArm(
        "CPL, not held", "no distance to the pretrained policy counts",
        agent={"conservative_weight": 0.0}, role="control",
    ),
    "cpl_weighted": PianoArm(
        "CPL, strong pairs first", "pairs drawn by the strength of their judgement",
        agent={"pairs": "explicit", "lambda_": 0.75}, steps=SHORT, weighting="proportional",
        parent="cpl_explicit",
    ),
    "cpl_explicit": PianoArm(
        "CPL, drawn pairs", "batches of pairs instead of all pairs of a batch",
        agent={"pairs": "explicit", "lambda_": 0.75}, steps=SHORT, role="control",
        parent="cpl_lam075",
    ),
    "cpl_tail": PianoArm(
        "CPL, worst pairs", "the worst half of a batch's pairs counts (CVaR)",
        agent={"pairs": "explicit", "lambda_": 0.75, "reduction": "cvar", "cvar_alpha": 0.5},
        steps=SHORT,
        parent="cpl_explicit",
    ),
}  # fmt: skip
"""By name."""

PUBLISHED = (
    "pretrained", "sft", "rated_bc", "percent_bc", "piql", "cpl", "cpl_lam075", "cpl_unbiased",
)  # fmt: skip
"""The arms of `quick`."""
REFERENCE = ("pretrained", "cpl")
"""The reference's own two."""
ALL = tuple(ARMS)
"""The arms of `full`."""
