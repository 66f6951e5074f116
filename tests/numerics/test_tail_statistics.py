import dataclasses
import itertools
import math
import time

import numpy as np
import pytest
import scipy.stats

from steelyard.numerics import log_ratios as ratios
from steelyard.numerics import resampling
from steelyard.numerics import tail_statistics as tails
from steelyard.numerics.resampling import Exceedance, Mean, Quantiles, TailMean
from steelyard.numerics.statistics import Estimate


def rng(seed=0):
    return np.random.default_rng(seed)


def errors(seeds=10, items=60, seed=0, scale=1.0, spread=0.1):
    """Log-normal errors whose level differs between seeds."""
    g = rng(seed)
    return scale * np.exp(g.normal(size=(seeds, items)) + spread * g.normal(size=(seeds, 1)))


def ratio(value, low, high, n=10):
    return ratios.Ratio(Estimate(value, low, high, n), (value,) * n, 0.002, 2 / 2**n)


# -- CVaR ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        (range(1, 11), 0.25, 9.2),  # (10 + 9 + 8/2) / 2.5; rounding the count up gives 9.0
        (range(1, 11), 0.2, 9.5),
        (range(1, 11), 1.0, 5.5),
        (range(1, 11), 0.05, 10.0),
        ([4, 1, 3, 2], 0.375, 11 / 3),
        ([3, 3, 3, 1], 0.5, 3.0),
        ([7.0], 0.2, 7.0),
    ],
)
def test_cvar_equals_the_values_worked_by_hand(values, share, expected):
    assert tails.cvar(np.array(list(values), float), share) == pytest.approx(expected, rel=1e-12)


def test_seven_percent_of_a_hundred_items_are_seven_although_the_product_is_not():
    values = np.arange(100.0)
    assert tails.cvar(values, 0.07) == pytest.approx(np.mean(values[-7:]), rel=1e-12)
    values[92] = np.inf
    assert tails.cvar(np.where(np.isinf(values), 92.0, values), 0.07) == pytest.approx(96.0)


@pytest.mark.parametrize("share", [0.01, 0.13, 0.2, 0.5, 0.99])
def test_cvar_is_the_minimum_of_rockafellar_and_uryasev(share):
    values = errors(1, 41)[0]
    candidates = [t + np.maximum(values - t, 0).sum() / (share * 41) for t in values]
    assert tails.cvar(values, share) == pytest.approx(min(candidates), rel=1e-12)


def test_cvar_of_a_large_normal_sample_is_the_closed_form():
    values = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    assert tails.cvar(values, 0.2) == pytest.approx(1.400, abs=2e-3)
    assert tails.cvar(values, 0.05) == pytest.approx(2.063, abs=2e-3)


def test_cvar_falls_as_the_share_grows_and_scales_with_the_values():
    values = errors(1, 30)[0]
    series = [tails.cvar(values, share) for share in np.linspace(0.02, 1, 40)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(series))
    assert tails.cvar(3 * values + 1, 0.2) == pytest.approx(3 * tails.cvar(values, 0.2) + 1)


def test_an_infinite_error_makes_mean_and_tail_infinite_and_leaves_the_median():
    values = np.append(np.arange(1.0, 10.0), np.inf)
    summary = tails.summarise_tail(values)
    assert summary.mean == summary.cvar20 == summary.max == math.inf
    assert summary.median == 5.5
    assert tails.quantile(values, 1.0) == math.inf


@pytest.mark.parametrize("share", [0.0, -1.0, 1.2, math.nan])
def test_shares_outside_zero_to_one_are_refused(share):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], got"):
        TailMean(share)


# -- draws as counts -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.03, 0.2, 0.77, 1.0])
def test_the_tail_of_a_draw_is_the_tail_of_the_items_in_it(share):
    values = errors(1, 37)[0]
    counts = resampling.draw_counts(37, 50, rng(1))
    rows = [np.repeat(values, count) for count in counts]
    expected = [tails.cvar(row, share) for row in rows]
    np.testing.assert_allclose(TailMean(share)(values, counts)[:, 0], expected, rtol=1e-12)


