"""How much each trajectory counts, by what is known of it: items → density ratio.

What a :class:`TrajectoryEmphasis` says is one choice of score and weighting; what it is applied to
are :class:`TrajectoryItems`, the places of a store. Every ratio is one to the measure of starts, so
that no sharpness, in whatever weighting, is the plain run bit for bit.
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.measures import length_base, mean_one
from steelyard.emphasis.trajectory_priorities import REWARD_SCORES
from steelyard.emphasis.weightings import Balanced, Rank

Weight = Literal["uniform", "trajectories", "rank", "balanced", "symmetric"]
Labels = Literal["clusters", "success"]
TD_METRIC = "td_error_rank"
METRICS = (TD_METRIC, *REWARD_SCORES, "recency")
"""Scores that `rank` can go by."""


@dataclasses.dataclass(frozen=True)
class TrajectoryEmphasis:
    """How much each trajectory counts in one kind of batch."""

    weighting: Weight = "uniform"
    """`uniform` over starts, `trajectories` alike, by `rank` of a score, clusters `balanced`, or
    `symmetric`: half of the batch from the offline data."""
    metric: str = TD_METRIC
    """Score of `rank`."""
    inverse: bool = False
    """Whether the lowest score ranks first."""
    power: float = 0.7
    """Power of `rank`; 0 is uniform."""
    floor: float = 0.05
    """Least density ratio of `rank`."""
    labels: Labels = "clusters"
    """What `balanced` balances; new trajectories have a label of their own, or a cluster's."""
    tau: float = 0.0
    """Sharpness of `balanced`: 0 gives each cluster the same share, 1 is uniform."""
    cap: float = 10.0
    """Largest density ratio of `balanced`."""
    corrected: bool = False
    """Whether losses are weighted by what the draws owe."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric is one of {', '.join(METRICS)}, got {self.metric!r}")


class TrajectoryItems(eqx.Module):
    """What is known of each place of a store.

    Attributes:
        starts: From how many steps a chunk can be drawn; 0 where nothing is held.
        labels: Its cluster.
        new: Whether it is no part of the offline data.
        success: Whether the task ended in it.
        order: 0 for offline data, then 1, 2, … in the order of their beginning.
        td_scores: Its priority.
        reward_scores: Its score by rewards, where the emphasis reads one.
    """

    starts: Int[Array, " item"]
    labels: Int[Array, " item"]
    new: Bool[Array, " item"]
    success: Bool[Array, " item"]
    order: Int[Array, " item"]
    td_scores: Float[Array, " item"]
    reward_scores: Float[Array, " item"] | None = None

    @classmethod
    def of(
        cls,
        store: TrajectoryStore,
        starts: Int[Array, " item"],
        labels: Int[Array, " item"],
        td_scores: Float[Array, " item"],
        reward_scores: Float[Array, " item"] | None = None,
    ) -> "TrajectoryItems":
        """The places of one run's store, with what it does not know itself."""
        return cls(
            starts=starts,
            labels=labels,
            new=store.new,
            success=store.success,
            order=store.order,
            td_scores=td_scores,
            reward_scores=reward_scores,
        )


def trajectory_ratio(emphasis: TrajectoryEmphasis, items: TrajectoryItems) -> Float[Array, " item"]:
    """Density ratio of each item to the measure of its starts; 0 where nothing can be drawn."""
    base = length_base(items.starts)
    none = jnp.zeros_like(base)
    if emphasis.weighting == "uniform":
        return (base > 0).astype(base.dtype)
    if emphasis.weighting == "trajectories":
        return mean_one(1.0 / jnp.maximum(items.starts, 1).astype(base.dtype), base)
    if emphasis.weighting == "rank":
        scores = item_scores(emphasis, items)
        signed = -scores if emphasis.inverse else scores
        return Rank(emphasis.power, emphasis.floor).ratio(signed, base=base)
    if emphasis.weighting == "symmetric":
        halves = Balanced(items.new.astype(jnp.int32), 0.0, jnp.inf)
        return halves.ratio(none, base=base)
    labels = items.labels
    if emphasis.labels == "success":
        labels = jnp.where(items.new, 2, items.success.astype(labels.dtype))
    return Balanced(labels, emphasis.tau, emphasis.cap).ratio(none, base=base)


def item_scores(emphasis: TrajectoryEmphasis, items: TrajectoryItems) -> Float[Array, " item"]:
    """The scores that `rank` goes by."""
    if emphasis.metric == TD_METRIC:
        return items.td_scores
    if emphasis.metric == "recency":
        return items.order.astype(jnp.float32)
    if items.reward_scores is None:
        raise ValueError(f"metric {emphasis.metric!r} needs the items' reward_scores")
    return items.reward_scores


def new_ratio(ratio: Float[Array, " item"], new: Bool[Array, " item"]) -> Float[Array, ""]:
    """The ratio that a trajectory starts with: the largest of the new ones, else of all."""
    own = jnp.max(jnp.where(new, ratio, -jnp.inf))
    return jnp.where(jnp.isfinite(own) & (own > 0), own, jnp.max(ratio))
