"""Which arms are compared with which, and what is missing for it."""

from collections.abc import Sequence

from steelyard.reports.model import ArmSummary
from steelyard.reports.spec import StudyReport


def match_arms(
    arms: Sequence[ArmSummary], spec: StudyReport
) -> tuple[list[tuple[ArmSummary, ArmSummary]], list[str]]:
    """Expand the comparisons over axis values; also name the halves that have no counterpart.

    An arm to which no axis applies (the expert) is compared with all axis values of the other. A
    control need not exist at every axis value, nor one that is expected there with no seed.
    """
    pairs, unmatched = [], []
    controls = {arm.name for arm in spec.arms if arm.role == "control"}
    for comparison in spec.comparisons:
        left = {a.suffix: a for a in arms if a.arm == comparison.arm}
        right = {a.suffix: a for a in arms if a.arm == comparison.baseline}
        if not left or not right:
            continue  # an arm without any record is named by list_missing
        left_free = not any(a.axes for a in left.values())
        right_free = not any(a.axes for a in right.values())
        for suffix in [*left, *(s for s in right if s not in left)]:
            x = left[""] if left_free else left.get(suffix)
            y = right[""] if right_free else right.get(suffix)
            if x is not None and y is not None:
                if (x, y) not in pairs:
                    pairs.append((x, y))
            elif not {comparison.arm, comparison.baseline} & controls:
                absent = (comparison.arm if x is None else comparison.baseline) + suffix
                if spec.expected.get(absent) != ():
                    unmatched.append(f"{absent}: no run, so no comparison there")
    # The comparisons at the primary axis values come first: the very first is the headline.
    pairs.sort(key=lambda pair: bool(pair[0].suffix or pair[1].suffix))
    return pairs, list(dict.fromkeys(unmatched))


def list_missing(arms: Sequence[ArmSummary], spec: StudyReport, seeds: Sequence[int]) -> list[str]:
    """Name what was expected and has no record or no value."""
    present = {arm.arm for arm in arms}
    missing = [f"{arm.title}: no run" for arm in spec.arms if arm.name not in present]
    for arm in arms:
        expected = spec.expected.get(arm.label, seeds)
        absent = [str(seed) for seed in expected if seed not in arm.seeds]
        if absent:
            missing.append(f"{arm.title}: no run for seed {', '.join(absent)}")
        empty = [str(s) for s in arm.seeds if s not in arm.values[spec.primary_metric]]
        if empty:
            missing.append(f"{arm.title}: no {spec.primary.title} for seed {', '.join(empty)}")
    return missing