def test_a_draw_that_needs_nearly_all_items_is_still_exact():
    values = np.arange(400.0)
    counts = np.zeros((1, 400), np.int64)
    counts[0, :40] = 10  # the largest 360 items are not drawn at all
    expected = tails.cvar(np.repeat(values[:40], 10), 0.2)
    assert TailMean(0.2)(values, counts)[0, 0] == pytest.approx(expected)


def test_means_quantiles_and_exceedances_of_a_draw_are_those_of_the_items_in_it():
    values = errors(1, 23)[0]
    counts = resampling.draw_counts(23, 40, rng(2))
    rows = np.stack([np.repeat(values, count) for count in counts])
    levels, thresholds = (0.0, 0.05, 0.5, 0.93, 1.0), (0.2, 1.0, 4.0)
    np.testing.assert_allclose(Mean()(values, counts)[:, 0], rows.mean(axis=1))
    np.testing.assert_allclose(
        Quantiles(levels)(values, counts), np.quantile(rows, levels, axis=1).T
    )
    above = np.stack([(rows > t).mean(axis=1) for t in thresholds], axis=1)
    np.testing.assert_allclose(Exceedance(thresholds)(values, counts), above)


def test_draws_hold_as_many_units_as_there_are_and_each_equally_often():
    counts = resampling.draw_counts(9, 4000, rng(3))
    assert np.all(counts.sum(axis=1) == 9)
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.06)
    assert counts.var() == pytest.approx(8 / 9, abs=0.03)


@pytest.mark.parametrize("item_draws", ["within", "shared"])
def test_hierarchical_draws_have_the_variance_of_both_levels(item_draws):
    seeds, items = 8, 40
    values = rng(4).normal(size=(seeds, items)) + rng(5).normal(size=(seeds, 1))
    draws = resampling.hierarchical_draws(
        lambda seed, counts: Mean()(values[seed], counts), seeds, items, rng(), draws=40_000,
        item_draws=item_draws,
    )[:, 0]  # fmt: skip
    between = values.mean(axis=1).var() / seeds
    inner = values.var(axis=1).mean() / items
    if item_draws == "within":
        expected = between + inner / seeds
    else:  # the same items in every seed: only what the seeds do not share averages out
        centred = values - values.mean(axis=1, keepdims=True)
        expected = between + np.mean(centred.mean(axis=0) ** 2) / items + (
            (inner - np.mean(centred.mean(axis=0) ** 2) / items) / seeds
        )  # fmt: skip
    assert draws.mean() == pytest.approx(values.mean(), abs=0.02)
    assert draws.var() == pytest.approx(expected, rel=0.06)


# -- intervals of quantiles and rates --------------------------------------------------------------


def test_p95_has_no_interval_below_73_items_and_the_named_ranks_above():
    assert tails.least_items_for_quantile(0.95) == 73
    assert tails.quantile_ranks(72, 0.95) is None
    assert tails.quantile_ranks(73, 0.95) == (65, 73)
    assert tails.quantile_ranks(500, 0.95) == (465, 485)
    assert tails.summarise_tail(np.arange(50.0)).p95_note == "not estimable (n=50 < 73)"
    full = tails.summarise_tail(np.arange(1.0, 501.0))
    assert (full.p95_ci, full.p95_note) == ((465.0, 485.0), None)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_order_statistics_enclose_the_quantile_with_95_percent(level):
    least = tails.least_items_for_quantile(level)
    for items in [*range(max(least, 8), least + 150), 1000, 5000]:
        low, high = tails.quantile_ranks(items, level)
        covered = scipy.stats.binom.cdf(high - 1, items, level)
        covered -= scipy.stats.binom.cdf(low - 1, items, level)
        assert covered >= (0.945 if level == 0.5 else 0.95), (items, level)


