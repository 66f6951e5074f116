"""Comparisons of tails as tables, sentences and JSON."""

import dataclasses
import math
from collections.abc import Sequence

from steelyard.numerics.log_ratios import MOST_COST, Ratio
from steelyard.numerics.resampling import DRAWS
from steelyard.numerics.statistics import LEAST_PAIRS_FOR_TEST, LEVEL, Estimate
from steelyard.numerics.tail_statistics import LEAST_RUNS_FOR_SPREAD, wilson
from steelyard.reports.model import Summary, TailArm, TailRow, Tails
from steelyard.reports.sensitivity import HEAD, SensitivityRow, sensitivity_table
from steelyard.reports.tail_arms import ARM_DRAWS, SHARE
from steelyard.reports.words import ABSENT, tail_claim, tail_evidence

WORST = f"worst {100 * SHARE:g} %"


def tail_sentences(tails: Tails) -> list[str]:
    """Say what each comparison at the primary axis values shows, whatever it is."""
    return [f"{tail_claim(row)} {tail_evidence(row)}" for row in tails.rows if row.primary]


def tail_table(tails: Tails) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return header and rows of the ratios, method over baseline."""
    compared = [
        SensitivityRow(r.title, r.tail, r.mean, len(r.seeds), r.failures, r.declared)
        for r in tails.rows
        if r.tail is not None and r.mean is not None
    ]
    cells = iter(sensitivity_table(compared)[1])
    head = [*HEAD[:-1], "Pairs", HEAD[-1]]
    rows: list[Sequence[str]] = []
    for row in tails.rows:
        texts = _without_ratio(row) if row.tail is None else next(cells)
        rows.append([*texts[:-1], str(len(row.kept)), texts[-1]])
    return head, rows


def tail_arm_table(summary: Summary) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return header and rows of the errors of each arm, in the unit of ``item_heading``."""
    head = [summary.spec.error, "Mean", "95 %", "Median", WORST.capitalize(), "95 %", "P95"]
    head += ["95 %", "Largest", "Max/min over seeds", "Log-sd over seeds", "Diverged runs"]
    rows: list[Sequence[str]] = []
    for arm in summary.tails.arms if summary.tails else ():
        p95 = _interval(*(arm.p95_ci or (None, None)))
        rows.append(
            [
                arm.arm.title,
                *_estimate(arm.mean),
                digits(arm.median),
                *_estimate(arm.tail),
                digits(arm.p95),
                arm.p95_note or p95,
                digits(arm.worst),
                ABSENT if arm.spread is None else f"× {digits(arm.spread)}",
                " ".join(_estimate(arm.log_sd)) if arm.log_sd else ABSENT,
                _rate(arm.failures),
            ]
        )
    return head, rows


def tail_notes(summary: Summary) -> list[str]:
    """Say how to read the two tables and what they rest on."""
    tails, items = summary.tails, summary.spec.items
    if tails is None:
        return []
    family = sum(row.p_holm is not None for row in tails.rows)
    notes = [
        f"Tail: mean of the {WORST} of the {items}, the last of them by its fraction. Ratios are "
        "method over baseline, geometric means over paired seeds: below 1 the method errs less. "
        f"Their intervals are {DRAWS:,} draws of the hierarchical bootstrap over seeds and "
        f"{items}; those of single arms are {ARM_DRAWS:,} draws.",
        "The rule, set before the runs: better if the interval of the tail's ratio lies below 1 "
        f"and the ratio of the means is at most {MOST_COST:.2f}.",
        f"p: exact two-sided sign-flip test of the log ratios, from {LEAST_PAIRS_FOR_TEST} pairs "
        "on. Those of the comparisons declared before the runs are adjusted together (Holm; "
        f"{family} here); all other comparisons are exploratory and theirs are not.",
        f"A run counts as diverged if one of its {items} has no finite error. Its pair has no "
        "ratio and it is in no mean; its rate has Wilson's 95 % interval, and a method that "
        "diverges more often than its baseline is never called better.",
        "P95 and its order-statistic interval are computed within each run and averaged over "
        f"runs: the interval is about the {items} alone. Log-sd: standard deviation over seeds of "
        f"the logarithm of the mean error, from {LEAST_RUNS_FOR_SPREAD} runs on; its interval is "
        "too narrow with few runs (81 % instead of 95 % at 5).",
    ]
    return [*notes, *(text for row in tails.rows if (text := _spread_note(row)))]


