"""Numbers and comparisons in words: what the tables, the figures and the page all say alike."""

from typing import Literal

from steelyard.numerics.statistics import LEAST_PAIRS_FOR_TEST, Estimate
from steelyard.reports.model import ComparisonSummary, Summary, TailRow

LEAST_SEEDS_FOR_CLAIM = 5
SIGNIFICANCE = 0.05
ABSENT = "–"

Verdict = Literal["better", "worse", "unclear", "preliminary"]


def number(value: float | None, decimals: int = 3, signed: bool = False) -> str:
    """Write a number with a true minus sign, and thousands separated; a dash for None."""
    if value is None:
        return ABSENT
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if not text.strip("+-0.,"):  # a rounded zero has no sign
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(estimate: Estimate | None, decimals: int = 3, signed: bool = False) -> str:
    """Write the interval of an estimate, a dash where it has none."""
    if estimate is None or estimate.low is None:
        return ABSENT
    low, high = (number(end, decimals, signed) for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def judge(comparison: ComparisonSummary) -> Verdict:
    """Say what a comparison shows about the arm.

    ``"better"`` and ``"worse"`` need at least 5 seeds, an interval that leaves out 0 and, where
    pairs suffice for a test, p < 0.05; with fewer seeds the verdict is ``"preliminary"`` whatever
    the numbers; everything else is ``"unclear"``.
    """
    difference = comparison.difference
    if difference.low is None or difference.high is None or difference.n < LEAST_SEEDS_FOR_CLAIM:
        return "preliminary"
    if difference.low <= 0 <= difference.high:
        return "unclear"
    if comparison.p_value is not None and comparison.p_value >= SIGNIFICANCE:
        return "unclear"
    return "better" if (difference.low > 0) == comparison.metric.higher_is_better else "worse"


def pair_title(comparison: ComparisonSummary, sign: str = "−") -> str:
    """Name a comparison, the axis values once where both arms share them."""
    arm, baseline = comparison.arm, comparison.baseline
    if arm.variant == baseline.variant and arm.variant:
        return f"{arm.name} {sign} {baseline.name} ({arm.variant})"
    return f"{arm.title} {sign} {baseline.title}"


def claim(comparison: ComparisonSummary) -> str:
    """Write the verdict as a short sentence."""
    wording = {
        "better": ("", "is better than", "."),
        "worse": ("", "is worse than", "."),
        "unclear": ("No difference shown between ", "and", "."),
        "preliminary": ("", "against", ": too few seeds for a claim."),
    }
    before, sign, after = wording[judge(comparison)]
    return before + pair_title(comparison, sign) + after


def evidence(comparison: ComparisonSummary) -> str:
    """Write the numbers behind the verdict: difference, interval, seeds, test."""
    metric, difference = comparison.metric, comparison.difference
    parts = [f"{pair_title(comparison)} = {number(difference.value, metric.decimals, True)}"]
    if difference.low is not None:
        parts.append(interval(difference, metric.decimals, True))
    kind = "paired" if comparison.paired else "unpaired"
    seeds = f"over {difference.n} {kind} seed{'' if difference.n == 1 else 's'}"
    return f"{' '.join(parts)} in {metric.title} {seeds}; {significance(comparison)}."


def significance(comparison: ComparisonSummary) -> str:
    """Write the result of the sign-flip test, or why there is none."""
    if not comparison.paired:
        return "no paired test without common seeds"
    if comparison.p_value is not None:
        return f"sign-flip p = {comparison.p_value:.2g}"
    least = f"{comparison.least_p:.3g}"
    return f"no test below {LEAST_PAIRS_FOR_TEST} pairs (p could not fall below {least})"


def headline(summary: Summary) -> tuple[str, str]:
    """Return claim and evidence of the first comparison of tails, else of the first difference."""
    if summary.tails and summary.tails.rows:
        first = summary.tails.rows[0]
        return tail_claim(first), tail_evidence(first)
    return difference_headline(summary)


def difference_headline(summary: Summary) -> tuple[str, str]:
    """Return the claim and the evidence of the first comparison, or say that there is none."""
    if summary.primary_comparisons:
        first = summary.primary_comparisons[0]
        return claim(first), evidence(first)
    return "Nothing to compare yet.", "No comparison has a value on both sides."


def tail_claim(row: TailRow) -> str:
    """Write the verdict about tails as a short sentence, whatever it is."""
    words = row.verdict.text.partition(": ")[0]
    text = f"{row.title}: {words[:1].lower()}{words[1:]}"
    return f"{text}." if row.declared else f"{text} (exploratory)."


def tail_evidence(row: TailRow) -> str:
    """Write the numbers behind the verdict about tails: ratios, intervals, seeds, test."""
    numbers = row.verdict.text.partition(": ")[2].rstrip(".")
    text = f"{numbers[:1].upper()}{numbers[1:]}"
    if row.tail is None:
        return f"{text}."
    if row.tail.p_value is None:
        least = f"{row.tail.least_p:.3g}"
        return f"{text}; no test below {LEAST_PAIRS_FOR_TEST} pairs (p could not be below {least})."
    adjusted = "" if row.p_holm is None else f", {row.p_holm:.2g} after Holm"
    return f"{text}; sign-flip p = {row.tail.p_value:.2g}{adjusted}."


def caveats(summary: Summary) -> list[str]:
    """List what a reader must know before trusting the numbers, the most serious first."""
    texts = []
    if summary.diverged:
        count = len(summary.diverged)
        texts.append(
            f"{count} diverged run{'s' if count > 1 else ''}: {'; '.join(summary.diverged)}. "
            "A diverged run without a final value is not in the mean, which then flatters its arm."
        )
    if summary.missing:
        texts.append(f"Missing: {'; '.join(summary.missing)}.")
    seeds = len(summary.seeds)
    if seeds == 1:
        texts.append("One seed: no interval and no claim is possible.")
    else:
        texts.append(
            f"Intervals are 95 % percentile bootstraps over {seeds} seeds"
            + (
                ", which is too narrow with few runs: for normal data they cover the true mean "
                "in about 83 % of cases at 5 seeds and 90 % at 10."
                if seeds <= 10
                else "."
            )
        )
    if len(summary.primary_comparisons) > 1:
        which = f" of differences in {summary.spec.primary.title}" if summary.tails else ""
        texts.append(f"Intervals and tests{which} are not corrected for the number of comparisons.")
    if summary.spec.primary_axes and any(arm.suffix for arm in summary.arms):
        axes = [f"{k.replace('_', ' ')} = {v}" for k, v in summary.spec.primary_axes.items()]
        texts.append(f"Where no axis value is given: {', '.join(axes)}.")
    return [*texts, *summary.notes, *summary.spec.limits]
