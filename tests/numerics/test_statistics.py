import itertools

import numpy as np
import pytest
import scipy.stats

from steelyard.numerics import statistics as stats
from steelyard.numerics.statistics import Anchor

RANDOM, EXPERT = Anchor(-1228.8, 9.0), Anchor(-150.0, 7.5)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("value", "score"), [(-300, 0.8610), (-200, 0.9537), (-170, 0.9815)])
def test_normalised_score_equals_the_values_worked_by_hand(value, score):
    assert stats.normalised_score(float(value), RANDOM, EXPERT) == pytest.approx(score, abs=5e-5)


@pytest.mark.parametrize(("a", "b"), [(2.0, 0.0), (0.01, 50.0), (300.0, -1e4)])
def test_normalised_score_is_invariant_under_positive_affine_maps_of_the_return(a, b):
    def moved(x):
        return Anchor(a * x.mean + b, a * x.standard_error)

    before = stats.normalised_score(-300.0, RANDOM, EXPERT)
    after = stats.normalised_score(a * -300.0 + b, moved(RANDOM), moved(EXPERT))
    assert after == pytest.approx(before, rel=1e-12)


def test_a_worse_negative_return_scores_lower():
    scores = [stats.normalised_score(r, RANDOM, EXPERT) for r in (-300.0, -160.0, -150.0, -140.0)]
    assert scores == sorted(scores)
    assert scores[0] < 1 < scores[-1]


@pytest.mark.parametrize("expert", [-150.0, -0.1, 0.0, 1 / 3, 9839.7])
def test_a_return_equal_to_the_experts_scores_exactly_one(expert):
    assert stats.normalised_score(expert, RANDOM, Anchor(expert, 1.0)) == 1.0


def test_no_score_where_the_expert_is_within_five_standard_errors_of_random():
    with pytest.raises(ValueError, match=r"-1200 ± 4.*-1228\.8 ± 9.*49\.2"):
        stats.normalised_score(-300.0, RANDOM, Anchor(-1200.0, 4.0))
    with pytest.raises(ValueError, match="beats the random policy"):
        stats.normalised_score(-300.0, Anchor(-10.0, 0.0), Anchor(-10.0, 0.0))
    just_enough = Anchor(-1228.8 + 5 * np.hypot(9.0, 4.0) + 1e-9, 4.0)
    assert stats.normalised_score(-1228.8, RANDOM, just_enough) == 0.0


def test_anchor_is_the_mean_and_its_standard_error():
    summary = stats.anchor(np.array([1.0, 2.0, 3.0, 4.0]))
    assert summary.mean == 2.5
    assert summary.standard_error == pytest.approx(np.sqrt(5 / 3) / 2)
    with pytest.raises(ValueError, match="at least 2 episodes, got 1"):
        stats.anchor(np.array([1.0]))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 11])
def test_interquartile_mean_equals_the_trimmed_mean_of_scipy(n):
    values = rng(n).normal(size=n)
    expected = scipy.stats.trim_mean(values, 0.25)
    assert stats.interquartile_mean(values[None])[0] == pytest.approx(expected, rel=1e-12)


def test_bootstrap_of_the_mean_agrees_with_enumerating_all_resamples():
    values = np.array([0.1, 0.4, 0.5, 1.3])
    exact = [np.mean(draw) for draw in itertools.product(values, repeat=4)]
    estimate = stats.bootstrap(values, rng())
    assert estimate.value == pytest.approx(0.575)
    assert (estimate.low, estimate.high) == pytest.approx(
        np.quantile(exact, [0.025, 0.975]), abs=0.03
    )
    assert estimate == stats.bootstrap(values, rng())


def test_bootstrap_interval_moves_and_stretches_with_the_data():
    values = rng(3).normal(size=7)
    base, moved = stats.bootstrap(values, rng()), stats.bootstrap(3 * values + 10, rng())
    assert moved.low == pytest.approx(3 * base.low + 10)
    assert moved.high == pytest.approx(3 * base.high + 10)


@pytest.mark.parametrize(
    ("n", "least", "most"), [(5, 0.78, 0.88), (10, 0.86, 0.94), (20, 0.89, 0.97)]
)
def test_bootstrap_covers_the_true_mean_as_often_as_the_documentation_says(
    n, least, most, monkeypatch
):
    monkeypatch.setattr(stats, "RESAMPLES", 1000)
    generator = rng(11)
    hits = 0
    for _ in range(500):
        estimate = stats.bootstrap(generator.normal(2.0, 3.0, size=n), generator)
        hits += estimate.low <= 2.0 <= estimate.high
    assert least < hits / 500 < most


def test_strata_keep_their_sizes_so_that_differences_between_tasks_are_no_noise():
    values = np.array([0.0, 0.0, 0.0, 100.0, 100.0, 100.0])
    tasks = np.array([0, 0, 0, 1, 1, 1])
    stratified = stats.bootstrap(values, rng(), strata=tasks)
    assert (stratified.low, stratified.high) == (50.0, 50.0)
    plain = stats.bootstrap(values, rng())
    assert plain.high - plain.low > 50


