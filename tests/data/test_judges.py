"""The synthetic judge: exact where nothing is noisy, and as noisy as it says."""

import dataclasses

import numpy as np
import pytest
from test_preferences import played

from steelyard.data.judges import JudgeConfig, compare, rate, utilities


def test_worth_by_hand():
    segments = played([0, 0])
    reward = np.array([[1.0, 2.0], [5.0, 7.0]], np.float32)
    success = np.array([[False, True], [False, False]])
    valid = np.array([[True, True], [True, False]])
    segments = dataclasses.replace(segments, reward=reward, success=success, valid=valid)
    assert utilities(segments, JudgeConfig()).tolist() == [3.0, 5.0]
    assert utilities(segments, JudgeConfig(gamma=0.5)).tolist() == [2.0, 5.0]
    assert utilities(segments, JudgeConfig("success")).tolist() == [1.0, 0.0]
    assert utilities(segments, JudgeConfig("last_reward")).tolist() == [2.0, 5.0]


def test_an_exact_judge_rates_by_quantile():
    worth = np.arange(100.0)
    which = np.random.default_rng(0).permutation(100)[:50]
    ratings = rate(worth, which, JudgeConfig(), np.random.default_rng(1))
    assert np.bincount(ratings.rating.astype(int)).tolist() == [0, 10, 10, 10, 10, 10]
    order = np.argsort(worth[which])
    assert (np.diff(ratings.rating[order]) >= 0).all()


def test_flips_and_noise_turn_ratings():
    worth, which, random = np.arange(2_000.0), np.arange(2_000), np.random.default_rng
    exact = rate(worth, which, JudgeConfig(), random(1)).rating
    flipped = rate(worth, which, JudgeConfig(flip=0.5), random(1)).rating
    assert np.mean(flipped != exact) == pytest.approx(0.5 * 0.8, abs=0.04)
    noisy = rate(worth, which, JudgeConfig(rating_noise=1.0), random(1)).rating
    assert 0.4 < np.corrcoef(noisy, exact)[0, 1] < 0.9


def test_an_exact_judge_compares_by_worth_and_ties_equals():
    worth = np.array([1.0, 3.0, 3.0])
    pairs = compare(
        worth, np.array([0, 1]), np.array([1, 2]), JudgeConfig(), np.random.default_rng(0)
    )
    assert (pairs.winner[0], pairs.loser[0], pairs.label[0]) == (1, 0, 1.0)
    assert pairs.label[1] == 0.5
    assert pairs.strength[1] == 0.0


def test_answers_come_as_often_as_davidson_says():
    """β|Δ| = 1, ν = 0.5: 0.5984, 0.2201, 0.1815, within four standard errors."""
    count = 20_000
    worth = np.concatenate([np.full(count, 0.5), np.full(count, -0.5)])  # deviation 0.5, Δ = 2
    pairs = compare(
        worth,
        np.arange(count),
        np.arange(count, 2 * count),
        JudgeConfig(beta=0.5, tie=0.5),
        np.random.default_rng(0),
    )
    tied = pairs.label == 0.5
    better = ~tied & (pairs.winner < count)
    for share, expected in ((better, 0.5984), (~tied & ~better, 0.2201), (tied, 0.1815)):
        error = np.sqrt(expected * (1 - expected) / count)
        assert share.mean() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("change", [{"bins": 1}, {"flip": 1.5}, {"beta": 0.0}, {"tie": -1.0}])
def test_a_judge_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match="judge"):
        JudgeConfig(**change)
