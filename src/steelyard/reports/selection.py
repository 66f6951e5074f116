"""The figure of an emphasis at work: how often each item of the training data was selected."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from steelyard.reports import theme as themes
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme

MOST_SELECTED = 20

Counts = Int[np.ndarray, " item"]


def selection_figure(counts: Counts, item: str, theme: Theme = LIGHT) -> Figure:
    """Draw the selection counts of all items, the most selected first.

    The dashed line is what each would get if all were selected alike; the shaded part holds the
    20 most selected, which deserve a look: a fault of the data draws the tail to itself.

    Args:
        counts: How often each item was selected.
        item: What an item is, in the plural, e.g. ``"trajectories"``.
        theme: Light or dark.
    """
    ordered = _ordered(counts)
    figure = themes.new_figure(7.2, 3.8, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme)
    rank, top = np.arange(1, len(ordered) + 1), min(MOST_SELECTED, len(ordered))
    axes.axvspan(0.5, top + 0.5, color=theme.grid, alpha=0.55, linewidth=0, zorder=0)
    axes.fill_between(rank, ordered, step="mid", color=theme.palette[0], alpha=0.3, linewidth=0)
    axes.step(rank, ordered, where="mid", color=theme.palette[0], linewidth=1.6)
    axes.axhline(ordered.mean(), color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xlim(0.5, len(ordered) + 0.5)
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(FuncFormatter(themes.tick_text))
    axes.set_xlabel(f"{themes.sentence(item)}, by rank", fontsize=NORMAL, color=theme.muted)
    axes.set_ylabel("Times selected", fontsize=NORMAL, color=theme.muted)
    axes.annotate(
        f"the first {top} hold {_share(ordered, top):.0f} %",
        (top + 0.5, 0.95),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        va="top",
        fontsize=SMALL,
        color=theme.ink,
    )
    themes.heading(
        axes, theme, f"Which {item} were selected", "Dashed: all alike.  Shaded: the most selected."
    )
    return figure


def selection_alt(counts: Counts, item: str, names: Sequence[str] | None = None) -> str:
    """Say the selection counts in words: the share of the first 20 and, named, the first three."""
    ordered = _ordered(counts)
    top = min(MOST_SELECTED, len(ordered))
    text = (
        f"Ranked selection counts of {len(ordered)} {item}: the {top} most selected hold "
        f"{_share(ordered, top):.0f} %, {int((ordered == 0).sum())} were never selected."
    )
    if names is None:
        return text
    first = [f"{names[i]} ({counts[i]})" for i in np.argsort(-counts, kind="stable")[:3]]
    return f"{text} Most selected: {', '.join(first)}."


def _ordered(counts: Counts) -> Counts:
    if not len(counts) or counts.min() < 0 or counts.sum() == 0:
        raise ValueError(
            "selection counts must be >= 0 and not all 0, got "
            + ("none" if not len(counts) else f"{counts.min()} to {counts.max()}")
        )
    return -np.sort(-counts)


def _share(ordered: Counts, top: int) -> float:
    return 100 * float(ordered[:top].sum()) / float(ordered.sum())
