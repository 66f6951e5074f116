"""The figure that compares two arms at every quantile: who wins the median, who wins the tail."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from steelyard.numerics.log_ratios import Band, quantile_ratio_band
from steelyard.reports import theme as themes
from steelyard.reports.scales import ratio_ticks
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme
from steelyard.reports.words import number

LEVELS = tuple(percent / 100 for percent in range(5, 100))
TAIL_FROM = 0.8

Errors = Float[np.ndarray, "seed item"]
OtherErrors = Float[np.ndarray, "other_seed other_item"]


def ratio_band(method: Errors, baseline: OtherErrors) -> Band:
    """Ratio of the arms at the 5th to 99th percentile, geometric mean over seeds, with its band."""
    return quantile_ratio_band(method, baseline, LEVELS, np.random.default_rng(0))


def quantile_ratio_figure(band: Band, baseline: str, method: str, theme: Theme = LIGHT) -> Figure:
    """Draw the ratio of two arms against the quantile; below 1 the method has the smaller error.

    Args:
        band: From :func:`ratio_band`, at ``LEVELS``.
        baseline: Name of the arm below the line.
        method: Name of the arm above it.
        theme: Light or dark.
    """
    if len(band.value) != len(LEVELS):
        raise ValueError(
            f"a quantile ratio has {len(LEVELS)} points (5 … 99 %), got {len(band.value)}"
        )
    levels, colour = np.asarray(LEVELS), theme.palette[0]
    figure = themes.new_figure(7.2, 4.2, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme)
    axes.set_yscale("log")
    axes.axvspan(TAIL_FROM, levels[-1], color=theme.grid, alpha=0.55, linewidth=0, zorder=0)
    axes.axhline(1.0, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.fill_between(levels, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(levels, band.value, color=colour, linewidth=2.2)
    reach = max(float(np.max(band.high)), 1 / float(np.min(band.low)), 1.1) ** 1.08
    axes.set_ylim(1 / reach, reach)
    axes.set_xlim(levels[0], levels[-1])
    axes.annotate(
        "worst 20 %",
        ((TAIL_FROM + levels[-1]) / 2, 0.02),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        fontsize=SMALL,
        color=theme.muted,
    )
    axes.xaxis.set_major_locator(FixedLocator((0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    ratio_ticks(axes.yaxis)
    axes.set_xlabel("Quantile of the error", fontsize=NORMAL, color=theme.muted)
    axes.set_ylabel(f"{method} / {baseline}", fontsize=NORMAL, color=theme.muted)
    themes.heading(
        axes,
        theme,
        f"{method} against {baseline} at every quantile",
        "Below × 1 the method errs less.  Band: 95 % interval over seeds and cases.",
    )
    return figure


def quantile_ratio_alt(band: Band, baseline: str, method: str) -> str:
    """Say the quantile ratios in words, at four of them."""
    texts = []
    for percent in (10, 50, 80, 95):
        place = percent - 5
        texts.append(
            f"{number(band.value[place], 2)} [{number(band.low[place], 2)}, "
            f"{number(band.high[place], 2)}] at {percent} %"
        )
    return f"Curve of the ratio {method} / {baseline} over quantiles: {', '.join(texts)}."
