"""Summarises the errors per test item of one arm: level, tail, failures, spread over seeds."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from steelyard.numerics.resampling import Mean, Statistic, TailMean, hierarchical_draws, on_all
from steelyard.numerics.statistics import Estimate
from steelyard.numerics.tail_statistics import (
    LEAST_RUNS_FOR_SPREAD,
    cvar,
    log_sd,
    percentile_interval,
    summarise_tail,
    wilson,
)
from steelyard.reports.model import ArmSummary, TailArm
from steelyard.reports.records import Record
from steelyard.reports.spec import StudyReport
from steelyard.reports.streams import named_rng

SHARE = 0.2
ARM_DRAWS = 2_000


def summarise_tail_arm(
    arm: ArmSummary, records: Sequence[Record], spec: StudyReport
) -> tuple[TailArm | None, list[str]]:
    """Summarise the errors of one arm at one set of axis values.

    Args:
        arm: The arm.
        records: Its runs.
        spec: What the study compares.

    Returns:
        The errors and what they amount to, None where no run has any; and which finished runs have
        none, except where none has any at axis values that are not the primary ones.

    Raises:
        ValueError: If an error is negative or runs have errors of different numbers of items.
    """
    sizes = {record.seed: len(record.per_start_returns) for record in records}
    counts = sorted({size for size in sizes.values() if size})
    if len(counts) > 1:
        raise ValueError(
            f"the runs of an arm need errors of equally many {spec.items}, got "
            f"{', '.join(f'{size} for seed {seed}' for seed, size in sizes.items())} of {arm.label}"
        )
    used = [r for r in records if r.per_start_returns or r.status == "diverged"]
    absent = [str(record.seed) for record in records if record not in used]
    missing = [f"{arm.title}: no error per item for seed {', '.join(absent)}"] if absent else []
    if not used:
        # Beside the primary axis values a test may have items of its own for each seed.
        return None, [] if arm.suffix else missing
    errors = np.array([_errors(record, counts[0] if counts else 1) for record in used])
    tails = tuple(cvar(row, SHARE) for row in errors)
    good = errors[np.isfinite(errors).all(axis=1)]
    failures = wilson(len(errors) - len(good), len(errors))
    found = TailArm(arm, tuple(record.seed for record in used), errors, tails, failures)
    return (_with_numbers(found, good) if len(good) else found), missing


def _errors(record: Record, items: int) -> list[float]:
    """Return the errors of a run, infinite where there is no number; all of a diverged run."""
    if record.status == "diverged":
        return [math.inf] * items
    errors = [
        math.inf if value is None or math.isnan(value) else float(value)
        for value in record.per_start_returns
    ]
    for place, error in enumerate(errors):
        if error < 0:
            raise ValueError(
                f"an error per item must be >= 0, got {error} at item {place} of {record.arm}, "
                f"seed {record.seed}, axes {record.axes}"
            )
    return errors


def _with_numbers(arm: TailArm, errors: Float[np.ndarray, "run item"]) -> TailArm:
    """Fill in the numbers that follow from the finished runs."""
    name = arm.arm.label
    runs = [summarise_tail(row) for row in errors]
    cis = [run.p95_ci for run in runs if run.p95_ci is not None]
    means = np.array([run.mean for run in runs])
    positive = means.min() > 0
    spread = log_sd(means, named_rng("log_sd", name)) if have_spread(means) else None
    return dataclasses.replace(
        arm,
        mean=_over_runs(errors, Mean(), named_rng("error mean", name)),
        tail=_over_runs(errors, TailMean(SHARE), named_rng("error tail", name)),
        median=_mean(run.median for run in runs),
        p95=_mean(run.p95 for run in runs),
        p95_ci=(_mean(ci[0] for ci in cis), _mean(ci[1] for ci in cis)) if cis else None,
        p95_note=runs[0].p95_note,
        worst=float(errors.max()),
        spread=float(means.max() / means.min()) if len(means) > 1 and positive else None,
        log_sd=spread,
    )


def _over_runs(
    errors: Float[np.ndarray, "run item"], statistic: Statistic, rng: np.random.Generator
) -> Estimate:
    """Average a statistic over runs; the interval draws runs and the items they share."""
    runs, items = errors.shape
    value = _mean(on_all(statistic, row)[0] for row in errors)
    if runs < 2:
        return Estimate(value, None, None, runs)
    drawn = hierarchical_draws(
        lambda run, counts: statistic(errors[run], counts),
        runs,
        items,
        rng,
        item_draws="shared",
        draws=ARM_DRAWS,
    )
    return percentile_interval(value, drawn[:, 0], runs)


def have_spread(*values: Float[np.ndarray, " _run"]) -> bool:
    """Whether the spread over runs of positive numbers can be estimated."""
    return all(len(v) >= LEAST_RUNS_FOR_SPREAD and v.min() > 0 for v in values)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
