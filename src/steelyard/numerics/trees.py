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


def all_finite(tree: object) -> Bool[Array, ""]:
    """Whether every inexact array in the tree holds finite numbers only."""
    leaves = [x for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves] or [jnp.array(True)]).all()
