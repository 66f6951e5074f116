import dataclasses
import json
import random
import time

import numpy as np
import pytest
from tail_samples import SPEC, arm, errors, run, study

from steelyard.reports import Arm, TailComparison, dump_records, load_records, summarise
from steelyard.reports.tables import summary_json
from steelyard.reports.tail_tables import digits

ONE = dataclasses.replace(SPEC, tails=SPEC.tails[:1])


def rows(records, spec=SPEC):
    return summarise(records, spec).tails.rows


def row(records, spec=ONE):
    return rows(records, spec)[0]


def noisy(seed, seeds=8, items=30, scale=1.0):
    """Log-normal errors of an arm; items are as hard in every arm."""
    hard = np.random.default_rng(99).normal(size=items)
    noise = np.random.default_rng(seed).normal(size=(seeds, items))
    return scale * np.exp(hard + 0.4 * noise)


def runs(name, values, floor="wood"):
    return [run(name, seed, line, floor) for seed, line in enumerate(values)]


@pytest.fixture(scope="module")
def sample():
    return summarise(study(), SPEC)


def test_an_arm_with_half_of_every_error_has_ratio_one_half_and_no_uncertainty(sample):
    found = sample.tails.rows[0]
    for ratio in (found.tail, found.mean):
        assert ratio.per_seed == pytest.approx([0.5] * 6)
        assert (ratio.estimate.value, ratio.estimate.low, ratio.estimate.high) == pytest.approx(
            (0.5, 0.5, 0.5)
        )
        assert ratio.estimate.n == 6
    assert found.tail.p_value == found.tail.least_p == 2 / 2**6
    assert found.verdict.outcome == "success"
    assert found.spread.value == pytest.approx(1.0)


def test_levels_of_an_arm_are_those_worked_out_by_hand(sample):
    found = next(a for a in sample.tails.arms if a.arm.label == "mean")
    factor = np.mean(1.0 + 0.1 * np.arange(6))  # the errors of seed s are (1 … 10)(1 + s/10)
    assert found.mean.value == pytest.approx(5.5 * factor)
    assert found.tail.value == pytest.approx(9.5 * factor)
    assert found.median == pytest.approx(5.5 * factor)
    assert found.p95 == pytest.approx(9.55 * factor)
    assert found.worst == 15.0
    assert found.tails == pytest.approx([9.5 * (1 + 0.1 * s) for s in range(6)])
    assert found.spread == pytest.approx(1.5)
    assert found.log_sd.value == pytest.approx(np.log(1 + 0.1 * np.arange(6)).std(ddof=1))
    assert found.p95_ci is None
    assert found.p95_note == "not estimable (n=10 < 73)"
    assert (found.failures.value, found.failures.n) == (0.0, 6)
    assert found.failures.high == pytest.approx(0.3903, abs=1e-4)


def test_the_interval_of_the_95th_percentile_averages_the_order_statistics_of_the_runs():
    found = summarise(arm("mean", 1.0, 2, items=500), ONE).tails.arms[0]
    # Ranks 465 and 485 of 500 (Conover), errors 1 … 500 and 1.1 … 550.
    assert found.p95_ci == pytest.approx((465 * 1.05, 485 * 1.05))
    assert found.p95_note is None


def test_each_pair_is_compared_at_every_axis_value_that_both_have_the_primary_ones_first(sample):
    found = [(r.title, r.arm.arm.label, r.baseline.arm.label) for r in sample.tails.rows]
    assert found == [
        ("Sharp", "sharp", "mean"),
        ("Tail 0.5 / Mean loss", "mild", "mean"),
        ("Huber / Mean loss", "huber", "mean"),
        ("Sharp (floor = felt)", "sharp[floor=felt]", "mean[floor=felt]"),
    ]
    assert [r.verdict.outcome for r in sample.tails.rows] == [
        "success", "success", "worse", "worse",
    ]  # fmt: skip


def test_only_declared_comparisons_at_the_primary_axis_values_are_a_family(sample):
    assert [r.declared for r in sample.tails.rows] == [True, True, False, False]
    assert [r.tail.p_value for r in sample.tails.rows] == [1 / 32] * 4
    assert [r.p_holm for r in sample.tails.rows] == [2 / 32, 2 / 32, None, None]


