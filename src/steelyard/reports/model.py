"""What a report is made of: arms, comparisons and their estimates."""

import dataclasses
from collections.abc import Mapping

from steelyard.numerics.statistics import Estimate
from steelyard.reports.records import AxisValue
from steelyard.reports.spec import Metric, StudyReport


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One arm at one set of axis values, over its seeds.

    Attributes:
        label: Name that is unique in the report, see ``records.label``.
        arm: Name of the arm.
        name: Name for people.
        variant: The axis values that are not primary, for people; empty at the primary ones.
        axes: Its axis values.
        suffix: The bracket of ``label``; empty at the primary axis values.
        seeds: Seeds with a record.
        diverged: Those of them that diverged.
        training: Text of the Training column.
        episodes: Evaluation episodes a seed, None where the records hold none.
        values: Finite values, by metric and seed.
        means: Mean over seeds with interval, by metric; None where no seed has a value.
        iqms: Interquartile mean over seeds with interval, by metric; None likewise.
    """

    label: str
    arm: str
    name: str
    variant: str
    axes: Mapping[str, AxisValue]
    suffix: str
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    training: str
    episodes: int | None
    values: Mapping[str, Mapping[int, float]]
    means: Mapping[str, Estimate | None]
    iqms: Mapping[str, Estimate | None]

    @property
    def title(self) -> str:
        """Name for people that is unique in the report."""
        return f"{self.name} ({self.variant})" if self.variant else self.name


@dataclasses.dataclass(frozen=True)
class ComparisonSummary:
    """``arm - baseline`` in one metric.

    Attributes:
        arm: Summary of the method.
        baseline: Summary of what it is compared with.
        metric: The metric.
        difference: Mean difference with interval; ``n`` counts pairs if ``paired``.
        paired: Whether seeds were matched; False only where the two have no seed in common.
        seeds: The matched seeds.
        wins: In how many pairs the arm is the better one.
        p_value: Of the exact sign-flip test; None where it is not reported.
        least_p: The least p that so many pairs can give.
        improvement: Probability that a run of the arm is better than one of the baseline.
    """

    arm: ArmSummary
    baseline: ArmSummary
    metric: Metric
    difference: Estimate
    paired: bool
    seeds: tuple[int, ...]
    wins: int
    p_value: float | None
    least_p: float
    improvement: Estimate


@dataclasses.dataclass(frozen=True)
class Summary:
    """All that tables, figures and pages show."""

    spec: StudyReport
    preset: str
    commands: tuple[str, ...]
    hardware: tuple[str, ...]
    versions: Mapping[str, str]
    seeds: tuple[int, ...]
    seconds: float
    arms: tuple[ArmSummary, ...]
    comparisons: tuple[ComparisonSummary, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def primary_comparisons(self) -> tuple[ComparisonSummary, ...]:
        """The comparisons in the primary metric, the headline first."""
        return tuple(c for c in self.comparisons if c.metric == self.spec.primary)

    @property
    def diverged(self) -> tuple[str, ...]:
        """The diverged runs, by title and seed."""
        return tuple(f"{arm.title}, seed {seed}" for arm in self.arms for seed in arm.diverged)
