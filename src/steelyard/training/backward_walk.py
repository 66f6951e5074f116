"""Draws that walk trajectories from their last start to their first (PTR's backward sampling).

As many trajectories are walked at once as a batch has chunks. One that is exhausted is replaced by
a draw from ``q_i ∝ p_i / n_i``: long ones are visited for longer, so that in the long run each
start comes as often as in direct draws.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from steelyard.agents.acfql import ACFQLConfig
from steelyard.emphasis.samplers import Systematic
from steelyard.training.offline_rl import ChunkDraw, Drawing

WALK = 23
"""What a draw's key is folded with for the walk's own draws."""


class BackwardWalk(eqx.Module):
    """Where a run's walks stand.

    Attributes:
        item: Trajectory of each walk.
        left: Starts that it has yet to visit; 0 where it is exhausted.
    """

    item: Int[Array, " batch"]
    left: Int[Array, " batch"]

    @classmethod
    def empty(cls, size: int) -> "BackwardWalk":
        """All walks are exhausted, so the next draw begins new ones."""
        return cls(jnp.zeros(size, jnp.int32), jnp.zeros(size, jnp.int32))

    def draw(
        self,
        found: ChunkDraw,
        data: Drawing,
        key: PRNGKeyArray,
        config: ACFQLConfig,
        how: str,
        stride: int,
    ) -> tuple[ChunkDraw, "BackwardWalk"]:
        """Replace a draw's critic chunks by those of the walks.

        Args:
            found: A direct draw, of as many chunks as there are walks.
            data: What it was drawn from.
            key: Its key.
            config: The learner's.
            how: ``walk``, or ``endpoint``: the last start of every trajectory drawn, always.
            stride: Starts between two draws of a walk.
        """
        store, steps = data.store, config.horizon_length
        starts = store.critic_starts(steps)
        if how == "endpoint":
            item, start = found.items, starts[found.items] - 1
            walk, owed = self, found.owed
        else:
            walk = self._renewed(data, starts, jax.random.fold_in(key, WALK), stride)
            item = walk.item
            start = jnp.minimum(walk.left, starts[item]) - 1
            owed = data.critic.correction[item]
            walk = BackwardWalk(item, jnp.maximum(start + 1 - stride, 0))
        part = store.chunks(item, start, steps, config.discount, config.use_weighted_target)
        batch = eqx.tree_at(lambda b: b.critic, found.batch, part)
        return ChunkDraw(batch, item, start, owed, found.actor_owed), walk

    def _renewed(
        self, data: Drawing, starts: Int[Array, " item"], key: PRNGKeyArray, stride: int
    ) -> "BackwardWalk":
        """New trajectories in the place of exhausted ones, and of those no longer held."""
        visits = (starts + stride - 1) // stride
        share = data.critic.probabilities / jnp.maximum(visits, 1)
        size = self.item.shape[0]
        draw_key, order_key = jax.random.split(key)
        fresh = Systematic().draw(Systematic().table(share), draw_key, size).indices
        fresh = jax.random.permutation(order_key, fresh)
        over: Bool[Array, " batch"] = (self.left <= 0) | (starts[self.item] <= 0)
        return BackwardWalk(
            jnp.where(over, fresh, self.item), jnp.where(over, starts[fresh], self.left)
        )
