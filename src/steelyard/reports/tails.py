"""Compares the errors per test item of two arms over paired seeds, their tail before all."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from steelyard.numerics.log_ratios import Ratio, TailVerdict, compare_ratio, judge_tail
from steelyard.numerics.resampling import Mean, TailMean
from steelyard.numerics.statistics import Estimate
from steelyard.numerics.tail_statistics import holm, log_sd_ratio
from steelyard.reports.model import ArmSummary, TailArm, TailRow, Tails
from steelyard.reports.pairing import match_arms
from steelyard.reports.records import Record
from steelyard.reports.spec import Comparison, StudyReport, TailComparison
from steelyard.reports.streams import named_rng
from steelyard.reports.tail_arms import SHARE, have_spread, summarise_tail_arm


def summarise_tails(
    groups: Mapping[str, Sequence[Record]], arms: Sequence[ArmSummary], spec: StudyReport
) -> tuple[Tails | None, list[str]]:
    """Compare every pair of ``spec.tails`` at every axis value that both arms have.

    Args:
        groups: The records of each arm by its label, in the order of their seeds.
        arms: The same arms, summarised.
        spec: What the study compares.

    Returns:
        The comparisons, None where the spec has none, and what is missing for them.

    Raises:
        ValueError: If an error is negative, or the runs of a pair were judged on different numbers
            of items.
    """
    if not spec.tails:
        return None, []
    named = {name for tail in spec.tails for name in (tail.arm, tail.baseline)}
    named |= {*spec.frontier, *spec.controls}
    found: dict[str, TailArm] = {}
    missing: list[str] = []
    for arm in arms:
        if arm.arm in named:
            some, absent = summarise_tail_arm(arm, groups[arm.label], spec)
            missing += absent
            if some is not None:
                found[arm.label] = some
    rows: list[TailRow] = []
    for tail in spec.tails:
        more, absent = _compare_everywhere(tail, found, spec)
        rows += more
        missing += absent
    primary = {arm.arm.arm: arm for arm in found.values() if not arm.arm.suffix}
    tails = Tails(
        rows=_adjusted(sorted(rows, key=lambda row: not row.primary)),
        arms=tuple(found.values()),
        frontier=tuple(primary[name] for name in spec.frontier if name in primary),
        controls=tuple(primary[name] for name in spec.controls if name in primary),
    )
    return tails, list(dict.fromkeys(missing))


def _compare_everywhere(
    tail: TailComparison, found: Mapping[str, TailArm], spec: StudyReport
) -> tuple[list[TailRow], list[str]]:
    """Compare one pair at every axis value; name where one side or a common seed is missing."""
    pair = (Comparison(tail.arm, tail.baseline),)
    with_errors = [arm.arm for arm in found.values()]
    pairs, missing = match_arms(with_errors, dataclasses.replace(spec, comparisons=pair))
    rows = []
    for x, y in pairs:
        row = _compare(tail, found[x.label], found[y.label], spec)
        if row is None:
            missing.append(f"{x.title} against {y.title}: no common seed, so no ratio of tails")
        else:
            rows.append(row)
    return rows, missing


def _compare(
    tail: TailComparison, arm: TailArm, baseline: TailArm, spec: StudyReport
) -> TailRow | None:
    """Compare two arms over the seeds that both have; None where there is none."""
    title = _title(tail, arm.arm, baseline.arm)
    seeds = tuple(seed for seed in arm.seeds if seed in baseline.seeds)
    if not seeds:
        return None
    lost = [{s for s, ok in zip(a.seeds, a.finished, strict=True) if not ok} & {*seeds}
            for a in (arm, baseline)]  # fmt: skip
    failures = (len(lost[0]), len(lost[1]))
    kept = tuple(seed for seed in seeds if seed not in lost[0] | lost[1])
    ratios: tuple[Ratio, Ratio] | None = None
    spread: Estimate | None = None
    if kept:
        x, y = arm.rows(kept), baseline.rows(kept)
        if x.shape != y.shape:
            raise ValueError(
                f"{title}: both arms need errors of the same {spec.items}, got {x.shape[1]} for "
                f"{arm.arm.label} and {y.shape[1]} for {baseline.arm.label}"
            )
        names = (arm.arm.label, baseline.arm.label)
        try:
            ratios = (
                compare_ratio(x, y, TailMean(SHARE), named_rng("tail ratio", *names)),
                compare_ratio(x, y, Mean(), named_rng("mean ratio", *names)),
            )
        except ValueError as error:
            raise ValueError(f"{title}, rows are seeds {kept}: {error}") from error
        means = x.mean(axis=1), y.mean(axis=1)
        if have_spread(*means) and np.ptp(np.log(means[1])) > 1e-9:
            spread = log_sd_ratio(*means, named_rng("spread ratio", *names))
    return TailRow(
        title=title,
        arm=arm,
        baseline=baseline,
        declared=tail.declared and not (arm.arm.suffix or baseline.arm.suffix),
        seeds=seeds,
        kept=kept,
        failures=failures,
        tail=ratios[0] if ratios else None,
        mean=ratios[1] if ratios else None,
        p_holm=None,
        spread=spread,
        verdict=_judge(ratios, failures, len(seeds)),
    )


def _judge(ratios: tuple[Ratio, Ratio] | None, failures: tuple[int, int], runs: int) -> TailVerdict:
    """Judge by the declared rule; where a run of every pair failed only the failures can speak."""
    if ratios is not None:
        return judge_tail(*ratios, failures=failures)
    numbers = f"no pair of finished runs; diverged runs {failures[0]} against {failures[1]}"
    if failures[0] > failures[1]:
        return TailVerdict("failing", f"The method diverges more often: {numbers} of {runs}.")
    return TailVerdict("preliminary", f"Too few pairs for a claim: {numbers} of {runs}.")


def _adjusted(rows: Sequence[TailRow]) -> tuple[TailRow, ...]:
    """Adjust the p-values of the declared rows together (Holm)."""
    p_values = [row.tail.p_value if row.declared and row.tail else None for row in rows]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return tuple(
        row if p is None else dataclasses.replace(row, p_holm=next(adjusted))
        for row, p in zip(rows, p_values, strict=True)
    )


def _title(tail: TailComparison, arm: ArmSummary, baseline: ArmSummary) -> str:
    """Name the setting, with the axis values where they are not the primary ones."""
    variant = arm.variant or baseline.variant
    title = tail.title or f"{arm.name} / {baseline.name}"
    return f"{title} ({variant})" if variant else title
