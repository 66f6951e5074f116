"""What a study tells the reports about itself, so that they need not know its learners."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from steelyard.files import read_json
from steelyard.reports.files import json_text, write_atomic
from steelyard.reports.records import AxisValue, Number
from steelyard.reports.schema import SchemaError, as_json, parse

Role = Literal["method", "baseline", "control", "anchor"]
_OPTIONAL = (
    "expected",
    "tails",
    "item",
    "item_heading",
    "frontier",
    "controls",
    "panels",
    "also_compared",
    "curve_sets",
)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number to tabulate: its key in ``Record.metrics``, and how to show and read it.

    ``title`` fits into a sentence ("score"); ``column`` heads tables and axes, ``title`` if empty.
    """

    name: str
    title: str
    column: str = ""
    description: str = ""
    decimals: int = 3
    higher_is_better: bool = True

    @property
    def heading(self) -> str:
        """Text above a column or along an axis."""
        return self.column or self.title[:1].upper() + self.title[1:]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm: its key in ``Record.arm``, its names for people and its part in the comparison.

    ``training`` is the text of the Training column ("12,000 frames"); where it is empty the text
    comes from the records.
    """

    name: str
    title: str
    description: str = ""
    role: Role = "method"
    training: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A pair to compare, ``arm - baseline``; done again at every axis value that both have."""

    arm: str
    baseline: str


@dataclasses.dataclass(frozen=True)
class TailComparison:
    """A pair whose errors per test item are compared, their tail before all.

    It needs records that hold an error >= 0 per item in ``Record.per_start_returns``, null where
    the item diverged. It is done again at every axis value that both arms have.

    Attributes:
        arm: The method.
        baseline: What it is compared with, over the same seeds and items.
        title: Name of the setting; made from the titles of the arms if empty.
        declared: Whether it was named before the study ran. Declared comparisons at the primary
            axis values are the family whose p-values are adjusted; all others are exploratory.
    """

    arm: str
    baseline: str
    title: str = ""
    declared: bool = True


@dataclasses.dataclass(frozen=True)
class Line:
    """A level of the primary metric that gives it meaning, e.g. 0 for random, 1 for the expert."""

    value: Number
    title: str


@dataclasses.dataclass(frozen=True)
class CurveSet:
    """A figure of the primary metric during training, of some arms at the primary axis values.

    Attributes:
        file: Its name, ending in ``.png``.
        title: What it shows.
        arms: Arms in it.
    """

    file: str
    title: str
    arms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """A table of its own: more metrics of the arms at some axis values, means over seeds.

    Attributes:
        title: Heads the table.
        axes: Only arms with these axis values are in it.
        metrics: Its columns.
    """

    title: str
    axes: dict[str, AxisValue]
    metrics: tuple[Metric, ...]


