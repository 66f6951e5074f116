"""Small operations on pytrees of parameters."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Tree = TypeVar("Tree")


def polyak_update(target: Tree, source: Tree, rate: float | Float[Array, ""]) -> Tree:
    """Move ``target`` towards ``source``: ``target + rate * (source - target)``, leaf by leaf.

    Args:
        target: Slowly moving copy.
        source: Parameters to follow, of the same structure.
        rate: Share of the way to go, in ``[0, 1]``.
    """
    arrays, static = eqx.partition(target, eqx.is_inexact_array)
    source_arrays = eqx.filter(source, eqx.is_inexact_array)
    moved = jax.tree.map(lambda t, s: t + rate * (s - t), arrays, source_arrays)
    return eqx.combine(moved, static)


def select(condition: Bool[Array, ""], if_true: Tree, if_false: Tree) -> Tree:
    """Choose between two trees of the same structure, leaf by leaf."""
    chosen = jax.tree.map(
        lambda a, b: jnp.where(condition, a, b),
        eqx.filter(if_true, eqx.is_array),
        eqx.filter(if_false, eqx.is_array),
    )
    return eqx.combine(chosen, eqx.filter(if_true, eqx.is_array, inverse=True))


def minibatch(tree: Tree, index: int, count: int) -> Tree:
    """Cut every array along its first axis into ``count`` equal parts and take one of them.

    Arrays may differ in length; rows that do not fill a part are left over.

    Args:
        tree: Arrays that lead with a batch axis.
        index: Which part, below ``count``.
        count: Number of parts.
    """

    def cut(x: Array) -> Array:
        rows = x.shape[0] // count
        return x[index * rows : (index + 1) * rows]

    return jax.tree.map(cut, tree)
