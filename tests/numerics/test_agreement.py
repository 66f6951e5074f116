"""Agreement against values worked out by hand or printed in the source."""

import math

import numpy as np
import pytest

from steelyard.numerics.agreement import (
    bootstrap_interval,
    cohen_kappa,
    cyclic_triads,
    krippendorff_alpha,
    raw_agreement,
    wilson_interval,
)

NO = math.nan
FOUR_OBSERVERS = np.array(
    [  # Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
        [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
    ]
)


def test_two_annotators_by_hand():
    first, second = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])  # LLRT against LRRT
    assert cohen_kappa(first, second) == pytest.approx(0.6364, abs=5e-5)
    answers = np.stack([first, second]).astype(float)
    assert krippendorff_alpha(answers) == pytest.approx(0.6667, abs=5e-5)
    assert raw_agreement(answers) == 0.75


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_of_four_observers_with_gaps_is_the_printed_one(metric, alpha):
    assert krippendorff_alpha(FOUR_OBSERVERS, metric) == pytest.approx(alpha, abs=1e-3)


def test_perfect_agreement_is_one_and_independent_answers_are_near_zero():
    rng = np.random.default_rng(0)
    one = rng.integers(5, size=4000).astype(float)
    other = rng.integers(5, size=4000).astype(float)
    for metric in ("nominal", "ordinal"):
        assert krippendorff_alpha(np.stack([one, one]), metric) == pytest.approx(1)
        assert abs(krippendorff_alpha(np.stack([one, other]), metric)) < 0.06
    assert abs(cohen_kappa(one.astype(int), other.astype(int))) < 0.06


def test_ordinal_alpha_forgives_neighbours_and_nominal_does_not():
    rng = np.random.default_rng(1)
    one = rng.integers(1, 6, size=300).astype(float)
    near = np.clip(one + rng.integers(-1, 2, size=300), 1, 5)
    answers = np.stack([one, near])
    assert krippendorff_alpha(answers, "ordinal") > krippendorff_alpha(answers, "nominal") + 0.2


def test_relabelling_categories_and_swapping_annotators_change_no_nominal_value():
    rng = np.random.default_rng(2)
    answers = rng.integers(3, size=(2, 60)).astype(float)
    renamed = (answers + 1) % 3
    assert krippendorff_alpha(renamed) == pytest.approx(krippendorff_alpha(answers))
    assert krippendorff_alpha(answers[::-1]) == pytest.approx(krippendorff_alpha(answers))
    first, second = answers.astype(int)
    assert cohen_kappa(second, first) == pytest.approx(cohen_kappa(first, second))


def test_what_cannot_be_corrected_for_chance_is_not_a_number():
    same = np.ones((2, 30))
    assert math.isnan(krippendorff_alpha(same))
    assert math.isnan(cohen_kappa(np.ones(30, int), np.ones(30, int)))
    alone = np.array([[1.0, 2.0, NO], [NO, NO, 3.0]])
    assert math.isnan(krippendorff_alpha(alone))
    assert math.isnan(raw_agreement(alone))


def test_the_bootstrap_covers_the_true_value_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(120):
        one = rng.integers(2, size=80)
        other = np.where(rng.random(80) < 0.2, 1 - one, one)
        answers = np.stack([one, other]).astype(float)
        low, high = bootstrap_interval(answers, raw_agreement, draws=200, seed=trial)
        covered += low <= 0.8 <= high
    assert 0.86 <= covered / 120 <= 1.0


def test_wilson_s_interval_by_hand():
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == 1


def test_circles_are_found_and_rankings_have_none():
    circle = cyclic_triads(np.array([0, 1, 2]), np.array([1, 2, 0]))
    assert circle == (1, 1)
    order = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    winners, losers = np.array(order).T
    assert cyclic_triads(winners, losers) == (0, 20)
    assert cyclic_triads(winners[:-1], losers[:-1]) == (0, 16)  # four triads lost a side


def test_a_coin_makes_a_quarter_of_all_triads_circular():
    rng = np.random.default_rng(4)
    pairs = np.array([(a, b) for a in range(40) for b in range(a + 1, 40)])
    flip = rng.random(len(pairs)) < 0.5
    winners = np.where(flip, pairs[:, 0], pairs[:, 1])
    losers = np.where(flip, pairs[:, 1], pairs[:, 0])
    cyclic, complete = cyclic_triads(winners, losers)
    assert complete == 40 * 39 * 38 // 6
    assert cyclic / complete == pytest.approx(0.25, abs=0.03)
