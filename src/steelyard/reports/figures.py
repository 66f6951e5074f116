"""The figures of a report about final values: bars over arms and lines over an axis.

Each function returns a ``matplotlib.figure.Figure`` of its own; pyplot's global state is untouched.
"""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from steelyard.numerics.statistics import Estimate
from steelyard.reports import theme as themes
from steelyard.reports.model import ArmSummary, Summary
from steelyard.reports.records import AxisValue
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme
from steelyard.reports.words import interval, number


def comparison_figure(summary: Summary, theme: Theme = LIGHT) -> Figure:
    """Draw a bar per arm: its mean, the 95 % interval and every seed as a dot.

    The raw metric stands in the label, mean and interval stand on the right.
    """
    spec, metric = summary.spec, summary.spec.primary
    figure = themes.new_figure(8.6, 1.5 + 0.58 * len(summary.arms), theme)
    axes = figure.add_subplot()
    themes.style(axes, theme, grid="x")
    for row, arm in enumerate(summary.arms):
        colour = themes.colour(spec, arm.arm, theme)
        _bar(axes, row, arm, metric.name, colour, theme)
        raw = arm.means[spec.raw_metric]
        raw_text = number(raw.value if raw else None, spec.raw.decimals)
        _beside(axes, 0, row, -10, 6, arm.title, theme.ink, NORMAL, "bold")
        _beside(axes, 0, row, -10, -7, f"{spec.raw.heading} {raw_text}", theme.muted, SMALL)
        estimate = arm.means[metric.name]
        value = number(estimate.value, metric.decimals) if estimate else "no value"
        _beside(axes, 1, row, 12, 6, value, theme.ink, NORMAL, "bold")
        below = interval(estimate, metric.decimals) if estimate and estimate.low is not None else ""
        if arm.diverged:
            below = f"{below}  {len(arm.diverged)} diverged".strip()
        _beside(axes, 1, row, 12, -7, below, theme.muted, SMALL)
    axes.use_sticky_edges = False  # else a level at 0 could lie on the edge
    axes.set_ylim(len(summary.arms) - 0.45, -0.55)
    axes.yaxis.set_major_locator(NullLocator())
    themes.levels(axes, spec.lines, theme, vertical=True)
    axes.set_xlabel(metric.heading, fontsize=NORMAL, color=theme.muted)
    themes.heading(
        axes,
        theme,
        f"{themes.sentence(metric.title)} of each arm",
        "Bar: mean over seeds.  Line: 95 % interval.  Dot: one seed.",
        above=14 if spec.lines else 0,
    )
    axes.xaxis.set_major_formatter(FuncFormatter(themes.tick_text))
    return figure


