"""Checks of a tail's settings on the host, with errors in the words of a config file.

A configuration is checked before data are loaded; a traced setting has no value to check.
"""

import math
from typing import Any

from steelyard.emphasis.checks import is_concrete


def _place(where: str) -> str:
    return f" ({where})" if where else ""


def require_alpha(alpha: Any, where: str = "", name: str = "rollout_cvar.alpha") -> None:
    """Refuse a tail share outside ``(0, 1]``.

    Args:
        alpha: What was given; a tracer passes.
        where: The file or command it came from, for the message.
        name: The setting in the user's words.

    Raises:
        ValueError: It is outside, NaN, or no number.
    """
    if not is_concrete(alpha):
        return
    try:
        number = math.nan if isinstance(alpha, str | bool) else float(alpha)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {alpha}{_place(where)}")


def require_min_k(
    min_k: int | float, units: int, unit: str, where: str = "", name: str = "rollout_cvar.min_k"
) -> None:
    """Refuse a least tail size below one or above what a batch holds.

    Args:
        min_k: Least number of items, or groups, in the tail.
        units: Items, or groups, in a batch.
        unit: What they are called, e.g. ``"groups"``.
        where: The file or command it came from, for the message.
        name: The setting in the user's words.

    Raises:
        ValueError: It is no whole number in ``[1, units]``.
    """
    if int(min_k) != min_k or not 1 <= min_k <= units:
        raise ValueError(
            f"{name} must be a whole number between 1 and the {units} {unit} of a batch, "
            f"got {min_k}{_place(where)}"
        )


def small_tail_warning(
    alpha: float, units: int, unit: str = "batch_size", where: str = ""
) -> str | None:
    """Return one line of warning where the tail holds less than one item, else nothing.

    Args:
        alpha: Tail share in (0, 1].
        units: Items, or groups, in a batch.
        unit: The setting that gives their number.
        where: The file or command it came from, for the message.

    Returns:
        The line, or ``None`` where ``alpha * units >= 1``.
    """
    if alpha * units >= 1 - 1e-6:
        return None
    return (
        f"rollout_cvar: tail of one item, alpha * {unit} = {alpha:g} * {units} = "
        f"{alpha * units:g} < 1; raise {unit} to >= {math.ceil(1 / alpha - 1e-6)}{_place(where)}"
    )
