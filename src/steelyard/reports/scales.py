"""Logarithmic scales that can be read: ticks at 1, 2 and 5, written as plain numbers."""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

_RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1.0)


def decimal_ticks(axis: Axis, unit: str = "") -> None:
    """Set ticks at 1, 2 and 5 times the powers of ten of a logarithmic axis.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        unit: ``"%"`` writes shares in percent; otherwise nothing is added.
    """
    factor, suffix = (100, " %") if unit == "%" else (1, "")
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if np.log10(high / low) < 3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{factor * x:.6g}{suffix}"))
    axis.set_minor_locator(NullLocator())


def ratio_ticks(axis: Axis) -> None:
    """Set ticks of a logarithmic axis at plain ratios and their inverses, e.g. ``× 0.8``."""
    low, high = axis.get_view_interval()
    ratios = sorted({*_RATIOS, *(round(1 / r, 2) for r in _RATIOS)})
    shown = [r for r in ratios if low <= r <= high]
    if len(shown) > 9:  # near 1 they would overlap
        shown = [r for r in shown if not 0.6 < r < 1.6 or r == 1.0]
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"× {x:g}"))
    axis.set_minor_locator(NullLocator())
