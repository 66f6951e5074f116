"""Batches of other libraries as plain rows, without importing those libraries.

A batch is anything with ``.items()``: a dictionary, nested or with tuple keys, or a tensordict.
Its arrays are anything with ``.detach().cpu().numpy()`` (torch) or ``__array__`` (NumPy, JAX).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from steelyard.data.findings import DatasetError
from steelyard.data.rules import bound_findings
from steelyard.types import EnvSpec

Key = str | tuple[str, ...]
KeyMap = Mapping[str, Key]

_ACCEPTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "observation": (("observation",),),
    "action": (("action",),),
    "next_observation": (("next", "observation"), ("next_observation",)),
    "terminated": (("next", "terminated"), ("terminated",)),
}


class Rows(NamedTuple):
    """Steps as NumPy arrays, actions in ``[-1, 1]``."""

    observation: Float32[np.ndarray, "batch obs"]
    action: Float32[np.ndarray, "batch act"]
    terminated: Bool[np.ndarray, "batch"]
    next_observation: Float32[np.ndarray, "batch obs"]


def to_numpy(value: Any) -> np.ndarray:
    """Convert an array of any library to NumPy.

    Raises:
        TypeError: It is not an array of numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array must hold numbers; got {type(value).__name__} of {array.dtype}")
    return array


def flatten(batch: Any) -> dict[tuple[str, ...], Any]:
    """Flatten a nested batch to ``{("next", "observation"): array, …}``."""
    return dict(_leaves(batch, ()))


def is_batch(value: Any) -> bool:
    """Whether ``value`` maps names to arrays: it has ``.items()`` and ``.keys()``."""
    return hasattr(value, "items") and hasattr(value, "keys")


def rows_of(batch: Any, key_map: KeyMap | None, env_spec: EnvSpec | None, normalised: bool) -> Rows:
    """Read the four columns of a batch, check them and normalise the actions.

    Args:
        batch: The batch; leading axes beyond the first are flattened.
        key_map: The batch's key for each of our names that it calls otherwise.
        env_spec: The task; needed unless ``normalised``.
        normalised: Whether the actions are in ``[-1, 1]`` already.

    Returns:
        The rows. ``terminated`` is false throughout where the batch has no such column and the
        task is not known to terminate.

    Raises:
        DatasetError: A key is missing, the lengths or sizes disagree, a row is not finite, an
            action is out of bounds, or o' equals o on every row.
    """
    if not is_batch(batch):
        raise DatasetError(
            f"a demonstration source must return mappings of arrays; got {type(batch).__name__}"
        )
    leaves = flatten(batch)
    found = _find_columns(leaves, key_map or {}, env_spec)
    observation = _vectors(leaves[found["observation"]])
    action = _vectors(leaves[found["action"]])
    after = _vectors(leaves[found["next_observation"]])
    if "terminated" in found:
        terminated = to_numpy(leaves[found["terminated"]]).reshape(-1).astype(bool)
    else:
        terminated = np.zeros(len(observation), bool)
    _check_shapes(observation, action, after, terminated, env_spec)
    _check_values(observation, action, after)
    if normalised:
        size = action.shape[1]
        box = EnvSpec("the learner", observation.shape[1], (-1.0,) * size, (1.0,) * size, 1, True)
        units = "normalised"
    else:
        assert env_spec is not None
        box, units = env_spec, "env"
    rows = np.array([len(action)])
    for finding in bound_findings(action, rows, box, units):
        hint = " together with `env_spec=`" if env_spec is None else ""
        raise DatasetError(f"demonstration source: {finding.message}{hint}")
    action = np.clip(box.to_learner_units(action), -1, 1)
    return Rows(observation, action, terminated, after)


def _leaves(batch: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in batch.items():
        here = (*path, *(name if isinstance(name, tuple) else (str(name),)))
        if is_batch(value):
            yield from _leaves(value, here)
        else:
            yield here, value


def _find_columns(
    leaves: Mapping[tuple[str, ...], Any], key_map: KeyMap, env_spec: EnvSpec | None
) -> dict[str, tuple[str, ...]]:
    """Find the key of each column: the one of ``key_map``, else the usual ones."""
    unknown = sorted(set(key_map) - set(_ACCEPTED))
    if unknown:
        raise DatasetError(f"key_map: unknown names {unknown}; legal: {sorted(_ACCEPTED)}")
    wanted: dict[str, tuple[tuple[str, ...], ...]] = dict(_ACCEPTED)
    for name, key in key_map.items():
        wanted[name] = (key if isinstance(key, tuple) else (key,),)
    found = {}
    for name, keys in wanted.items():
        present = [key for key in keys if key in leaves]
        if present:
            found[name] = present[0]
    optional = env_spec is None or not env_spec.can_terminate
    needed = [name for name in wanted if not (name == "terminated" and optional)]
    if "terminated" in key_map:
        needed = list(wanted)
    missing = [name for name in needed if name not in found]
    if missing:
        keys = ", ".join(sorted(_name(key) for key in leaves)) or "no keys"
        raise DatasetError(
            f"a demonstration source must give {_shown(wanted, needed)}; missing {missing}; found "
            f"{keys}. Name the source's own keys with, e.g., "
            f"key_map={{{missing[0]!r}: 'its_key'}}"
        )
    return found


def _shown(wanted: Mapping[str, tuple[tuple[str, ...], ...]], needed: list[str]) -> str:
    return ", ".join(" or ".join(_name(key) for key in wanted[name]) for name in needed)


def _name(key: tuple[str, ...]) -> str:
    return repr(key[0]) if len(key) == 1 else repr(key)


def _vectors(value: Any) -> np.ndarray:
    array = to_numpy(value).astype(np.float32)
    return array[:, None] if array.ndim == 1 else array.reshape(-1, array.shape[-1])


def _check_shapes(
    observation: np.ndarray,
    action: np.ndarray,
    after: np.ndarray,
    terminated: np.ndarray,
    env_spec: EnvSpec | None,
) -> None:
    lengths = {
        "observation": len(observation),
        "action": len(action),
        "next_observation": len(after),
        "terminated": len(terminated),
    }
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"demonstration source: the lengths must agree; got {lengths}")
    if observation.shape != after.shape:
        raise DatasetError(
            "demonstration source: observation and next_observation must have one size; got "
            f"{observation.shape[1]} and {after.shape[1]}"
        )
    if env_spec is not None:
        got = observation.shape[1], action.shape[1]
        legal = env_spec.observation_size, env_spec.action_size
        if got != legal:
            raise DatasetError(
                f"demonstration source: sizes of (observation, action) are {got}; "
                f"{env_spec.id} has {legal}"
            )


def _check_values(observation: np.ndarray, action: np.ndarray, after: np.ndarray) -> None:
    columns = {"observation": observation, "action": action, "next_observation": after}
    for name, values in columns.items():
        bad: np.ndarray = ~np.isfinite(values).all(axis=1)  # pyright: ignore
        if bad.any():
            row = int(np.argmax(bad))
            raise DatasetError(
                f"demonstration source: `{name}` must be finite; row {row} is {values[row]} "
                f"({int(bad.sum())} of {len(bad)} rows are not)"
            )
    moving = len(observation) > 1 and bool(np.any(observation != observation[:1]))
    if moving and np.array_equal(observation, after):
        raise DatasetError(
            "demonstration source: next_observation equals observation on every row, which is the "
            "reference collector's off-by-one. A batch without episode ends cannot be repaired: "
            "export the whole buffer to .npz (docs/coming-from.md) and load that"
        )
