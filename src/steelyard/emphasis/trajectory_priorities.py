"""Priorities of whole trajectories by the TD errors of the chunks drawn from them (T-PER).

A trajectory's score is a running mean of what its drawn chunks showed. Every trajectory that a
batch touches is scored by its own chunks; one that no batch has touched yet ranks first. Scores
stay with their items: an item is a place in a store, and a place that is given to another
trajectory starts anew.

Source: after Liu et al. 2023, "Prioritized Trajectory Replay", arXiv:2306.15503; the bias
correction is Adam's (Kingma and Ba 2015).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

EMA = 0.9
"""Decay of the running mean."""
_UPPER_SHARES = {"avg_reward": 1.0, "uhm_reward": 0.5, "uqm_reward": 0.25}
REWARD_SCORES = (*_UPPER_SHARES, "min_reward", "success_binary", "uniform")
"""Scores by rewards alone."""


class TrajectoryPriorities(eqx.Module):
    """Running means of every item's TD errors.

    Attributes:
        mean: ``μ``, before its bias is corrected.
        count: Batches that touched the item.
    """

    mean: Float[Array, " item"]
    count: Int[Array, " item"]

    @classmethod
    def empty(cls, items: int) -> "TrajectoryPriorities":
        """No item has been touched."""
        return cls(jnp.zeros(items), jnp.zeros(items, jnp.int32))

    def seen(
        self, drawn: Int[Array, " draw"], errors: Float[Array, " draw"], decay: float = EMA
    ) -> "TrajectoryPriorities":
        """Take in a batch: each item it holds moves by the mean error of its own chunks.

        Args:
            drawn: Item of each chunk of the batch.
            errors: What each chunk showed, >= 0, in the same order.
            decay: ``β`` of ``μ ← β μ + (1 - β) m``, in ``[0, 1)``.
        """
        items = self.mean.shape[0]
        times = jax.ops.segment_sum(jnp.ones_like(errors), drawn, items)
        total = jax.ops.segment_sum(errors, drawn, items)
        touched = times > 0
        fresh = total / jnp.maximum(times, 1.0)
        mean = jnp.where(touched, decay * self.mean + (1.0 - decay) * fresh, self.mean)
        return TrajectoryPriorities(mean, self.count + touched.astype(jnp.int32))

    def seen_legacy(
        self, drawn: Int[Array, " draw"], errors: Float[Array, " draw"], decay: float = EMA
    ) -> "TrajectoryPriorities":
        """Take in a batch as the reference does: its first trajectory gets the mean of all.

        It is here to be compared with; every other trajectory stays unscored.
        """
        return self.seen(drawn[:1], jnp.mean(errors, keepdims=True), decay)

    def forget(self, items: Bool[Array, " item"]) -> "TrajectoryPriorities":
        """Start anew where a place now holds another trajectory."""
        return TrajectoryPriorities(
            jnp.where(items, 0.0, self.mean), jnp.where(items, 0, self.count)
        )

    def scores(self, valid: Bool[Array, " item"], decay: float = EMA) -> Float[Array, " item"]:
        """Score every item: its corrected mean, or the largest of all where nothing is known.

        Args:
            valid: Items that hold a trajectory.
            decay: As it was given to :meth:`seen`.
        """
        known = valid & (self.count > 0)
        powers = jnp.power(jnp.float32(decay), self.count.astype(jnp.float32))
        corrected = self.mean / jnp.where(known, 1.0 - powers, 1.0)
        largest = jnp.max(jnp.where(known, corrected, -jnp.inf))
        first = jnp.where(jnp.any(known), largest, 0.0)
        return jnp.where(known, corrected, jnp.where(valid, first, 0.0))


def reward_scores(
    kind: str, rewards: Float[Array, " step"], item: Int[Array, " step"], items: int
) -> Float[Array, " item"]:
    """Score trajectories by their rewards alone; the names are the reference's.

    Args:
        kind: ``avg_reward``, the mean; ``min_reward``; ``uqm_reward`` and ``uhm_reward``, means of
            the upper quarter and half, rounded up; ``success_binary``, 2 where the largest reward
            is above the least of all trajectories' and 0.1 elsewhere; ``uniform``, 1.
        rewards: Of all steps; steps of an item stand together.
        item: Which item each step belongs to; ``items`` where it belongs to none.
        items: How many there are; one without steps scores 0.

    Raises:
        ValueError: There is no such kind.
    """
    ones = jnp.ones_like(rewards)
    length = jax.ops.segment_sum(ones, item, items)
    some = length > 0
    if kind == "uniform":
        return some.astype(rewards.dtype)
    if kind == "min_reward":
        return jnp.where(some, jax.ops.segment_min(rewards, item, items), 0.0)
    if kind == "success_binary":
        largest = jax.ops.segment_max(rewards, item, items)
        least = jnp.min(jnp.where(item < items, rewards, jnp.inf))
        return jnp.where(some, jnp.where(largest > least, 2.0, 0.1), 0.0)
    if kind not in _UPPER_SHARES:
        legal = ", ".join(REWARD_SCORES)
        raise ValueError(f"score by rewards is one of {legal}, got {kind!r}")
    kept = jnp.ceil(_UPPER_SHARES[kind] * length)
    # Sorted within each item, the largest first; a step's place follows from its item's offset.
    _, falling = jax.lax.sort((item, -rewards), num_keys=2)
    place = jnp.arange(rewards.shape[0]) - (jnp.cumsum(length) - length)[item]
    upper = jnp.where(place < kept[item], -falling, 0.0)
    return jax.ops.segment_sum(upper, item, items) / jnp.maximum(kept, 1.0)
