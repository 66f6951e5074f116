"""Pytrees on disk: safetensors, written atomically, read into a template of the same structure."""

from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from safetensors.numpy import save_file

from steelyard.files import read_tensors, replacing

Tree = TypeVar("Tree")


def save_tree(path: Path, tree: object, metadata: dict[str, str] | None = None) -> None:
    """Write every array of a pytree, named by its path in the tree.

    The file appears whole or not at all: a kill while writing leaves the previous one.

    Args:
        path: Target file, customarily ``*.safetensors``.
        tree: Any pytree; leaves that are no arrays are not kept.
        metadata: Strings to keep beside the arrays.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named_arrays(tree)}
    with replacing(path) as draft:
        save_file(arrays, draft, metadata=metadata)


def load_tree(path: Path, like: Tree) -> Tree:
    """Read a pytree written by :func:`save_tree`.

    Args:
        path: The file.
        like: A tree of the wanted structure; its arrays, or the shapes in their place
            (``equinox.filter_eval_shape``), say what is wanted, its other leaves are kept.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file is damaged, or an array is missing or has another shape or type;
            names array, file and both.
    """
    stored = read_tensors(path)
    arrays, rest = eqx.partition(like, _is_kept)
    named = _named_arrays(like)
    leaves = []
    for name, leaf in named:
        if name not in stored:
            raise ValueError(f"{path} has no array {name!r}; it holds {sorted(stored)[:8]} …")
        value = stored[name]
        if value.shape != leaf.shape or value.dtype != leaf.dtype:
            raise ValueError(
                f"{path}: array {name!r} is {value.dtype}{list(value.shape)}, "
                f"expected {leaf.dtype}{list(leaf.shape)}"
            )
        leaves.append(jax.numpy.asarray(value))
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)


def _named_arrays(tree: object) -> list[tuple[str, Any]]:
    flat, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, _is_kept))
    return [(jax.tree_util.keystr(path), _as_array(leaf)) for path, leaf in flat]


def _is_kept(leaf: Any) -> bool:
    return eqx.is_array_like(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else np.asarray(leaf)


def take_run(tree: Tree, index: int | slice) -> Tree:
    """One run's slice of a group's stacked pytree, or that of several."""
    return jax.tree.map(lambda x: x[index] if eqx.is_array(x) else x, tree)


def stack_runs(trees: list[Tree]) -> Tree:
    """A group's stacked pytree from one pytree per run."""
    return jax.tree.map(lambda *xs: jax.numpy.stack(xs) if eqx.is_array(xs[0]) else xs[0], *trees)
