"""Which figures show the comparisons of tails, and what they say in words."""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from steelyard.reports.exceedance import exceedance_alt, exceedance_figure
from steelyard.reports.frontier import FrontierPoint, frontier_alt, frontier_figure
from steelyard.reports.model import Summary, TailArm, TailRow
from steelyard.reports.quantile_ratio import quantile_ratio_alt, quantile_ratio_figure, ratio_band
from steelyard.reports.slopes import SlopePair, slope_alt, slope_figure
from steelyard.reports.tail_tables import WORST
from steelyard.reports.theme import LIGHT, Theme
from steelyard.reports.words import tail_claim, tail_evidence

MOST_SLOPES = 24


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn in any theme, and the same in words."""

    make: Callable[[Theme], Figure]
    alt: str
    caption: str


def tail_drawings(summary: Summary) -> dict[str, Drawing]:
    """Return the figures that the records allow, by file name; none without comparisons of tails.

    Left out are a figure of slopes or of quantiles whose errors are not positive, since its scale
    is logarithmic, and whatever has no finished run.
    """
    if summary.tails is None:
        return {}
    found: dict[str, Drawing | None] = {}
    if summary.tails.rows:
        first = summary.tails.rows[0]
        found["slopes.png"] = _slopes(summary)
        found[f"exceedance{_axes_name(first)}.png"] = _exceedance(summary)
        found["quantile_ratio.png"] = _quantile_ratio(first)
    found["frontier.png"] = _frontier(summary)
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def _slopes(summary: Summary) -> Drawing | None:
    """Every seed of the first ``MOST_SLOPES`` comparisons."""
    rows = summary.tails.rows if summary.tails else ()
    shown = rows[:MOST_SLOPES]
    pairs = [
        SlopePair(row.title, _tails_of(row.baseline, row.seeds), _tails_of(row.arm, row.seeds))
        for row in shown
    ]
    folded = [dataclasses.replace(pair, title=textwrap.fill(pair.title, 15)) for pair in pairs]
    if not _positive(*(side for pair in pairs for side in (pair.baseline, pair.method))):
        return None
    baseline = _common_name([row.baseline for row in shown], "Baseline")
    method = _common_name([row.arm for row in shown], "Method")
    heading = f"{summary.spec.error} ({WORST})"
    caption = f"Mean of the {WORST} of the {summary.spec.items} of every seed."
    if len(rows) > len(shown):
        caption += f" {len(rows) - len(shown)} further comparisons stand in the table alone."
    return Drawing(
        lambda theme: slope_figure(folded, heading, baseline, method, theme),
        slope_alt(pairs, heading, baseline, method),
        caption,
    )


def _exceedance(summary: Summary) -> Drawing | None:
    """The arms compared at the axis values of the first comparison, and the controls there."""
    tails = summary.tails
    if tails is None:
        return None
    first, most = tails.rows[0], len(LIGHT.palette)
    rows = [row for row in tails.rows if row.primary] or [first]
    arms = [side for row in rows for side in (row.baseline, row.arm)]
    arms += tails.controls if first.primary else ()
    errors = {arm.arm.title: arm.errors for arm in arms}
    shown = dict(list(errors.items())[:most])
    if not any(np.any(np.isfinite(values) & (values > 0)) for values in shown.values()):
        return None
    caption = f"All {summary.spec.items} of all seeds; where one diverged it exceeds every level."
    if len(errors) > len(shown):
        caption += f" The first {most} of {len(errors)} arms; the others stand in the table."
    return Drawing(
        lambda theme: exceedance_figure(shown, summary.spec.error, theme),
        exceedance_alt(shown, summary.spec.error),
        caption,
    )


def _quantile_ratio(row: TailRow) -> Drawing | None:
    """The first comparison at every quantile."""
    if not row.kept:
        return None
    method, baseline = row.arm.rows(row.kept), row.baseline.rows(row.kept)
    if not _positive(method, baseline):
        return None
    band = ratio_band(method, baseline)
    names = row.baseline.arm.title, row.arm.arm.title
    return Drawing(
        lambda theme: quantile_ratio_figure(band, *names, theme),
        quantile_ratio_alt(band, *names),
        f"{tail_claim(row)} {tail_evidence(row)}",
    )


def _frontier(summary: Summary) -> Drawing | None:
    """Mean against tail of the arms of the frontier, and of its controls."""
    if summary.tails is None:
        return None
    points, controls = _points(summary.tails.frontier), _points(summary.tails.controls)
    if not points:
        return None
    names = [f"{summary.spec.error} ({which})" for which in ("mean", f"mean of the {WORST}")]
    failed = [
        f"{arm.arm.title} ({round(arm.failures.value * arm.failures.n)} of {arm.failures.n})"
        for arm in (*summary.tails.frontier, *summary.tails.controls)
        if arm.failures.value
    ]
    caption = f"Means over the finished runs, intervals over seeds and {summary.spec.items}."
    if failed:
        caption += f" Diverged and left out, which flatters: {', '.join(failed)}."
    return Drawing(
        lambda theme: frontier_figure(points, names[0], names[1], controls, theme),
        frontier_alt(points, controls),
        caption,
    )


def _points(arms: Sequence[TailArm]) -> list[FrontierPoint]:
    return [
        FrontierPoint(arm.arm.title, arm.mean, arm.tail)
        for arm in arms
        if arm.mean is not None and arm.tail is not None
    ]


def _tails_of(arm: TailArm, seeds: Sequence[int]) -> Float[np.ndarray, " seed"]:
    return np.array([arm.tails[arm.seeds.index(seed)] for seed in seeds])


def _positive(*values: Float[np.ndarray, "..."]) -> bool:
    """Whether some number is finite and all such numbers are above 0."""
    finite = np.concatenate([part[np.isfinite(part)] for part in values])
    return bool(len(finite) and finite.min() > 0)


def _common_name(arms: Sequence[TailArm], otherwise: str) -> str:
    """Return the name that all share."""
    names = {arm.arm.name for arm in arms}
    return names.pop() if len(names) == 1 else otherwise


def _axes_name(row: TailRow) -> str:
    """Write the axis values of a comparison as the end of a file name."""
    axes = {**row.baseline.arm.axes, **row.arm.arm.axes}
    texts = [re.sub(r"[^A-Za-z0-9.]+", "-", str(value)) for _, value in sorted(axes.items())]
    return "".join(f"_{text}" for text in texts)
