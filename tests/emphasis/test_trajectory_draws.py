"""How much each trajectory counts: numbers by hand, and what each kind of draw gives whom."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import length_base
from steelyard.emphasis.trajectory_draws import (
    METRICS,
    TrajectoryEmphasis,
    TrajectoryItems,
    new_ratio,
    trajectory_ratio,
)

RANK = TrajectoryEmphasis("rank")


def items(starts, scores=None, new=None, labels=None, success=None, order=None, reward=None):
    count = len(starts)
    none = [0] * count
    return TrajectoryItems(
        starts=jnp.array(starts),
        labels=jnp.array(none if labels is None else labels),
        new=jnp.array(none if new is None else new, bool),
        success=jnp.array(none if success is None else success, bool),
        order=jnp.array(none if order is None else order),
        td_scores=jnp.array(none if scores is None else scores, jnp.float32),
        reward_scores=None if reward is None else jnp.array(reward, jnp.float32),
    )


def shares(emphasis, given):
    ratio = trajectory_ratio(emphasis, given)
    return np.asarray(ratio), np.asarray(ratio * length_base(given.starts))


def test_ranks_of_equal_lengths_by_hand():
    ratio, share = shares(RANK, items([1, 1, 1, 1], [3.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(ratio, [1.59599, 0.88409, 0.88409, 0.63582], rtol=1e-4)
    np.testing.assert_allclose(share, [0.39900, 0.22102, 0.22102, 0.15896], rtol=1e-4)


def test_ranks_of_unequal_lengths_by_hand():
    ratio, share = shares(RANK, items([10, 20, 30, 40], [3.0, 1.0, 1.0, 0.0]))
    np.testing.assert_allclose(ratio, [1.87226, 1.03314, 1.03314, 0.74051], rtol=1e-4)
    np.testing.assert_allclose(share, [0.18723, 0.20663, 0.30994, 0.29620], rtol=1e-4)


def test_ties_share_the_mean_of_their_ranks_by_hand():
    by_success = dataclasses.replace(RANK, metric="success_binary")
    ratio, _ = shares(by_success, items([1, 1, 1, 1], reward=[2.0, 0.1, 0.1, 0.1]))
    np.testing.assert_allclose(ratio, [1.59599, 0.80134, 0.80134, 0.80134], rtol=1e-4)


@pytest.mark.parametrize(
    ("count", "largest", "smallest", "effective", "top"),
    [
        (300, 18.2, 0.385, 92.7, 0.40),
        (2_000, 63.8, 0.362, 325, 0.44),
        (10_000, 189.9, 0.351, 904, 0.46),
    ],
)  # fmt: skip
def test_the_size_of_the_tilt_by_hand(count, largest, smallest, effective, top):
    ratio, share = shares(RANK, items([1] * count, np.arange(count)))
    assert ratio.max() == pytest.approx(largest, rel=5e-3)
    assert ratio.min() == pytest.approx(smallest, rel=5e-3)
    assert 1 / np.sum(share**2) == pytest.approx(effective, rel=5e-3)
    assert np.sort(share)[-count // 10 :].sum() == pytest.approx(top, abs=6e-3)
    assert share.sum() == pytest.approx(1.0, abs=1e-5)


def test_balanced_clusters_by_hand():
    labels = np.repeat([0, 1, 2, 3], [112, 24, 16, 8])
    given = items([1] * 160, labels=labels)
    for tau, expected in ((0.0, (0.357, 1.667, 2.5, 5.0)), (0.5, (0.678, 1.464, 1.793, 2.536))):
        ratio, share = shares(TrajectoryEmphasis("balanced", tau=tau), given)
        np.testing.assert_allclose(ratio[[0, 112, 136, 152]], expected, rtol=2e-3)
        if tau == 0.0:
            assert 1 / np.sum(share**2) == pytest.approx(67.2, rel=1e-3)
    ratio, _ = shares(TrajectoryEmphasis("balanced", tau=1.0), given)
    np.testing.assert_array_equal(ratio, 1.0)


def test_half_of_a_symmetric_batch_is_offline_whatever_there_is():
    given = items([30, 50, 4, 0], new=[0, 0, 1, 1])
    _, share = shares(TrajectoryEmphasis("symmetric"), given)
    np.testing.assert_allclose(share[:2].sum(), 0.5, rtol=1e-5)
    np.testing.assert_allclose(share[2], 0.5, rtol=1e-5)
    _, alone = shares(TrajectoryEmphasis("symmetric"), items([30, 50], new=[0, 0]))
    np.testing.assert_allclose(alone, [30 / 80, 50 / 80], rtol=1e-5)


def test_trajectories_count_alike_however_long_they_are():
    _, share = shares(TrajectoryEmphasis("trajectories"), items([10, 20, 0, 40]))
    np.testing.assert_allclose(share, [1 / 3, 1 / 3, 0.0, 1 / 3], rtol=1e-5)


def test_success_takes_the_place_of_clusters_and_new_ones_are_their_own():
    emphasis = TrajectoryEmphasis("balanced", labels="success", cap=100.0)
    given = items([10, 10, 10, 10, 10], new=[0, 0, 0, 1, 1], success=[1, 0, 0, 1, 0])
    _, share = shares(emphasis, given)
    np.testing.assert_allclose(share, [1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6], rtol=1e-5)


def test_recency_ranks_the_newest_first_and_offline_data_tie():
    emphasis = TrajectoryEmphasis("rank", metric="recency")
    ratio, _ = shares(emphasis, items([5, 5, 5, 5], order=[0, 0, 1, 2], new=[0, 0, 1, 1]))
    assert ratio[3] > ratio[2] > ratio[0] == ratio[1]


def test_the_inverse_turns_the_ranks_around():
    given = items([1, 1, 1], [3.0, 2.0, 1.0])
    up, _ = shares(RANK, given)
    down, _ = shares(dataclasses.replace(RANK, inverse=True), given)
    np.testing.assert_allclose(up, down[::-1], rtol=1e-6)


@pytest.mark.parametrize(
    "emphasis",
    [
        TrajectoryEmphasis(),
        dataclasses.replace(RANK, power=0.0),
        TrajectoryEmphasis("balanced", tau=1.0),
    ],
)  # fmt: skip
def test_no_sharpness_is_one_exactly_and_nothing_is_drawn_where_nothing_is(emphasis):
    given = items([7, 3, 0, 11], [1.0, 5.0, 9.0, 2.0], labels=[0, 1, 1, 0])
    ratio, _ = shares(emphasis, given)
    np.testing.assert_array_equal(ratio, [1.0, 1.0, 0.0, 1.0])


def test_a_trajectory_begins_with_the_largest_ratio_of_the_new_ones():
    ratio = jnp.array([5.0, 2.0, 1.0, 0.0])
    assert float(new_ratio(ratio, jnp.array([False, False, True, True]))) == 1.0
    assert float(new_ratio(ratio, jnp.array([False] * 4))) == 5.0


def test_a_score_that_is_missing_is_asked_for():
    with pytest.raises(ValueError, match="metric 'avg_reward' needs the items' reward_scores"):
        trajectory_ratio(TrajectoryEmphasis("rank", metric="avg_reward"), items([1, 1]))
    assert {"td_error_rank", "success_binary", "avg_reward", "uqm_reward"} <= set(METRICS)