def axis_figure(summary: Summary, axis: str, theme: Theme = LIGHT) -> Figure:
    """Draw the primary metric against the values of an axis, a line per arm that has several.

    Other axes stay at their primary values. The values are on a logarithmic scale where they are
    positive numbers, evenly spaced otherwise.
    """
    spec, metric = summary.spec, summary.spec.primary
    series = _series(summary, axis)
    values = list(dict.fromkeys(arm.axes[axis] for arms in series.values() for arm in arms))
    numeric = [v for v in values if isinstance(v, int | float)]
    logarithmic = len(numeric) == len(values) and min(numeric) > 0
    values = sorted(values, key=lambda v: (isinstance(v, str), v))
    places = {v: math.log10(float(v)) if logarithmic else i for i, v in enumerate(values)}
    width = 0.012 * (max(places.values()) - min(places.values()) or 1)
    figure = themes.new_figure(7.2, 4.4, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme)
    for index, (name, arms) in enumerate(series.items()):
        dodge = 2 * (index - (len(series) - 1) / 2) * width
        colour = themes.colour(spec, name, theme)
        arms = sorted(arms, key=lambda arm: places[arm.axes[axis]])
        points = [(places[a.axes[axis]] + dodge, e) for a in arms if (e := a.means[metric.name])]
        x, y = [p for p, _ in points], [e.value for _, e in points]
        axes.plot(
            x, y, color=colour, linewidth=2, marker="o", markersize=6, label=spec.arm(name).title
        )
        for place, estimate in points:
            axes.vlines(place, *_ends(estimate), color=colour, linewidth=2.6, alpha=0.55)
        for arm in arms:
            seeds = list(arm.values[metric.name].values())
            place = places[arm.axes[axis]] + dodge + width * (0.9 if dodge >= 0 else -0.9)
            axes.plot([place] * len(seeds), seeds, "o", color=colour, markersize=2.6, alpha=0.6)
    axes.xaxis.set_major_locator(FixedLocator([places[v] for v in values]))
    axes.set_xticklabels([f"{v:,}" if isinstance(v, int) else str(v) for v in values])
    axes.margins(x=0.07)
    themes.levels(axes, spec.lines, theme, vertical=False)
    axes.set_xlabel(spec.axis_title(axis), fontsize=NORMAL, color=theme.muted)
    axes.set_ylabel(metric.heading, fontsize=NORMAL, color=theme.muted)
    themes.heading(
        axes,
        theme,
        f"{themes.sentence(metric.title)} against {spec.axis_title(axis).lower()}",
        "Point: mean over seeds.  Line: 95 % interval.  Small dot: one seed.",
    )
    axes.legend(frameon=False, fontsize=NORMAL, labelcolor=theme.ink, loc="best")
    return figure


def varying_axes(summary: Summary) -> list[str]:
    """Return the axes along which some arm has several values, the others being primary."""
    axes = sorted({axis for arm in summary.arms for axis in arm.axes})
    return [axis for axis in axes if _series(summary, axis)]


def _series(summary: Summary, axis: str) -> Mapping[str, list[ArmSummary]]:
    """Group by arm what varies along one axis alone."""
    primary = summary.spec.primary_axes
    groups: dict[str, list[ArmSummary]] = {}
    for arm in summary.arms:
        if axis in arm.axes and _others_primary(arm.axes, axis, primary):
            groups.setdefault(arm.arm, []).append(arm)
    return {name: arms for name, arms in groups.items() if len(arms) > 1}


def _others_primary(
    axes: Mapping[str, AxisValue], axis: str, primary: Mapping[str, AxisValue]
) -> bool:
    return all(primary.get(name) == value for name, value in axes.items() if name != axis)


def _bar(axes: Axes, row: int, arm: ArmSummary, metric: str, colour: str, theme: Theme) -> None:
    """Draw one arm of the comparison; the seeds keep their order from top to bottom."""
    estimate = arm.means[metric]
    if estimate is None:
        return
    axes.barh(
        row,
        estimate.value,
        height=0.62,
        color=themes.blend(colour, theme.surface, 0.32),
        linewidth=0,
    )
    seeds = list(arm.values[metric].values())
    spread = np.linspace(-0.2, 0.2, len(seeds)) if len(seeds) > 1 else np.zeros(1)
    axes.scatter(
        seeds, row + spread, s=22, color=colour, edgecolors=theme.surface, linewidths=0.7, zorder=4
    )
    axes.vlines(estimate.value, row - 0.31, row + 0.31, color=colour, linewidth=2)
    if estimate.low is not None and estimate.high is not None:
        axes.hlines(row, estimate.low, estimate.high, color=theme.ink, linewidth=1.6, zorder=3)


def _beside(
    axes: Axes, side: int, row: int, dx: int, dy: int, text: str, colour: str, size: float,
    weight: str = "normal",
) -> None:  # fmt: skip
    """Write a text left (side 0) or right (side 1) of a row, offset in points."""
    axes.annotate(
        text,
        (side, row),
        xycoords=("axes fraction", "data"),
        xytext=(dx, dy),
        textcoords="offset points",
        ha="left" if side else "right",
        va="center",
        color=colour,
        fontsize=size,
        fontweight=weight,
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    """Return the interval of an estimate, its value twice where there is none."""
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return low, high