def test_wilson_intervals_of_no_failures_are_those_of_the_textbook():
    assert tails.wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)
    assert tails.wilson(0, 40).high == pytest.approx(0.0876, abs=1e-4)
    six = tails.wilson(6, 12)
    assert six.value == 0.5
    assert six.low + six.high == pytest.approx(1.0)
    for events, trials in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"got {events} of {trials}"):
            tails.wilson(events, trials)


def test_holm_equals_the_values_worked_by_hand():
    assert tails.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert tails.holm([0.6, 0.9]) == [1.0, 1.0]
    assert tails.holm([0.04]) == [0.04]
    with pytest.raises(ValueError, match=r"got 1\.5 at position 1"):
        tails.holm([0.1, 1.5])


def test_block_bootstrap_sees_that_copies_are_no_evidence():
    base = errors(1, 12)[0]
    copied, blocks = np.repeat(base, 20), np.repeat(np.arange(12), 20)
    single = tails.block_bootstrap(base, np.arange(12), Mean(), rng())
    grouped = tails.block_bootstrap(copied, 100 + 7 * blocks, Mean(), rng())
    blind = tails.block_bootstrap(copied, np.arange(240), Mean(), rng())
    assert dataclasses.astuple(grouped) == pytest.approx(dataclasses.astuple(single))
    assert grouped.n == 12
    assert blind.high - blind.low < 0.5 * (grouped.high - grouped.low)
    one = tails.block_bootstrap(base, np.zeros(12, int), TailMean(0.2), rng())
    assert (one.low, one.high, one.n) == (None, None, 1)


def test_spread_over_seeds_ignores_units_and_compares_as_a_ratio():
    values = np.exp(0.3 * rng(1).normal(size=12))
    spread = tails.log_sd(values, rng())
    assert spread.value == pytest.approx(np.log(values).std(ddof=1))
    assert spread.low < spread.value < spread.high
    scaled = tails.log_sd(1000 * values, rng())
    assert scaled.value == pytest.approx(spread.value)
    twice = tails.log_sd_ratio(values**2, values, rng())
    assert (twice.low, twice.value, twice.high) == pytest.approx((2.0, 2.0, 2.0))
    assert tails.log_sd(np.full(6, 2.0), rng()) == Estimate(0.0, 0.0, 0.0, 6)
    with pytest.raises(ValueError, match="at least 5 of them, got 4"):
        tails.log_sd(values[:4], rng())
    with pytest.raises(ValueError, match=r"finite and positive, got 0\.0 at position 0"):
        tails.log_sd(np.zeros(5), rng())


# -- ratios ----------------------------------------------------------------------------------------


def test_an_arm_with_twice_the_errors_has_the_ratio_two_exactly_and_no_doubt():
    baseline = errors()
    for statistic in (TailMean(0.2), Mean()):
        result = ratios.compare_ratio(2 * baseline, baseline, statistic, rng())
        assert result.per_seed == pytest.approx((2.0,) * 10)
        estimate = result.estimate
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx((2, 2, 2))
        assert (result.p_value, result.least_p) == (2 / 2**10, 2 / 2**10)


def test_ratio_is_the_geometric_mean_of_the_seeds_and_its_inverse_the_other_way_round():
    method, baseline = errors(seed=1), errors(seed=2)
    forward = ratios.compare_ratio(method, baseline, TailMean(0.2), rng())
    backward = ratios.compare_ratio(baseline, method, TailMean(0.2), rng())
    expected = [
        tails.cvar(m) / tails.cvar(b) for m, b in zip(method, baseline, strict=True)
    ]  # fmt: skip
    assert forward.per_seed == pytest.approx(expected)
    assert forward.estimate.value == pytest.approx(scipy.stats.gmean(expected))
    assert backward.estimate.value == pytest.approx(1 / forward.estimate.value)
    assert backward.estimate.low == pytest.approx(1 / forward.estimate.high, rel=1e-3)
    assert forward == ratios.compare_ratio(method, baseline, TailMean(0.2), rng())