def tails_json(tails: Tails) -> dict[str, object]:
    """Return what ``summary.json`` says about tails."""
    return {
        "tails": [_row_json(row) for row in tails.rows],
        "tail_arms": {arm.arm.label: _arm_json(arm) for arm in tails.arms},
        "tail_interval": {
            "level": LEVEL,
            "method": "hierarchical bootstrap over seeds and items",
            "draws": {"ratios": DRAWS, "arms": ARM_DRAWS},
        },
    }


def digits(value: float | None) -> str:
    """Write a number >= 0 with three significant digits, and thousands separated."""
    if value is None:
        return ABSENT
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(value))
    value = round(value, decimals)
    return f"{value:,.{min(max(2 - math.floor(math.log10(value)), 0), 12)}f}"


def _without_ratio(row: TailRow) -> tuple[str, ...]:
    """Write the cells of a comparison in which no pair finished."""
    verdict = row.verdict.text.partition(":")[0] + ("" if row.declared else " (exploratory)")
    failures = f"{row.failures[0]} / {row.failures[1]} of {len(row.seeds)}"
    return (row.title, *[ABSENT] * (len(HEAD) - 3), failures, verdict)


def _spread_note(row: TailRow) -> str:
    """Compare the spread over seeds, where it can be."""
    if row.spread is None or not row.primary:
        return ""
    return (
        f"{row.title}: spread over seeds (log-sd of the mean error) × {digits(row.spread.value)} "
        f"{_interval(row.spread.low, row.spread.high)}."
    )


def _estimate(estimate: Estimate | None) -> tuple[str, str]:
    """Write an estimate and its interval as two cells."""
    if estimate is None:
        return ABSENT, ABSENT
    return digits(estimate.value), _interval(estimate.low, estimate.high)


def _interval(low: float | None, high: float | None) -> str:
    return ABSENT if low is None else f"[{digits(low)}, {digits(high)}]"


def _rate(failures: Estimate) -> str:
    """Write how many runs failed, and the interval of their share."""
    low, high = 100 * (failures.low or 0.0), 100 * (failures.high or 0.0)
    return f"{round(failures.value * failures.n)} of {failures.n} [{low:.0f} %, {high:.0f} %]"


def _row_json(row: TailRow) -> dict[str, object]:
    return {
        "arm": row.arm.arm.label,
        "baseline": row.baseline.arm.label,
        "title": row.title,
        "declared": row.declared,
        "seeds": row.seeds,
        "kept": row.kept,
        "tail": _ratio_json(row.tail),
        "mean": _ratio_json(row.mean),
        "p_value": row.tail.p_value if row.tail else None,
        "p_holm": row.p_holm,
        "least_p": row.tail.least_p if row.tail else None,
        "failures": {
            side: _failures_json(wilson(count, len(row.seeds)))
            for side, count in zip(("arm", "baseline"), row.failures, strict=True)
        },
        "spread": _estimate_json(row.spread, "ratio"),
        "outcome": row.verdict.outcome,
        "verdict": f"{tail_claim(row)} {tail_evidence(row)}",
    }


def _arm_json(arm: TailArm) -> dict[str, object]:
    return {
        "seeds": arm.seeds,
        "items": arm.errors.shape[1],
        "mean": _estimate_json(arm.mean),
        "median": arm.median,
        f"cvar{100 * SHARE:g}": _estimate_json(arm.tail),
        "p95": arm.p95,
        "p95_ci": arm.p95_note or arm.p95_ci,
        "max": arm.worst,
        "max_over_min": arm.spread,
        "log_sd": _estimate_json(arm.log_sd, "value"),
        "failures": _failures_json(arm.failures),
    }


def _ratio_json(ratio: Ratio | None) -> dict[str, object] | None:
    if ratio is None:
        return None
    return {**(_estimate_json(ratio.estimate, "ratio") or {}), "per_seed": ratio.per_seed}


def _failures_json(rate: Estimate) -> dict[str, object]:
    return {"runs": round(rate.value * rate.n), "of": rate.n, "low": rate.low, "high": rate.high}


def _estimate_json(estimate: Estimate | None, name: str = "mean") -> dict[str, object] | None:
    if estimate is None:
        return None
    return {
        name if key == "value" else key: value
        for key, value in dataclasses.asdict(estimate).items()
    }
