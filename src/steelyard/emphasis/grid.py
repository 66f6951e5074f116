"""The grid: which score goes with which weighting, and the rule where one does not.

Scores and weightings know nothing of each other. What stands between them is the sign of a score,
and whether its numbers have an order at all: a cluster's label has none.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from steelyard.emphasis.weightings import WEIGHTINGS

Sign = Literal["nonnegative", "signed", "either", "label"]


@dataclasses.dataclass(frozen=True)
class ScoreKind:
    """What is known of a score before there is any number.

    Attributes:
        sign: ``nonnegative``; ``signed``; ``either``, as the data or the loss make it, so that the
            numbers themselves are checked; ``label``, which has no order.
        about: What it says of an item.
        reads: What it is made from.
    """

    sign: Sign
    about: str
    reads: str


SCORE_KINDS: Mapping[str, ScoreKind] = MappingProxyType(
    {
        "constant": ScoreKind("nonnegative", "no item matters more", "nothing"),
        "own_loss": ScoreKind("either", "the learner is bad at it", "per-item losses"),
        "episode_return": ScoreKind("either", "it went well", "rewards"),
        "gradient_norm": ScoreKind(
            "nonnegative", "it moves the parameters", "per-item losses, parameters"
        ),
        "influence": ScoreKind(
            "signed",
            "a step on it raises a target",
            "per-item losses, parameters, the target's gradient",
        ),
        "cluster": ScoreKind("label", "it is of a kind", "features"),
    }
)
"""Every score by name; ``cluster`` is a label, which stands where a score would."""
GIVEN = ScoreKind("either", "what its maker says", "what its maker reads")
"""A score that is not of the library."""


def refusal(score: str, weighting: str) -> str | None:
    """Say why a weighting cannot take a score; none where it can.

    Args:
        score: A key of ``SCORE_KINDS``, or the name of a score of one's own.
        weighting: A key of ``WEIGHTINGS``.

    Returns:
        The rule that is broken. Where the sign is ``either``, numbers decide: negative ones are
        refused by :meth:`Weighting.check`.
    """
    kind, domain = SCORE_KINDS.get(score, GIVEN), WEIGHTINGS[weighting].domain
    if weighting == "uniform":
        return None
    if (weighting == "balanced") != (kind.sign == "label"):
        return (
            "weighting 'balanced' goes with score 'cluster' and with no other, got "
            f"{weighting!r} with {score!r}."
        )
    if domain == "nonnegative" and kind.sign == "signed":
        return (
            f"weighting {weighting!r} needs scores >= 0, and {score!r} is signed; use 'rank', "
            "'softmax', 'tail' or 'drop'."
        )
    return None


def grid_table() -> str:
    """Scores against weightings in Markdown, as docs/grid.md shows them; a test compares."""
    rows = [["", "reads", *(f"`{weighting}`" for weighting in WEIGHTINGS)]]
    rows.append(["---"] * len(rows[0]))
    for score, kind in SCORE_KINDS.items():
        cells = [f"`{score}`: {kind.about}", kind.reads]
        for weighting, made in WEIGHTINGS.items():
            checked = kind.sign == "either" and made.domain == "nonnegative"
            cells.append("–" if refusal(score, weighting) else ">= 0" if checked else "yes")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