def test_pairing_by_item_removes_the_difficulty_that_both_arms_share():
    shared = errors(6, 50, spread=0.0)
    method = shared * np.exp(0.05 * rng(1).normal(size=(6, 50)))
    paired = ratios.compare_ratio(method, shared, Mean(), rng()).estimate
    shuffled = rng(2).permutation(method, axis=1)
    unpaired = ratios.compare_ratio(shuffled, shared, Mean(), rng()).estimate
    assert unpaired.value == pytest.approx(paired.value)
    assert (paired.high / paired.low) ** 2 < unpaired.high / unpaired.low


def test_whole_blocks_are_drawn_where_items_are_windows_of_one_recording():
    method, baseline = errors(6, 8, seed=1), errors(6, 8, seed=2)
    blocks = np.repeat(np.arange(8), 10)
    plain = ratios.compare_ratio(method, baseline, Mean(), rng())
    grouped = ratios.compare_ratio(
        np.repeat(method, 10, axis=1), np.repeat(baseline, 10, axis=1), Mean(), rng(), blocks=blocks
    )
    assert grouped.estimate.value == pytest.approx(plain.estimate.value)
    assert grouped.estimate.low == pytest.approx(plain.estimate.low, rel=0.02)
    assert grouped.estimate.high == pytest.approx(plain.estimate.high, rel=0.02)


def test_interaction_is_the_ratio_of_the_ratios():
    base = errors(7, 30)
    result = ratios.compare_ratios_of((0.5 * base, base), (0.8 * base, base), Mean(), rng())
    assert result.estimate.value == pytest.approx(0.5 / 0.8)
    assert result.estimate.high == pytest.approx(0.5 / 0.8)
    nothing = ratios.compare_ratios_of(
        (errors(7, 30, 1), base), (errors(7, 30, 2), base), Mean(), rng()
    )
    assert nothing.estimate.low < 1 < nothing.estimate.high


def test_few_pairs_give_no_test_and_one_pair_no_interval():
    one = ratios.compare_ratio(errors(1), errors(1, seed=1), Mean(), rng())
    assert (one.estimate.low, one.estimate.high, one.p_value) == (None, None, None)
    five = ratios.compare_ratio(errors(5), errors(5, seed=1), Mean(), rng())
    assert (five.p_value, five.least_p) == (None, 0.0625)


def test_pairs_in_which_an_arm_diverged_are_counted_and_not_averaged_away():
    method, baseline = errors(6), errors(6, seed=1)
    method[2, 5], baseline[4, 0], method[4, 1] = np.inf, np.nan, np.inf
    kept_method, kept_baseline, failed, failed_baseline = ratios.split_diverged(method, baseline)
    assert (len(kept_method), len(kept_baseline), failed, failed_baseline) == (4, 4, 2, 1)
    with pytest.raises(ValueError, match="got inf at seed row 2, item 5; leave diverged"):
        ratios.compare_ratio(method, baseline, Mean(), rng())


def test_errors_without_a_ratio_are_refused_by_shape_and_value():
    with pytest.raises(ValueError, match=r"got \[\(3, 60\), \(4, 60\)\]"):
        ratios.compare_ratio(errors(3), errors(4), Mean(), rng())
    with pytest.raises(ValueError, match=r"got -1\.0 at seed row 0, item 0"):
        ratios.compare_ratio(-np.ones((2, 3)), np.ones((2, 3)), Mean(), rng())
    with pytest.raises(ValueError, match="statistic above 0, got 0 in row 0"):
        ratios.compare_ratio(np.zeros((2, 3)), np.ones((2, 3)), Mean(), rng())


