"""What a report is made of: arms, comparisons and their estimates."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from steelyard.numerics.log_ratios import Ratio, TailVerdict
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
class TailArm:
    """The errors per test item of one arm at one set of axis values.

    A run counts as failed if its status is ``"diverged"`` or some item of it has no finite error.
    All numbers but ``failures`` are over the runs that did not fail.

    Attributes:
        arm: Summary of the arm.
        seeds: Seeds with errors, in the order of the rows.
        errors: In the unit of the items; infinite where an item diverged, and in all items of a
            diverged run.
        tails: Mean of the worst 20 % of the errors of each run; infinite where it failed in them.
        failures: Rate of failed runs with Wilson's interval; ``n`` counts runs.
        mean: Mean error, averaged over runs; None where every run failed.
        tail: Mean of the worst 20 %, averaged over runs; None likewise.
        median: Median error, averaged over runs.
        p95: 95th percentile, averaged over runs.
        p95_ci: Its 95 % order-statistic interval, whose ends are averaged over runs: it shows the
            uncertainty due to the items alone. None where so few items allow none.
        p95_note: Why there is no such interval; None where there is one.
        worst: The largest error of any run.
        spread: Largest over smallest mean error of a run; None below 2 runs.
        log_sd: Standard deviation over runs of the logarithm of the mean error; None below 5 runs.
    """

    arm: ArmSummary
    seeds: tuple[int, ...]
    errors: Float[np.ndarray, "_seed _item"] = dataclasses.field(repr=False, compare=False)
    tails: tuple[float, ...]
    failures: Estimate
    mean: Estimate | None = None
    tail: Estimate | None = None
    median: float | None = None
    p95: float | None = None
    p95_ci: tuple[float, float] | None = None
    p95_note: str | None = None
    worst: float | None = None
    spread: float | None = None
    log_sd: Estimate | None = None

    @property
    def finished(self) -> Bool[np.ndarray, " _seed"]:
        """Which runs did not fail."""
        return np.asarray(np.isfinite(self.errors).all(axis=1))

    def rows(self, seeds: Sequence[int]) -> Float[np.ndarray, "_row _item"]:
        """Return the errors of some of its seeds."""
        return self.errors[[self.seeds.index(seed) for seed in seeds]]


@dataclasses.dataclass(frozen=True)
class TailRow:
    """Method over baseline at one set of axis values, in the errors per test item.

    Attributes:
        title: Name of the setting.
        arm: The method.
        baseline: What it is compared with.
        declared: Whether it belongs to the family named before the study ran.
        seeds: The seeds that both have.
        kept: Those of them in which neither run failed.
        failures: Failed runs of the method and of the baseline among ``seeds``.
        tail: Ratio of the means of the worst 20 % over ``kept``; None where that is empty.
        mean: Ratio of the mean errors, likewise.
        p_holm: p-value of ``tail`` adjusted within the declared family; None outside of it.
        spread: Ratio of the spreads over seeds, ``log_sd`` of both; None below 5 pairs.
        verdict: What the ratios show.
    """

    title: str
    arm: TailArm
    baseline: TailArm
    declared: bool
    seeds: tuple[int, ...]
    kept: tuple[int, ...]
    failures: tuple[int, int]
    tail: Ratio | None
    mean: Ratio | None
    p_holm: float | None
    spread: Estimate | None
    verdict: TailVerdict

    @property
    def primary(self) -> bool:
        """Whether both arms are at their primary axis values."""
        return not (self.arm.arm.suffix or self.baseline.arm.suffix)


@dataclasses.dataclass(frozen=True)
class Tails:
    """All that a report shows about errors per test item.

    Attributes:
        rows: The comparisons, those at the primary axis values first.
        arms: Every arm of a comparison, of the frontier and of its controls.
        frontier: Arms in the order of their sharpness, at the primary axis values.
        controls: Arms beside it, likewise.
    """

    rows: tuple[TailRow, ...]
    arms: tuple[TailArm, ...]
    frontier: tuple[TailArm, ...] = ()
    controls: tuple[TailArm, ...] = ()


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
    tails: Tails | None = None

    @property
    def primary_comparisons(self) -> tuple[ComparisonSummary, ...]:
        """The comparisons in the primary metric, the headline first."""
        return tuple(c for c in self.comparisons if c.metric == self.spec.primary)

    @property
    def diverged(self) -> tuple[str, ...]:
        """The diverged runs, by title and seed."""
        return tuple(f"{arm.title}, seed {seed}" for arm in self.arms for seed in arm.diverged)
