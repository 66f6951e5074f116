"""The figure of tails: how often the error exceeds a threshold, over all thresholds."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from steelyard.numerics.log_ratios import exceedance_band
from steelyard.reports import theme as themes
from steelyard.reports.scales import decimal_ticks
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme

_POINTS = 120
_DRAWS = 1_000

Arms = Mapping[str, Float[np.ndarray, "_seed _item"]]


def exceedance_figure(arms: Arms, heading: str, theme: Theme = LIGHT) -> Figure:
    """Draw ``P(error > threshold)`` of each arm, both scales logarithmic so that the tail shows.

    Lines are means over seeds and items, bands 95 % intervals of the hierarchical bootstrap. An
    infinite error exceeds every threshold: its line ends above 0.

    Args:
        arms: Errors ``[seed, item]`` by the arm's title, in the order of their colours.
        heading: Label of the thresholds, with the unit.
        theme: Light or dark.
    """
    thresholds, least = _range(arms)
    figure = themes.new_figure(7.2, 4.6, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme, grid="both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for place, (title, errors) in enumerate(arms.items()):
        colour = theme.palette[place % len(theme.palette)]
        band = exceedance_band(errors, thresholds, np.random.default_rng(0), draws=_DRAWS)
        shown = band.value > 0
        dashes = themes.DASHES[place % len(themes.DASHES)]
        axes.plot(
            thresholds[shown], band.value[shown], color=colour, linewidth=2, linestyle=dashes,
            label=title, zorder=3,
        )  # fmt: skip
        low = np.maximum(band.low, least)
        axes.fill_between(
            thresholds, low, np.maximum(band.high, least), color=colour, alpha=0.16, linewidth=0
        )
    axes.set_ylim(least, 1.15)
    axes.set_xlim(thresholds[0], thresholds[-1])
    decimal_ticks(axes.xaxis)
    decimal_ticks(axes.yaxis, "%")
    axes.set_xlabel(heading, fontsize=NORMAL, color=theme.muted)
    axes.set_ylabel("Share of cases above it", fontsize=NORMAL, color=theme.muted)
    themes.heading(
        axes,
        theme,
        "How often the error is larger than …",
        "Line: mean over seeds.  Band: 95 % interval over seeds and cases.",
    )
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=theme.ink, loc="lower left")
    return figure


def exceedance_alt(arms: Arms, heading: str) -> str:
    """Say the exceedance figure in words: the errors that 50, 20, 5 and 1 % of cases exceed."""
    parts = [f"Curves of the share of cases in which {heading} exceeds a threshold."]
    for title, errors in arms.items():
        levels = np.sort(errors.ravel())
        texts = []
        for share in (0.5, 0.2, 0.05, 0.01):
            place = min(int(np.ceil((1 - share) * len(levels))) - 1, len(levels) - 1)
            texts.append(f"{100 * share:g} % above {levels[max(place, 0)]:.3g}")
        parts.append(f"{title}: {', '.join(texts)}.")
    return " ".join(parts)


def _range(arms: Arms) -> tuple[Float[np.ndarray, " point"], float]:
    """Thresholds from the first percentile to beyond the largest error, and the least share."""
    if not arms:
        raise ValueError("an exceedance figure needs at least one arm, got none")
    errors = np.concatenate([values.ravel() for values in arms.values()])
    errors = errors[np.isfinite(errors) & (errors > 0)]
    if not len(errors):
        raise ValueError("an exceedance figure needs finite errors above 0, got none")
    low, high = np.quantile(errors, 0.01), 1.05 * errors.max()
    least = 0.5 / max(values.shape[1] for values in arms.values())
    return np.geomspace(min(low, high / 2), high, _POINTS), least