def test_one_run_gives_a_value_and_no_interval():
    one = np.array([0.7])
    for estimate in (
        stats.bootstrap(one, rng()),
        stats.bootstrap(one, rng(), stats.interquartile_mean),
        stats.paired_difference(one, one - 0.5, rng()).estimate,
        stats.unpaired_difference(one, np.array([0.1, 0.2]), rng()),
        stats.probability_of_improvement(one, np.array([0.1, 0.2]), rng()),
    ):
        assert estimate.low is None
        assert estimate.high is None
        assert estimate.n == 1
        assert np.isfinite(estimate.value)


@pytest.mark.parametrize("values", [np.array([]), np.array([0.0, np.nan]), np.array([np.inf, 1.0])])
def test_empty_and_non_finite_input_is_refused(values):
    with pytest.raises(ValueError, match=r"at least one number|must be finite, got"):
        stats.bootstrap(values, rng())


def test_pairs_are_matched_by_seed_and_not_by_position():
    seeds, x, y = stats.match_by_seed({3: 30.0, 1: 10.0, 2: 20.0}, {1: 1.0, 3: 3.0, 9: 9.0})
    assert seeds == [1, 3]
    np.testing.assert_array_equal(x, [10.0, 30.0])
    np.testing.assert_array_equal(y, [1.0, 3.0])


def test_pairing_removes_the_noise_that_both_arms_share():
    shared = rng(5).normal(0, 10, size=10)
    x, y = shared + 1.0 + 0.1 * rng(6).normal(size=10), shared
    paired = stats.paired_difference(x, y, rng())
    unpaired = stats.unpaired_difference(x, y, rng())
    assert paired.estimate.value == pytest.approx(unpaired.value)
    assert paired.estimate.low > 0 > unpaired.low


def test_paired_difference_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="got 2 and 3"):
        stats.paired_difference(np.ones(2), np.ones(3), rng())


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_differences_of_one_sign_give_the_least_p_value(n):
    assert (
        stats.sign_flip_p_value(np.arange(1.0, n + 1), rng()) == stats.least_p_value(n) == 2 / 2**n
    )


def test_sign_flip_test_equals_scipys_exact_permutation_test():
    differences = np.array([0.3, -0.1, 0.5, 0.2, -0.25, 0.4, 0.1])
    exact = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert stats.sign_flip_p_value(differences, rng()) == pytest.approx(exact.pvalue)


def test_sign_flip_test_is_symmetric_and_one_for_no_difference():
    differences = rng(1).normal(0.4, 1, size=8)
    assert stats.sign_flip_p_value(differences, rng()) == stats.sign_flip_p_value(
        -differences, rng()
    )
    assert stats.sign_flip_p_value(np.zeros(8), rng()) == 1.0


def test_random_patterns_beyond_twenty_pairs_agree_with_enumeration(monkeypatch):
    differences = rng(2).normal(0.5, 1, size=12)
    exact = stats.sign_flip_p_value(differences, rng())
    monkeypatch.setattr(stats, "MOST_PAIRS_ENUMERATED", 11)
    assert stats.sign_flip_p_value(differences, rng()) == pytest.approx(exact, abs=0.005)


def test_a_test_is_reported_from_six_pairs_on():
    x = np.arange(1.0, 7.0)
    five = stats.paired_difference(x[:5], np.zeros(5), rng())
    six = stats.paired_difference(x, np.zeros(6), rng())
    assert (five.p_value, five.least_p) == (None, 0.0625)
    assert (six.p_value, six.least_p) == (0.03125, 0.03125)


def test_probability_of_improvement_counts_all_pairs_and_ties_half():
    estimate = stats.probability_of_improvement(np.array([1.0, 3.0]), np.array([1.0, 2.0]), rng())
    assert estimate.value == (0.5 + 0 + 1 + 1) / 4
    x, y = rng(1).normal(size=6), rng(2).normal(size=9)
    forward = stats.probability_of_improvement(x, y, rng())
    backward = stats.probability_of_improvement(y, x, rng())
    assert forward.value + backward.value == pytest.approx(1.0)
    assert 0 <= forward.low <= forward.value <= forward.high <= 1
    everywhere = stats.probability_of_improvement(x + 100, y, rng())
    assert (everywhere.low, everywhere.value, everywhere.high) == pytest.approx((1.0, 1.0, 1.0))


def test_band_around_curves_equals_the_interval_of_each_point():
    curves = rng(4).normal(size=(6, 3))
    band = stats.bootstrap_band(curves, rng())
    for i in range(3):
        estimate = stats.bootstrap(curves[:, i], rng(i))
        assert band[:, i] == pytest.approx([estimate.low, estimate.high], abs=0.05)
    with pytest.raises(ValueError, match="at least 2 runs, got 1"):
        stats.bootstrap_band(curves[:1], rng())
