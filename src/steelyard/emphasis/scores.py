"""Scores: how much each item matters; larger matters more.

A score receives items and *functions*, never a learner, so that any score works with any learner.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from steelyard.emphasis.gradient_norm import gradient_norm
from steelyard.emphasis.influence import influence

Items = TypeVar("Items")


def _count(items: PyTree) -> int:
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(items)}
    if len(sizes) != 1:
        raise ValueError(f"items must share their first axis, got the sizes {sorted(sizes)}.")
    return sizes.pop()


def constant(items: PyTree) -> Float[Array, " item"]:
    """Score every item 1: no item matters more.

    Args:
        items: Arrays that share their first axis.

    Returns:
        Ones.
    """
    return jnp.ones(_count(items))


def own_loss(
    items: Items, loss_fn: Callable[[Items], Float[Array, " item"]]
) -> Float[Array, " item"]:
    """Score an item by the loss the learner has on it.

    Args:
        items: Arrays that share their first axis.
        loss_fn: Items to per-item losses, not yet reduced.

    Returns:
        The losses; no gradient flows through.

    Raises:
        ValueError: ``loss_fn`` did not return one number an item.
    """
    losses = loss_fn(items)
    if losses.shape != (_count(items),):
        raise ValueError(
            f"loss_fn must return one loss an item, shape ({_count(items)},), got {losses.shape}."
        )
    return jax.lax.stop_gradient(losses)


def episode_return(
    rewards: Float[Array, " step"], lengths: Int[Array, " episode"], discount: int | float = 1.0
) -> Float[Array, " episode"]:
    """Score an episode by its return, ``Σ_t γ^t r_t``.

    Args:
        rewards: All episodes end to end; steps behind the last episode are ignored.
        lengths: Steps of each episode, >= 0.
        discount: ``γ`` in [0, 1].

    Returns:
        One return an episode, 0 for an empty one.
    """
    ends = jnp.cumsum(lengths)
    step = jnp.arange(rewards.shape[0])
    episode = jnp.searchsorted(ends, step, side="right")
    inside = episode < lengths.shape[0]
    first = (ends - lengths)[jnp.where(inside, episode, 0)]
    gain = jnp.power(jnp.float32(discount), (step - first).astype(rewards.dtype))
    discounted = jnp.where(inside, gain * jnp.where(inside, rewards, 0.0), 0.0)
    return jax.ops.segment_sum(discounted, episode, lengths.shape[0], indices_are_sorted=True)


SCORES: Mapping[str, Callable[..., Array]] = MappingProxyType(
    {
        "constant": constant,
        "own_loss": own_loss,
        "episode_return": episode_return,
        "gradient_norm": gradient_norm,
        "influence": influence,
    }
)
"""Every score by the name that configs use."""
