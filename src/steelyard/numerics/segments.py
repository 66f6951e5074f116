"""Pieces of episodes in a rollout, ``[time, env]``: which row belongs to which, and their sums.

The one place where a rollout is laid out flat: :func:`flatten` is used for every array, so scores,
masks and labels can never disagree about the order of items.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Tree = TypeVar("Tree")
Flags = Bool[Array, "time env"]


def flatten(tree: Tree) -> Tree:
    """Lay rows out as items, ``[time, env, ...] -> [time * env, ...]``, time-major."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def halves(tree: Tree, envs: int) -> tuple[Tree, Tree]:
    """Part items, time-major, into those of the first half of the environments and the rest.

    Args:
        tree: Arrays ``[time * env, ...]``.
        envs: How many environments there are, at least 2.
    """

    def part(x: Array, chosen: slice) -> Array:
        own = x.reshape(-1, envs, *x.shape[1:])[:, chosen]
        return own.reshape(-1, *x.shape[1:])

    middle = envs // 2
    first = jax.tree.map(lambda x: part(x, slice(middle)), tree)
    return first, jax.tree.map(lambda x: part(x, slice(middle, None)), tree)


def rejoin(parts: tuple[Array, Array], envs: int) -> Array:
    """Put what :func:`halves` has parted, one value an item, back together."""
    middle = envs // 2
    first, second = parts[0].reshape(-1, middle), parts[1].reshape(-1, envs - middle)
    return jnp.concatenate([first, second], axis=1).reshape(-1)


def segment_ids(ended: Flags) -> Int[Array, "time env"]:
    """Number the pieces of episodes; rows of one piece share its number.

    Args:
        ended: The episode ended in this step, for whichever reason.

    Returns:
        ``env * (time + 1) + ends before the row``: distinct over environments, all below
        :func:`segment_count`.
    """
    time, envs = ended.shape
    before = jnp.cumsum(ended, axis=0) - ended
    return before.astype(jnp.int32) + (time + 1) * jnp.arange(envs, dtype=jnp.int32)[None]


def segment_count(time: int, envs: int) -> int:
    """How many numbers :func:`segment_ids` may give; some stay without rows."""
    return envs * (time + 1)


def outcomes(
    success: Flags, ended: Flags, valid: Flags, end_values: Float[Array, " env"]
) -> tuple[Float[Array, "time env"], Flags]:
    """Say of every row how its piece of an episode came out.

    Args:
        success: The task was solved in this step.
        ended: The episode ended in this step.
        valid: Rows that count; others neither succeed nor fail.
        end_values: Value of where each environment stands after the last row.

    Returns:
        The signal: 1 where the piece holds a success, 0 where it ended without one, and the value
        of where it stands, clipped to ``[0, 1]``, where the rollout cut it; and where the outcome
        is known, that is, not cut.
    """
    time, envs = ended.shape
    ids, count = segment_ids(ended).reshape(-1), segment_count(time, envs)

    def any_of(flags: Flags) -> Flags:
        found = jax.ops.segment_max(flags.reshape(-1).astype(jnp.int32), ids, count)
        return (found[ids] > 0).reshape(time, envs)

    solved, over = any_of(success & valid), any_of(ended)
    expected = jnp.broadcast_to(jnp.clip(end_values, 0.0, 1.0)[None], (time, envs))
    signal = jnp.where(solved, 1.0, jnp.where(over, 0.0, expected))
    return jnp.where(valid, signal, 0.0), (solved | over) & valid


def sum_by_segment(
    values: Float[Array, " item"], ids: Int[Array, " item"], count: int
) -> Float[Array, " item"]:
    """Give every item the sum over its piece, e.g. the influence of a trajectory."""
    return jax.ops.segment_sum(values, ids, count)[ids]