@dataclasses.dataclass(frozen=True)
class StudyReport:
    """How to report a study.

    Attributes:
        study: Name of the study, as in its records.
        title: Headline of the report.
        primary_metric: The metric of bars, curves and verdicts; one of ``metrics``.
        raw_metric: The metric in its own units, written beside every bar; one of ``metrics``.
        metrics: What is tabulated, in order.
        arms: The expected arms, in order; the reports name those without records as missing.
        comparisons: What is compared; the first makes the headline.
        primary_axes: Axis values at which an arm goes by its bare name.
        axis_titles: Axis names for people, e.g. ``{"demonstrations": "Demonstration episodes"}``.
        lines: Levels drawn in figures of the primary metric.
        seeds: Expected seeds; if empty, every seed that any arm has.
        expected: Expected seeds of single arms by ``records.label``, where they are others; none
            where the arm is not meant to be.
        description: Paragraphs that say what was compared and how.
        limits: What the numbers do not show; printed in full.
        tails: Pairs whose errors per test item are compared; the first makes the headline. Without
            any, the fields below have no effect.
        item: What a test item is, in the plural, e.g. ``"trajectories"``; ``"items"`` if empty.
        item_heading: What its error is, with the unit, e.g. ``"Position error, m"``.
        frontier: Arms in the order of their sharpness, the baseline first: mean against tail.
        controls: Arms shown beside the frontier and the curves of exceedance.
        panels: Tables of their own, after those of all arms.
        also_compared: Names of metrics whose comparisons are tabulated beside the primary one's.
        curve_sets: Figures of curves of some arms, beside that of all.
    """

    study: str
    title: str
    primary_metric: str
    raw_metric: str
    metrics: tuple[Metric, ...]
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...] = ()
    primary_axes: dict[str, AxisValue] = dataclasses.field(default_factory=dict)
    axis_titles: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    seeds: tuple[int, ...] = ()
    expected: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    description: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    tails: tuple[TailComparison, ...] = ()
    item: str = ""
    item_heading: str = ""
    frontier: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    also_compared: tuple[str, ...] = ()
    curve_sets: tuple[CurveSet, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a spec that refers to metrics or arms it does not define."""
        metrics, arms = [m.name for m in self.metrics], [a.name for a in self.arms]
        for field, names in (("metrics", metrics), ("arms", arms)):
            if len(set(names)) < len(names):
                raise ValueError(f"StudyReport.{field} must have distinct names, got {names}")
        for field in ("primary_metric", "raw_metric"):
            if getattr(self, field) not in metrics:
                raise ValueError(
                    f"StudyReport.{field} must be one of {metrics}, got {getattr(self, field)!r}"
                )
        for name in self.also_compared:
            if name not in metrics:
                raise ValueError(
                    f"StudyReport.also_compared must name metrics of {metrics}, got {name!r}"
                )
        named = {
            "comparisons": [n for c in self.comparisons for n in (c.arm, c.baseline)],
            "tails": [n for c in self.tails for n in (c.arm, c.baseline)],
            "frontier": self.frontier,
            "controls": self.controls,
            "curve_sets": [name for curves in self.curve_sets for name in curves.arms],
        }
        for field, names in named.items():
            for name in names:
                if name not in arms:
                    raise ValueError(f"StudyReport.{field} must name arms of {arms}, got {name!r}")
        pairs = [(c.arm, c.baseline) for c in self.tails]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"StudyReport.tails must have distinct pairs, got {pairs}")

    def metric(self, name: str) -> Metric:
        """Return a metric by name."""
        return next(metric for metric in self.metrics if metric.name == name)

    @property
    def primary(self) -> Metric:
        """The metric of bars, curves and verdicts."""
        return self.metric(self.primary_metric)

    @property
    def raw(self) -> Metric:
        """The metric in its own units."""
        return self.metric(self.raw_metric)

    @property
    def items(self) -> str:
        """What the test items are, in the plural."""
        return self.item or "items"

    @property
    def error(self) -> str:
        """What the error of an item is, with its unit."""
        return self.item_heading or "Error"

    def metrics_at(self, axes: Mapping[str, AxisValue]) -> tuple[Metric, ...]:
        """Return the metrics of all tables in which an arm with these axis values stands."""
        more = (p.metrics for p in self.panels if p.axes.items() <= axes.items())
        found = {m.name: m for metrics in (self.metrics, *more) for m in metrics}
        return tuple(found.values())

    def arm(self, name: str) -> Arm:
        """Return an arm by name; one that the spec does not list shows under its own name."""
        return next((arm for arm in self.arms if arm.name == name), Arm(name, name))

    def axis_title(self, name: str) -> str:
        """Return an axis name for people."""
        return self.axis_titles.get(name, name.replace("_", " "))


def load_spec(path: Path) -> StudyReport:
    """Read ``report_spec.json``; errors name the file and the field."""
    return parse(StudyReport, read_json(path, SchemaError), str(path))


def dump_spec(spec: StudyReport, path: Path) -> Path:
    """Write ``report_spec.json`` in one step and return its path.

    Fields that few studies need are left out where they are empty.
    """
    content = {k: v for k, v in as_json(spec).items() if v or k not in _OPTIONAL}
    return write_atomic(path, json_text(content))
