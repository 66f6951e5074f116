"""The figure of a report about training: curves against frames and against seconds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from steelyard.numerics.statistics import bootstrap_band
from steelyard.reports import theme as themes
from steelyard.reports.model import ArmSummary, Summary
from steelyard.reports.records import Record, finite, label
from steelyard.reports.spec import CurveSet
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme


def curves_figure(
    records: Sequence[Record],
    summary: Summary,
    theme: Theme = LIGHT,
    only: CurveSet | None = None,
) -> Figure:
    """Draw the primary metric during training, against frames and against seconds.

    Arms that take no frames appear in the first panel as a level, their final mean. With ``only``
    the figure has its arms alone, and its title.
    """
    spec, metric = summary.spec, summary.spec.primary
    arms = [a for a in summary.arms if only is None or a.label in only.arms]
    figure = themes.new_figure(9.2, 4.5, theme)
    levels: list[str] = []
    with_curve = {label(record, spec.primary_axes) for record in records if record.curve}
    panels: list[Axes] = list(figure.subplots(1, 2, sharey=True))
    for panel, x_name, title in zip(
        panels, ("frames", "seconds"), ("Environment frames", "Seconds of training"), strict=True
    ):
        themes.style(panel, theme)
        drawn = 0
        for arm in arms:
            runs = [r for r in records if label(r, spec.primary_axes) == arm.label]
            curves = [c for r in runs if len((c := _curve(r, x_name, metric.name))[0])]
            drawn += len(curves)
            _draw_curves(panel, arm, curves, summary, theme)
            level = arm.means[metric.name]
            if not curves and level and any(r.curve for r in runs):
                colour = themes.colour(spec, arm.arm, theme)
                dashes = themes.dashes(arm, summary.arms)
                panel.axhline(level.value, color=colour, linewidth=1.2, linestyle=dashes, alpha=0.7)
                levels.append(arm.name)
        themes.levels(panel, spec.lines, theme, vertical=False, named=panel is panels[1])
        panel.set_xlabel(title, fontsize=NORMAL, color=theme.muted)
        panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(themes.tick_text))
        if not drawn:
            panel.text(
                0.5, 0.5, "no data", transform=panel.transAxes, color=theme.muted, ha="center"
            )
    panels[0].set_ylabel(metric.heading, fontsize=NORMAL, color=theme.muted)
    themes.heading(
        panels[0],
        theme,
        only.title if only else f"{themes.sentence(metric.title)} during training",
        "Line: mean over seeds.  Band: 95 % interval.  Thin: one seed."
        + (f"  Level: final mean of {', '.join(dict.fromkeys(levels))}." if levels else ""),
    )
    _legend(figure, summary, [a for a in arms if a.label in with_curve], theme)
    return figure


def _curve(record: Record, x_name: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a run's curve at which both coordinates exist, in the order of x."""
    points = sorted(
        (x, y)
        for point in record.curve
        if (x := finite(point.get(x_name))) is not None
        and (y := finite(point.get(metric))) is not None
    )
    return np.array([x for x, _ in points]), np.array([y for _, y in points])


def _draw_curves(
    axes: Axes,
    arm: ArmSummary,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    summary: Summary,
    theme: Theme,
) -> None:
    """Draw the seeds thinly, and their mean with its band where all seeds have points."""
    colour = themes.colour(summary.spec, arm.arm, theme)
    dashes = themes.dashes(arm, summary.arms)
    for x, y in curves:
        axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.35, linestyle=dashes)
    if not curves:
        return
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if not len(grid):
        return
    stack = np.stack([np.interp(grid, x, y) for x, y in curves])
    axes.plot(grid, stack.mean(axis=0), color=colour, linewidth=2, linestyle=dashes, zorder=3)
    if len(stack) > 1:
        band = bootstrap_band(stack, np.random.default_rng(0))
        axes.fill_between(grid, band[0], band[1], color=colour, alpha=0.16, linewidth=0)


def _legend(figure: Figure, summary: Summary, arms: Sequence[ArmSummary], theme: Theme) -> None:
    """Name below the panels every arm that has a line in one of them."""
    handles = [
        Line2D(
            [],
            [],
            color=themes.colour(summary.spec, arm.arm, theme),
            linestyle=themes.dashes(arm, summary.arms),  # pyright: ignore[reportArgumentType]
            linewidth=2,
            label=arm.title,
        )
        for arm in arms
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(3, len(handles)),
        frameon=False,
        fontsize=SMALL,
        labelcolor=theme.ink,
        handlelength=2.6,
    )
