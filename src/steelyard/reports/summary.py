"""Turns records into estimates: every arm at every axis value, and every comparison."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from steelyard.numerics import statistics
from steelyard.numerics.statistics import Estimate
from steelyard.reports.model import ArmSummary, ComparisonSummary, Summary
from steelyard.reports.pairing import list_missing, match_arms
from steelyard.reports.records import (
    AxisValue,
    Record,
    axes_suffix,
    finite,
    label,
    validate,
)
from steelyard.reports.spec import Metric, StudyReport
from steelyard.reports.streams import named_rng
from steelyard.reports.tails import summarise_tails


def summarise(records: Sequence[Record], spec: StudyReport) -> Summary:
    """Estimate everything a report shows; the same records give the same numbers, in any order.

    Args:
        records: The finished runs of one study and preset.
        spec: What the study compares.

    Raises:
        ValueError: If the records are of another study or do not make one comparison.
    """
    validate(records)
    if records[0].study != spec.study:
        raise ValueError(
            f"the spec is of study {spec.study!r}, the records of {records[0].study!r}"
        )
    records = sorted(records, key=lambda r: (_rank(r, spec), r.seed))
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(label(record, spec.primary_axes), []).append(record)
    arms = tuple(_summarise_arm(name, group, spec) for name, group in groups.items())
    pairs, unmatched = match_arms(arms, spec)
    tails, without_tail = summarise_tails(groups, arms, spec)
    comparisons = [compare(a, b, metric) for metric in spec.metrics for a, b in pairs]
    seeds = spec.seeds or tuple(sorted({record.seed for record in records}))
    return Summary(
        spec=spec,
        preset=records[0].preset,
        commands=_distinct(record.command for record in records),
        hardware=_distinct(record.hardware for record in records),
        versions=_versions(records),
        seeds=tuple(sorted({record.seed for record in records})),
        seconds=float(sum(record.seconds for record in records)),
        arms=arms,
        comparisons=tuple(c for c in comparisons if c is not None),
        missing=(
            *list_missing(arms, spec, seeds),
            *unmatched,
            *(text for text in without_tail if text not in unmatched),
        ),
        notes=_distinct(note for record in records for note in record.notes),
        tails=tails,
    )


def compare(arm: ArmSummary, baseline: ArmSummary, metric: Metric) -> ComparisonSummary | None:
    """Compare two arms in one metric, paired by seed; None where one of them has no value."""
    x, y = arm.values[metric.name], baseline.values[metric.name]
    if not x or not y:
        return None
    seeds, x_paired, y_paired = statistics.match_by_seed(x, y)
    x_all, y_all = np.array(list(x.values())), np.array(list(y.values()))
    rng = named_rng("difference", metric.name, arm.label, baseline.label)
    sign = 1.0 if metric.higher_is_better else -1.0
    p_value, least_p = None, 1.0
    if seeds:
        paired = statistics.paired_difference(x_paired, y_paired, rng)
        difference, p_value, least_p = paired.estimate, paired.p_value, paired.least_p
    else:
        difference = statistics.unpaired_difference(x_all, y_all, rng)
    return ComparisonSummary(
        arm=arm,
        baseline=baseline,
        metric=metric,
        difference=difference,
        paired=bool(seeds),
        seeds=tuple(seeds),
        wins=int(np.sum(sign * (x_paired - y_paired) > 0)),
        p_value=p_value,
        least_p=least_p,
        improvement=statistics.probability_of_improvement(sign * x_all, sign * y_all, rng),
    )


def _summarise_arm(name: str, records: Sequence[Record], spec: StudyReport) -> ArmSummary:
    """Estimate every metric of one arm; the records are its seeds."""
    first, arm = records[0], spec.arm(records[0].arm)
    suffix = axes_suffix(first.axes, spec.primary_axes)
    variant = [f"{k.replace('_', ' ')} = {v}" for k, v in _other_axes(first, spec).items()]
    values = {
        metric.name: {
            record.seed: value
            for record in records
            if (value := record.metric(metric.name)) is not None
        }
        for metric in spec.metrics_at(first.axes)
    }
    episodes = {sum(finite(r) is not None for r in record.per_start_returns) for record in records}
    return ArmSummary(
        label=name,
        arm=first.arm,
        name=arm.title,
        variant=", ".join(variant),
        axes=first.axes,
        suffix=suffix,
        seeds=tuple(record.seed for record in records),
        diverged=tuple(record.seed for record in records if record.status == "diverged"),
        training=arm.training or _training(records),
        episodes=max(episodes) or None,
        values=values,
        means={m: _estimate(statistics.mean, v, "mean", m, name) for m, v in values.items()},
        iqms={
            m: _estimate(statistics.interquartile_mean, v, "iqm", m, name)
            for m, v in values.items()
        },
    )


def _estimate(
    statistic: statistics.Statistic, values: Mapping[int, float], *names: str
) -> Estimate | None:
    """Bootstrap one statistic over seeds; None without values."""
    if not values:
        return None
    return statistics.bootstrap(np.array(list(values.values())), named_rng(*names), statistic)


def _rank(record: Record, spec: StudyReport) -> tuple:
    """Order arms as the spec does, the primary axis values first, then by axis value."""
    names = [arm.name for arm in spec.arms]
    place = names.index(record.arm) if record.arm in names else len(names)
    suffix = axes_suffix(record.axes, spec.primary_axes)
    values = [
        (0, float(v), "") if isinstance(v, int | float) else (1, 0.0, v)
        for _, v in sorted(record.axes.items())
    ]
    return place, record.arm, bool(suffix), values, suffix


def _other_axes(record: Record, spec: StudyReport) -> dict[str, AxisValue]:
    """Return the axis values that are not the primary ones."""
    return {k: v for k, v in sorted(record.axes.items()) if spec.primary_axes.get(k) != v}


def _training(records: Sequence[Record]) -> str:
    """Say how much training the runs took, e.g. "12,000 frames" or "100 epochs"."""
    for field in ("frames", "epochs"):
        amounts = sorted({getattr(r, field) for r in records if getattr(r, field)})
        if amounts:
            return (
                f"{'–'.join(f'{a:,}' for a in (amounts[0], amounts[-1])[: len(amounts)])} {field}"
            )
    return "–"


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """Merge versions; where runs differ, all of them are named."""
    merged: dict[str, list[str]] = {"steelyard": list(_distinct(r.version for r in records))}
    for record in records:
        for name, version in sorted(record.versions.items()):
            if version not in merged.setdefault(name, []):
                merged[name].append(version)
    return {name: ", ".join(sorted(versions)) for name, versions in merged.items()}


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct texts in alphabetical order."""
    return tuple(sorted(set(texts)))
