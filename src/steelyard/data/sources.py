"""How batches are got out of a foreign source: followed, drawn from, or copied whole."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError
from steelyard.data.foreign import flatten, is_batch, to_numpy

_SIZE_NAMES = ("batch_size", "size", "n", "num", "num_samples", "sample_size")


def is_table(source: Any) -> bool:
    """Whether ``source`` is a mapping of arrays, and not something that samples."""
    return is_batch(source) and not hasattr(source, "sample")


def innermost(source: Any) -> Any:
    """Follow ``.buffer`` to what samples, or to a mapping where nothing on the way samples."""
    inner = getattr(source, "buffer", None)
    if inner is None or inner is source:
        return source
    deepest = innermost(inner)
    if isinstance(deepest, Demonstrations) or hasattr(deepest, "sample"):
        return deepest
    # A mapping under something that samples is its storage, which may be filled in part only.
    return deepest if is_table(deepest) and not hasattr(source, "sample") else source


def drawer_of(source: Any) -> Callable[[int], Any] | None:
    """Return how to get the next batch of a wanted size, ``None`` if the source cannot give one."""
    if isinstance(source, Demonstrations) or is_table(source):
        return None
    if hasattr(source, "sample"):
        sample = source.sample
        return (lambda size: sample(size)) if _takes_size(sample) else (lambda size: sample())
    if hasattr(source, "__next__") or (
        hasattr(source, "__iter__") and not hasattr(source, "__getitem__")
    ):
        batches = _cycle(source)
        return lambda size: next(batches)
    return None


def _takes_size(sample: Callable[..., Any]) -> bool:
    """Whether ``sample`` can be told how many steps to draw."""
    try:
        parameters = list(inspect.signature(sample).parameters.values())
    except ValueError:  # a builtin without a signature
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    return bool(positional) and (
        positional[0].name in _SIZE_NAMES or positional[0].default is inspect.Parameter.empty
    )


def _cycle(source: Any) -> Iterator[Any]:
    """Yield batches for ever from what can be iterated again, else until it is dry."""
    while True:
        count = 0
        for batch in source:
            count += 1
            yield batch
        if count == 0 or hasattr(source, "__next__"):
            raise DatasetError(
                f"the demonstration iterator {type(source).__name__} has run dry; give an iterable "
                "that can be started again, or one without end"
            )


def copy_whole(source: Any) -> Any:
    """Copy a source with length and indexing: as one slice if it gives a batch, else by item."""
    if len(source) == 0:
        raise DatasetError(f"the demonstration source {type(source).__name__} is empty")
    try:
        whole = source[:]
    except (TypeError, KeyError, IndexError):
        whole = None
    if is_batch(whole):
        return whole
    items = [source[index] for index in range(len(source))]
    strange = [item for item in items if not is_batch(item)]
    if strange:
        raise DatasetError(
            "the items of a demonstration source must be mappings of arrays; got "
            f"{type(strange[0]).__name__}"
        )
    columns = [{key: to_numpy(x) for key, x in flatten(item).items()} for item in items]
    shared = set.intersection(*map(set, columns))
    return {key: _join([column[key] for column in columns]) for key in shared}


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """Stack items of one shape (steps, or batches of one size); join batches of several sizes."""
    alike = len({part.shape for part in parts}) == 1
    return np.stack(parts) if alike else np.concatenate(parts)
