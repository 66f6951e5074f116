"""Checks of values, made on the host, where values are known.

Under ``jit`` there are no values to look at, so these functions pass tracers through in silence. A
loop that weights inside a compiled program calls :meth:`Weighting.check` (or
:func:`require_nonnegative`) on the scores it has on the host, for instance once after each scoring.
"""

from typing import Any, TypeAlias

import jax
import jax.core
import numpy as np
from jaxtyping import Array, Bool, Float

Scalar: TypeAlias = int | float | Float[Array, ""]
"""A number of an option: a Python number, or a scalar array where it is traced or annealed."""


def is_concrete(*values: Any) -> bool:
    """Return whether no argument is a tracer, so that all values can be looked at."""
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def require_range(
    place: str, value: Scalar, low: int | float, high: int | float, low_open: bool = False
) -> None:
    """Refuse an option outside ``[low, high]``, or ``(low, high]`` with ``low_open``.

    Args:
        place: The option in the user's words, e.g. ``"Tail.alpha"``.
        value: What was given; a tracer passes.
        low: Least legal value.
        high: Largest legal value; may be infinite.
        low_open: Whether ``low`` itself is illegal.

    Raises:
        ValueError: The value is outside, or is NaN.
    """
    if not is_concrete(value):
        return
    number = float(value)
    inside = (low < number if low_open else low <= number) and number <= high
    if not inside:
        bracket = "(" if low_open else "["
        raise ValueError(f"{place} must be in {bracket}{low:g}, {high:g}], got {number:g}.")


def _first(wrong: np.ndarray, values: np.ndarray) -> str:
    item = int(np.argmax(wrong))
    return f"{int(wrong.sum())} of {wrong.size} do not, the first at item {item}: {values[item]:g}"


def require_numbers(
    scores: Float[Array, " item"], valid: Bool[Array, " item"] | None = None, place: str = "scores"
) -> None:
    """Refuse NaN among the valid scores.

    Args:
        scores: One score an item; infinities pass.
        valid: Which items count; ``None`` = all.
        place: What the message calls them.

    Raises:
        ValueError: A valid score is NaN. Tracers pass.
    """
    if not is_concrete(scores, valid):
        return
    values = np.asarray(scores)
    wrong = np.isnan(values) & (True if valid is None else np.asarray(valid))
    if wrong.any():
        raise ValueError(f"{place} must be numbers on every valid item; {_first(wrong, values)}.")


def require_nonnegative(
    scores: Float[Array, " item"], valid: Bool[Array, " item"] | None = None, place: str = "scores"
) -> None:
    """Refuse NaN and negative scores among the valid ones.

    Args:
        scores: One score an item.
        valid: Which items count; ``None`` = all.
        place: What the message calls them.

    Raises:
        ValueError: A valid score is negative or NaN. Tracers pass: call this on the host.
    """
    require_numbers(scores, valid, place)
    if not is_concrete(scores, valid):
        return
    values = np.asarray(scores)
    wrong = (values < 0) & (True if valid is None else np.asarray(valid))
    if wrong.any():
        raise ValueError(
            f"{place} must be non-negative on every valid item; {_first(wrong, values)}. "
            "Signed scores (influence) go with 'rank', 'softmax', 'tail' or 'drop'."
        )


def require_base(valid: Bool[Array, " item"] | None, base: Float[Array, " item"] | None) -> None:
    """Refuse an empty valid set and a base that is no probability measure on it.

    Args:
        valid: Which items count; ``None`` = all.
        base: The base measure; ``None`` = uniform.

    Raises:
        ValueError: Nothing is valid, or the base is negative, not finite, positive on a masked
            item, or does not sum to 1 within 1e-4. Tracers pass.
    """
    if not is_concrete(valid, base):
        return
    if valid is not None and not np.asarray(valid).any():
        raise ValueError(f"at least one item must be valid, got 0 of {valid.shape[0]}.")
    if base is None:
        return
    values = np.asarray(base)
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        raise ValueError(f"base must be finite and non-negative; {_first(wrong, values)}.")
    if valid is not None and (values[~np.asarray(valid)] > 0).any():
        wrong = (values > 0) & ~np.asarray(valid)
        raise ValueError(f"base must be 0 on masked items; {_first(wrong, values)}.")
    total = float(values.sum(dtype=np.float64))
    if abs(total - 1) > 1e-4:
        raise ValueError(f"base must sum to 1 within 1e-4, got {total:g}.")