def test_too_few_pairs_have_neither_test_nor_claim():
    found = row(arm("mean", 1.0, 4) + arm("sharp", 0.5, 4))
    assert (found.tail.p_value, found.p_holm, found.spread) == (None, None, None)
    assert found.verdict.outcome == "preliminary"
    single = row(arm("mean", 1.0, 1) + arm("sharp", 0.5, 1))
    assert (single.tail.estimate.low, single.arm.tail.low, single.arm.spread) == (None,) * 3


def test_exchanging_the_arms_inverts_the_ratio_and_a_unit_changes_none():
    x, y = noisy(1), noisy(2)
    there = row(runs("sharp", x) + runs("mean", y))
    back = row(runs("sharp", y) + runs("mean", x))
    millimetres = row(runs("sharp", 1000 * x) + runs("mean", 1000 * y))
    assert there.tail.estimate.value * back.tail.estimate.value == pytest.approx(1.0)
    assert there.tail.p_value == back.tail.p_value
    assert millimetres.tail.per_seed == pytest.approx(there.tail.per_seed)
    for end in ("low", "high"):
        expected = getattr(there.tail.estimate, end)
        assert getattr(millimetres.tail.estimate, end) == pytest.approx(expected)


def test_numbers_depend_on_nothing_but_what_is_compared():
    records = runs("sharp", noisy(1)) + runs("mean", noisy(2))
    more = records + runs("huber", noisy(3)) + runs("mean", noisy(4), "felt")
    alone = json.loads(summary_json(summarise(records, ONE)))["tails"]
    shuffled = random.Random(0).sample(more, len(more))
    assert json.loads(summary_json(summarise(shuffled, ONE)))["tails"] == alone


def test_intervals_are_the_same_on_every_machine():
    records = runs("sharp", noisy(1, scale=0.9)) + runs("mean", noisy(2))
    found = json.loads(summary_json(summarise(records, ONE)))["tails"][0]
    numbers = [found[part][key] for part in ("tail", "mean") for key in ("ratio", "low", "high")]
    assert numbers == pytest.approx(GOLDEN, rel=1e-4)


# Regenerate: run the test above with -vv and copy the numbers that it got.
GOLDEN = [0.837215, 0.67204, 1.03952, 0.854513, 0.742884, 0.976426]


def test_a_run_with_one_diverged_item_leaves_its_pair_and_is_counted():
    records = arm("mean", 1.0) + arm("sharp", 0.5)
    place = next(i for i, r in enumerate(records) if (r.arm, r.seed) == ("sharp", 2))
    for lost in (None, float("inf"), float("nan")):
        values = (lost, *records[place].per_start_returns[1:])
        records[place] = dataclasses.replace(records[place], per_start_returns=values)
        found = row(records)
        assert found.seeds == (0, 1, 2, 3, 4, 5)
        assert found.kept == (0, 1, 3, 4, 5)
        assert found.failures == (1, 0)
        assert found.verdict.outcome == "failing"
        assert found.tail.per_seed == pytest.approx([0.5] * 5)
        assert np.isinf(found.arm.tails[2])
        assert found.arm.failures.value == pytest.approx(1 / 6)
        assert found.arm.failures.low == pytest.approx(0.0301, abs=1e-4)
        assert found.arm.mean.n == 5


def test_a_diverged_run_counts_with_or_without_errors():
    for values in ((), 0.5 * errors(2)):
        records = [r for r in arm("mean", 1.0) + arm("sharp", 0.5) if r.run_id != "sharp-wood-2"]
        records.append(run("sharp", 2, values, status="diverged"))
        found = row(records)
        assert found.failures == (1, 0)
        assert found.kept == (0, 1, 3, 4, 5)
        assert np.isinf(found.arm.errors[2]).all()


@pytest.mark.parametrize(
    ("arm_lost", "baseline_lost", "outcome"),
    [(6, 0, "failing"), (0, 6, "preliminary"), (6, 6, "preliminary")],
)
def test_without_a_finished_pair_there_is_no_ratio_and_the_failures_speak(
    arm_lost, baseline_lost, outcome
):
    records = [
        run(name, seed, () if seed < lost else errors(seed),
            status="diverged" if seed < lost else "done")
        for name, lost in (("sharp", arm_lost), ("mean", baseline_lost))
        for seed in range(6)
    ]  # fmt: skip
    found = row(records)
    assert (found.tail, found.mean, found.p_holm, found.kept) == (None, None, None, ())
    assert found.failures == (arm_lost, baseline_lost)
    assert found.verdict.outcome == outcome
    content = json.loads(summary_json(summarise(records, ONE)))["tails"][0]
    assert content["tail"] is None
    assert content["failures"]["arm"]["runs"] == arm_lost


