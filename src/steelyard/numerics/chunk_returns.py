"""Returns of action chunks, near an end too: which starts train a critic, and what a slot is worth.

A chunk of ``H`` actions starts at ``t`` of an episode of ``T`` steps: ``n = min(H, T - t)`` of them
were played. With ``m_k = 0`` where the task ended in step ``t + k`` and ``c_0 = 1, c_{k+1} = c_k
m_k``:

    R = Σ_{k<n} γ^k c_k r_k        y = R + γ^n c_n V(s_{t+n})

Where the task ended inside the chunk the target is exact whatever stands in the slots behind it, so
the last starts of an episode train the critic like all others. Where a time limit cut it, a shorter
sum is the value of another policy, one that plans anew early, and is no target.

Source: Li, Zhou, Levine 2025, "Reinforcement Learning with Action Chunking", arXiv:2507.07969,
which drops the last starts.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class ChunkReturn(NamedTuple):
    """What a chunk came to.

    Attributes:
        reward: ``R``.
        discount: ``γ^n c_n``.
        steps: ``n``.
        trains_critic: Whether it is whole, or the task ended in it.
        played: Slots that were played before the task ended.
    """

    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    steps: Int[Array, "*batch"]
    trains_critic: Bool[Array, "*batch"]
    played: Bool[Array, "*batch chunk"]


def chunk_return(
    rewards: Float[Array, "*batch chunk"],
    terminated: Bool[Array, "*batch chunk"],
    steps: Int[Array, "*batch"],
    gamma: float,
) -> ChunkReturn:
    """Sum a chunk's rewards up to where it, its episode or the task ends.

    Args:
        rewards: Of the next ``H`` steps; whatever stands behind the episode's end is not read.
        terminated: Where the task ended, likewise; an episode may run on after it.
        steps: ``n``, steps that the episode still has, at least 1; more than ``H`` count as ``H``.
        gamma: Discount in ``[0, 1]``.
    """
    chunk = rewards.shape[-1]
    place = jnp.arange(chunk).reshape((1,) * steps.ndim + (chunk,))
    count = jnp.minimum(steps, chunk)
    inside = place < count[..., None]
    goes_on = jnp.where(inside & terminated, 0, 1)
    alive_after = jnp.cumprod(goes_on, axis=-1).astype(bool)
    first = jnp.ones_like(alive_after[..., :1])
    alive = jnp.concatenate([first, alive_after[..., :-1]], axis=-1)
    played = inside & alive
    powers = jnp.power(jnp.float32(gamma), place.astype(rewards.dtype))
    reward = jnp.sum(jnp.where(played, powers * rewards, 0.0), axis=-1)
    over = ~alive_after[..., -1]
    reach = jnp.power(jnp.float32(gamma), count.astype(rewards.dtype))
    return ChunkReturn(
        reward=reward,
        discount=jnp.where(over, 0.0, reach),
        steps=count,
        trains_critic=(steps >= chunk) | over,
        played=played,
    )
