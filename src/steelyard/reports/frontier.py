"""The frontier figure: what the mean pays for a better tail, over a sharpness of the emphasis."""

import dataclasses
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from steelyard.numerics.statistics import Estimate
from steelyard.reports import theme as themes
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme
from steelyard.reports.words import interval, number


@dataclasses.dataclass(frozen=True)
class FrontierPoint:
    """One setting.

    Attributes:
        label: Written beside it, e.g. ``"α 0.2"``.
        mean: Mean error, with its interval where there is one.
        tail: Mean of the worst share of the errors, likewise.
    """

    label: str
    mean: Estimate
    tail: Estimate


def frontier_figure(
    points: Sequence[FrontierPoint],
    mean_heading: str,
    tail_heading: str,
    controls: Sequence[FrontierPoint] = (),
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the tail against the mean; down and to the left is better in both.

    Args:
        points: The settings in the order of their sharpness, joined by a line; the first, which is
            the baseline, has a square.
        mean_heading: Label of the mean error, with its unit.
        tail_heading: Label of the tail.
        controls: Other arms, not joined.
        theme: Light or dark.
    """
    if not points:
        raise ValueError("a frontier needs at least one point, got none")
    figure = themes.new_figure(6.6, 5.0, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme, grid="both")
    line, other = theme.palette[0], theme.palette[1]
    axes.plot(
        [p.mean.value for p in points], [p.tail.value for p in points], color=line, linewidth=1.6
    )
    for place, point in enumerate(points):
        _draw(axes, point, "s" if place == 0 else "o", line, theme)
    for point in controls:
        _draw(axes, point, "D", other, theme)
    axes.margins(0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.6g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.6g}"))
    axes.set_xlabel(mean_heading, fontsize=NORMAL, color=theme.muted)
    axes.set_ylabel(tail_heading, fontsize=NORMAL, color=theme.muted)
    marks = "Square: baseline.  Diamond: control.  " if controls else "Square: baseline.  "
    themes.heading(
        axes,
        theme,
        "What the mean pays for the tail",
        f"{marks}Cross: 95 % intervals.  Down and left is better.",
    )
    return figure


def frontier_alt(
    points: Sequence[FrontierPoint], controls: Sequence[FrontierPoint] = ()
) -> str:  # fmt: skip
    """Say the frontier in words, point by point."""
    texts = [
        f"{p.label}: mean {number(p.mean.value)} {interval(p.mean)}, "
        f"tail {number(p.tail.value)} {interval(p.tail)}"
        for p in (*points, *controls)
    ]
    return f"Tail against mean error. {'; '.join(texts)}."


def _draw(axes: Axes, point: FrontierPoint, marker: str, colour: str, theme: Theme) -> None:
    """Draw a point with the cross of its intervals and its label."""
    x, y = point.mean.value, point.tail.value
    if point.mean.low is not None and point.mean.high is not None:
        axes.hlines(y, point.mean.low, point.mean.high, color=colour, linewidth=1.4, alpha=0.5)
    if point.tail.low is not None and point.tail.high is not None:
        axes.vlines(x, point.tail.low, point.tail.high, color=colour, linewidth=1.4, alpha=0.5)
    axes.plot(
        x, y, marker, color=colour, markersize=7.5, markeredgecolor=theme.surface, zorder=4
    )  # fmt: skip
    axes.annotate(
        point.label,
        (x, y),
        xytext=(8, 7),
        textcoords="offset points",
        fontsize=SMALL,
        color=theme.ink,
        zorder=5,
    )