def test_diverged_items_survive_writing_and_reading(tmp_path):
    records = arm("mean", 1.0) + arm("sharp", 0.5)
    values = (float("inf"), *records[0].per_start_returns[1:])
    records[0] = dataclasses.replace(records[0], per_start_returns=values)
    again = load_records(dump_records(records, tmp_path / "raw.jsonl"))
    assert again[0].per_start_returns[0] is None
    assert summary_json(summarise(again, ONE)) == summary_json(summarise(records, ONE))


def test_what_is_missing_for_a_comparison_is_named():
    records = [r for r in study() if r.arm == "mean" or r.seed > 2 or r.arm == "mild"]
    records = [r for r in records if (r.arm, r.seed) not in {("mean", s) for s in (3, 4, 5)}]
    records = [dataclasses.replace(r, per_start_returns=()) if r.arm == "mild" else r
               for r in records]  # fmt: skip
    found = summarise(records, SPEC)
    assert found.tails.rows == ()
    text = "; ".join(found.missing)
    assert "Tail 0.2 against Mean loss: no common seed, so no ratio of tails" in text
    assert "Tail 0.5: no error per item for seed 0, 1, 2, 3, 4, 5" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_start_returns": (1.0, -0.5)}, r">= 0, got -0\.5 at item 1 of sharp, seed 1"),
        ({"per_start_returns": (1.0, 2.0, 3.0)}, "equally many pushes, got 10 for seed 0, 3 for"),
    ],
)
def test_errors_that_cannot_be_compared_are_refused(change, message):
    records = [dataclasses.replace(r, **change) if (r.arm, r.seed, r.axes["floor"]) ==
               ("sharp", 1, "wood") else r for r in study(2)]  # fmt: skip
    if len(change["per_start_returns"]) == 2:
        records = [r for r in records if r.arm != "sharp" or r.seed == 1]
    with pytest.raises(ValueError, match=message):
        summarise(records, SPEC)


def test_arms_judged_on_other_items_are_refused():
    records = arm("mean", 1.0, items=10) + arm("sharp", 0.5, items=12)
    with pytest.raises(ValueError, match="Sharp: .* same pushes, got 12 for sharp and 10 for mean"):
        summarise(records, ONE)


def test_errors_that_are_all_zero_have_no_ratio_and_the_comparison_is_named():
    with pytest.raises(ValueError, match=r"Sharp, rows are seeds \(0, 1\): a ratio needs"):
        summarise(arm("mean", 1.0, 2) + arm("sharp", 0.0, 2), ONE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tails": (TailComparison("sharp", "men"),)}, r"StudyReport\.tails must name .* 'men'"),
        ({"frontier": ("meen",)}, r"StudyReport\.frontier must name arms"),
        ({"controls": ("x",)}, r"StudyReport\.controls must name arms"),
        ({"tails": (SPEC.tails[0],) * 2}, "must have distinct pairs"),
    ],
)
def test_a_spec_that_names_no_arm_of_its_own_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (None, "–"), (0.99951, "1.00"), (0.01234, "0.0123"), (12.345, "12.3"),
        (1234.5, "1,230"), (float("inf"), "inf"), (5.0, "5.00"), (999.6, "1,000"),
    ],
)  # fmt: skip
def test_levels_are_written_with_three_significant_digits(value, text):
    assert digits(value) == text


@pytest.mark.slow
def test_forty_arms_of_ten_seeds_and_500_items_take_less_than_30_seconds_of_processor_time():
    names = [f"arm{i}" for i in range(40)]
    records = [r for i, name in enumerate(names) for r in runs(name, noisy(i, 10, 500))]
    spec = dataclasses.replace(
        SPEC,
        arms=tuple(Arm(name, name) for name in names),
        tails=tuple(TailComparison(name, names[0]) for name in names[1:]),
        frontier=tuple(names[:6]),
        controls=(),
    )
    start = time.process_time()
    summarise(records, spec)
    assert time.process_time() - start < 30