def test_quantile_ratios_and_exceedances_stand_inside_their_bands():
    method, baseline = errors(6, 80, seed=1), errors(6, 80, seed=2)
    levels = np.arange(0.05, 0.995, 0.05)
    band = ratios.quantile_ratio_band(method, baseline, levels, rng(), draws=400)
    logs = np.log(np.quantile(method, levels, axis=1) / np.quantile(baseline, levels, axis=1))
    np.testing.assert_allclose(band.value, np.exp(logs.mean(axis=1)))
    assert np.all((band.low < band.value) & (band.value < band.high))
    double = ratios.quantile_ratio_band(2 * baseline, baseline, levels, rng(), draws=50)
    np.testing.assert_allclose([double.low, double.high], 2.0)
    thresholds = np.geomspace(0.05, 20, 15)
    method[0, 0] = np.inf
    share = ratios.exceedance_band(method, thresholds, rng(), draws=400)
    np.testing.assert_allclose(share.value, [(method > t).mean() for t in thresholds])
    assert np.all((share.low <= share.value) & (share.value <= share.high))
    assert np.all(np.diff(share.value) <= 0)


@pytest.mark.parametrize(
    ("tail", "mean", "failures", "outcome", "words"),
    [
        (ratio(0.8, 0.7, 0.95), ratio(1.1, 1.0, 1.2), (0, 0), "success", "Better tail at accept"),
        (ratio(0.8, 0.7, 0.95), ratio(1.11, 1.0, 1.2), (1, 1), "costly", "pays more than 1.10"),
        (ratio(0.9, 0.7, 1.0), ratio(0.9, 0.8, 1.0), (0, 2), "unclear", "No difference shown"),
        (ratio(1.3, 1.1, 1.5), ratio(0.9, 0.8, 1.0), (0, 0), "worse", "Worse tail: tail × 1.300 ["),
        (ratio(0.8, 0.7, 0.9), ratio(1.0, 0.9, 1.1), (2, 0), "failing", "runs 2 against 0"),
        (ratio(0.8, 0.7, 0.9, 4), ratio(1.0, 0.9, 1.1, 4), (0, 0), "preliminary", "4 paired seeds"),
        (
            ratio(0.8, None, None, 1),
            ratio(1.0, None, None, 1),
            (0, 0),
            "preliminary",
            "1 paired se",
        ),
    ],
)
def test_the_verdict_follows_the_declared_rule(tail, mean, failures, outcome, words):
    verdict = ratios.judge_tail(tail, mean, failures=failures)
    assert verdict.outcome == outcome
    assert words in verdict.text
    assert verdict.success == (outcome == "success")


def test_ten_seeds_of_five_hundred_items_take_less_than_two_seconds_of_processor_time():
    method, baseline = errors(10, 500, seed=1), errors(10, 500, seed=2)
    start = time.process_time()
    ratios.compare_ratio(method, baseline, TailMean(0.2), rng(), item_draws="within")
    assert time.process_time() - start < 2.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("item_draws", "shared_difficulty", "least", "most"),
    [("shared", 0.3, 0.92, 1.0), ("shared", 0.0, 0.92, 1.0), ("within", 0.3, 0.75, 0.93)],
)
def test_the_bootstrap_covers_the_true_ratio_as_often_as_the_documentation_says(
    item_draws, shared_difficulty, least, most, monkeypatch
):
    monkeypatch.setattr(ratios, "DRAWS", 500)
    generator, hits = rng(11), 0
    true = np.exp(shared_difficulty**2 / 2)
    for _ in range(300):
        item, own = generator.normal(size=60), shared_difficulty * generator.normal(size=60)
        noise = 0.5 * generator.normal(size=(2, 10, 60))
        level = 0.15 * generator.normal(size=(10, 1))
        method, baseline = np.exp(item + own + noise[0] + level), np.exp(item + noise[1])
        estimate = ratios.compare_ratio(
            method, baseline, Mean(), generator, item_draws=item_draws
        ).estimate
        hits += estimate.low <= true <= estimate.high
    assert least < hits / 300 < most
