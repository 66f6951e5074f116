"""The arms of the study: each is uniform data and one emphasis, a point of the grid.

To rank a score or weighting of your own, register it and add a line here; docs/grid.md shows how.
"""

import dataclasses
from typing import Literal

from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.reports.spec import Role

Maker = Literal["own_loss", "gradient_norm", "influence", "random"]
Episodes = Literal["all", "competent", "reference"]


@dataclasses.dataclass(frozen=True)
class GridArm:
    """One arm.

    Attributes:
        title: Its name for people.
        description: What it is.
        emphasis: Score, weighting and how it is felt.
        by: Who makes the scores, where they are given: a clone trained on uniform data, or chance.
        cvar_alpha: Share of the worst rows of a batch that count; 1 for all.
        episodes: What is learned from: what everybody played, what the competent operators played,
            or the reference alone, which no other arm is trained on.
        role: Its part in the comparison.
    """

    title: str
    description: str
    emphasis: EmphasisConfig = EmphasisConfig()
    by: Maker | None = None
    cvar_alpha: float = 1.0
    episodes: Episodes = "all"
    role: Role = "method"


RETURN, GIVEN = "episode_return", "given"


def ranked(score: str, through: Literal["batches", "losses"] = "batches") -> EmphasisConfig:
    """Weighting by rank, of one sharpness for every score."""
    return EmphasisConfig(score, "rank", power=1.0, floor=0.05, through=through)


ARMS: dict[str, GridArm] = {
    "uniform": GridArm("Uniform", "every recorded step counts the same", role="baseline"),
    "return_rank": GridArm("Return, rank", "batches by the rank of the return", ranked(RETURN)),
    "return_rank_losses": GridArm(
        "Return, rank, losses",
        "the same ratios as weights of the losses",
        ranked(RETURN, "losses"),
    ),
    "return_tail": GridArm(
        "Return, tail",
        "the best fifth of the data alone",
        EmphasisConfig(RETURN, "tail", alpha=0.2),
    ),
    "return_softmax": GridArm(
        "Return, softmax",
        "batches by e^(return / T), a fifth effective",
        EmphasisConfig(RETURN, "softmax", ess=0.2),
    ),
    "clusters": GridArm(
        "Clusters, balanced",
        "every cluster of episodes as much as any other",
        EmphasisConfig("cluster", "balanced", tau=0.0, clusters=5),
    ),
    "cvar": GridArm("Own loss, tail", "the worst fifth of a batch's rows counts", cvar_alpha=0.2),
    "loss_rank": GridArm(
        "Own loss, rank",
        "batches by the rank of a clone's loss",
        ranked(GIVEN),
        "own_loss",
    ),
    "gradient_norm": GridArm(
        "Gradient norm, proportional",
        "batches by the size of a clone's gradient",
        EmphasisConfig(GIVEN, "proportional", power=1.0, floor=0.05),
        "gradient_norm",
    ),
    "influence_drop": GridArm(
        "Influence, drop",
        "without the worse half of what raises a clone's loss on the reference",
        EmphasisConfig(GIVEN, "drop", fraction=0.5),
        "influence",
    ),
    "influence_rank": GridArm(
        "Influence, rank",
        "batches by the rank of what lowers a clone's loss on the reference",
        ranked(GIVEN),
        "influence",
    ),
    "influence_tail": GridArm(
        "Influence, tail",
        "the fifth of the data that lowers a clone's loss on the reference most",
        EmphasisConfig(GIVEN, "tail", alpha=0.2),
        "influence",
    ),
    "random_rank": GridArm(
        "Random, rank",
        "batches by the rank of noise: what concentration alone does",
        ranked(GIVEN),
        "random",
        role="control",
    ),
    "reference": GridArm(
        "Reference alone",
        "only the few good episodes that influence is measured on",
        episodes="reference",
        role="control",
    ),
    "oracle": GridArm(
        "Oracle",
        "only what the competent operators played, which no other arm is told",
        episodes="competent",
        role="anchor",
    ),
}
"""By name."""
ALL = tuple(ARMS)
OFFLINE = (
    *("uniform", "return_rank", "return_tail", "clusters", "cvar", "loss_rank"),
    *("influence_drop", "influence_rank", "influence_tail", "random_rank", "oracle"),
)
"""Arms of the second learner, which feels an emphasis on episodes through its batches alone."""
FEW = ("uniform", "return_rank", "clusters", "influence_drop", "oracle")
"""The arms of `smoke`."""
