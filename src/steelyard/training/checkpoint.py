"""Pytrees on disk: safetensors, written atomically, read into a template of the same structure."""

import os
from pathlib import Path
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
from safetensors.numpy import load_file, save_file

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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    save_file(arrays, temporary, metadata=metadata)
    os.replace(temporary, path)


def load_tree(path: Path, like: Tree) -> Tree:
    """Read a pytree written by :func:`save_tree`.

    Args:
        path: The file.
        like: A tree of the wanted structure; its arrays give shapes and types, its other leaves
            are kept.

    Raises:
        ValueError: An array is missing or has another shape or type; names array, file and both.
    """
    stored = load_file(path)
    arrays, rest = eqx.partition(like, eqx.is_array_like)
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


def _named_arrays(tree: object) -> list[tuple[str, np.ndarray]]:
    arrays = eqx.filter(tree, eqx.is_array_like)
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    return [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in flat]


def take_run(tree: Tree, index: int | slice) -> Tree:
    """One run's slice of a group's stacked pytree, or that of several."""
    return jax.tree.map(lambda x: x[index] if eqx.is_array(x) else x, tree)


def stack_runs(trees: list[Tree]) -> Tree:
    """A group's stacked pytree from one pytree per run."""
    return jax.tree.map(lambda *xs: jax.numpy.stack(xs) if eqx.is_array(xs[0]) else xs[0], *trees)
