"""The sensitivity table: in which settings the effect of a method holds, and in which not."""

import dataclasses
from collections.abc import Sequence

from steelyard.numerics.log_ratios import Ratio, judge_tail
from steelyard.numerics.tail_statistics import holm
from steelyard.reports.words import ABSENT, interval, number

HEAD = ("Setting", "Tail ratio", "95 %", "p (Holm)", "Mean ratio", "95 %", "Diverged", "Verdict")


@dataclasses.dataclass(frozen=True)
class SensitivityRow:
    """One setting in which both arms were run.

    Attributes:
        title: Name of the setting.
        tail: Ratio of the tails, method over baseline.
        mean: Ratio of the means.
        runs: Runs of each arm, diverged ones included.
        failures: Diverged runs of the method and of the baseline.
        declared: Whether it belongs to the family named before the study ran.
    """

    title: str
    tail: Ratio
    mean: Ratio
    runs: int
    failures: tuple[int, int] = (0, 0)
    declared: bool = True


def sensitivity_table(
    rows: Sequence[SensitivityRow],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of the table as text.

    The p-values of the declared rows are adjusted together (Holm); other rows show none and are
    called exploratory.
    """
    family = [row.tail.p_value for row in rows if row.declared and row.tail.p_value is not None]
    adjusted = iter(holm(family))
    table = []
    for row in rows:
        tested = row.declared and row.tail.p_value is not None
        verdict = judge_tail(row.tail, row.mean, failures=row.failures).text.partition(":")[0]
        table.append(
            (
                row.title,
                number(row.tail.estimate.value, 2),
                interval(row.tail.estimate, 2),
                f"{next(adjusted):.2g}" if tested else ABSENT,
                number(row.mean.estimate.value, 2),
                interval(row.mean.estimate, 2),
                f"{row.failures[0]} / {row.failures[1]} of {row.runs}",
                verdict if row.declared else f"{verdict} (exploratory)",
            )
        )
    return HEAD, table
