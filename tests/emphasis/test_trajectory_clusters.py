"""Clusters of trajectories: what they look like, and how many there are."""

import numpy as np
import pytest

from steelyard.emphasis.trajectory_clusters import (
    ClusterConfig,
    cluster_trajectories,
    return_homogeneity,
)
from steelyard.emphasis.trajectory_features import (
    Layout,
    Projection,
    describe_trajectory,
    layout_of,
    robomimic_layout,
)

POINT = Layout(position=(0, 1))


def walks(ends, number, seed=0):
    """Trajectories in a plane, ``number`` to each end, each end with a pace of its own."""
    random = np.random.default_rng(seed)
    found = []
    for place, end in enumerate(ends):
        for _ in range(number):
            line = np.linspace([0.0, 0.0], end, 30 + 12 * place)
            found.append(line + 0.01 * random.standard_normal(line.shape))
    return found


SIX = [(np.cos(a), np.sin(a)) for a in np.arange(6) * np.pi / 3]


def returns_of(scale=1.0, shift=0.0, number=20):
    values = np.repeat([-60.0, -50.0, -40.0, -30.0, -20.0, -10.0], number)
    noise = np.random.default_rng(1).standard_normal(len(values))
    return scale * (values + noise) + shift


@pytest.mark.parametrize("seed", range(2))
def test_k_is_invariant_to_reward_scale(seed):
    frames = walks(SIX, 20, seed)
    found = [
        cluster_trajectories(frames, returns_of(scale, shift), POINT, ClusterConfig(), seed)
        for scale, shift in ((1.0, 0.0), (1e-3, 0.0), (-1e3, 100.0))
    ]
    assert [f.k for f in found] == [6, 6, 6]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].labels, other.labels)
        np.testing.assert_allclose(found[0].criterion, other.criterion, rtol=1e-6)


def test_equal_returns_leave_the_choice_to_the_silhouette_which_is_said():
    found = cluster_trajectories(walks(SIX, 20), np.full(120, -3.0), POINT, ClusterConfig(), 0)
    assert found.k == 6
    assert found.chosen_by == "silhouette"
    assert found.note == "all returns are equal, so the silhouette chose K"


@pytest.mark.parametrize("criterion", ["silhouette", "stability"])
def test_other_criteria_find_what_is_there(criterion):
    frames = walks((SIX[0], SIX[3]), 15)
    config = ClusterConfig(k_criterion=criterion)
    found = cluster_trajectories(frames, returns_of(number=5), POINT, config, 0)
    assert found.chosen_by == criterion
    assert found.labels.tolist() == [0] * 15 + [1] * 15


def test_homogeneity_by_hand():
    labels = np.array([0, 0, 1, 1])
    assert return_homogeneity(labels, np.array([1.0, 1.0, 3.0, 3.0])) == 0.0
    # Within 2·0.5 = 1 over 2 degrees of freedom, in all 5 over 3.
    found = return_homogeneity(labels, np.array([1.0, 2.0, 3.0, 4.0]))
    assert found == pytest.approx(0.5 / (5 / 3))
    assert return_homogeneity(labels, np.full(4, 7.0)) == 1.0


def test_a_single_odd_trajectory_is_no_cluster():
    frames = [*walks(SIX[:2], 30), np.linspace([0.0, 0.0], [4.0, 4.0], 40)]
    returns = np.concatenate([np.full(30, -1.0), np.full(30, -2.0), [-5.0]])
    found = cluster_trajectories(frames, returns, POINT, ClusterConfig(), 0)
    assert np.bincount(found.labels).min() >= 5
    assert found.labels[0] != found.labels[30]


def test_where_nothing_is_apart_but_a_few_odd_ones_there_is_nothing_to_balance():
    frames = [np.linspace([0.0, 0.0], [1.0, 0.0], 40)] * 30
    odd = [np.linspace([0.0, 0.0], end, 40) for end in ([9.0, 9.0], [-9.0, 3.0])]
    frames = [*frames, *odd]
    found = cluster_trajectories(frames, np.arange(32.0), POINT, ClusterConfig(), 0)
    assert found.k == 1
    assert "nothing to balance" in found.note


def test_clusters_are_numbered_by_size_and_describe_themselves():
    frames = [*walks(SIX[:1], 10), *walks(SIX[3:4], 30)]
    returns = np.repeat([-1.0, -5.0], [10, 30])
    found = cluster_trajectories(frames, returns, POINT, ClusterConfig(), 0)
    assert np.bincount(found.labels).tolist() == [30, 10]
    assert found.assign(frames[0]) == 1
    assert found.assign(frames[-1]) == 0
    metrics = found.metrics()
    assert metrics["k_used"] == 2
    assert metrics["cluster/offline/prob_0"] == 0.75
    assert metrics["cluster/offline/count_min"] == 10
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert metrics["cluster/offline/prob_entropy"] == pytest.approx(entropy)
    assert metrics["cluster/offline/kl_to_uniform"] == pytest.approx(np.log(2) - entropy)
    assert metrics["cluster/offline/ess"] == pytest.approx(40 / ((2 / 3) ** 2 * 0.75 + 4 * 0.25))
    table = found.table(np.full(40, 39))
    assert [row["ret_mean"] for row in table] == [-5.0, -1.0]


@pytest.mark.parametrize("k", [1, 41, 0])
def test_a_number_of_clusters_that_cannot_be_is_refused(k):
    message = f"k must be at least 2, .* different items, 40; got k = {k}"
    with pytest.raises(ValueError, match=message):
        cluster_trajectories(walks(SIX[:2], 20), returns_of()[:40], POINT, ClusterConfig(k=k), 0)


def flat(observations, layout, relative=False):
    return np.concatenate(describe_trajectory(observations, layout, relative))


def test_features_ignore_quaternion_sign():
    random = np.random.default_rng(0)
    frames = random.standard_normal((30, 19))
    for part in (slice(3, 7), slice(12, 16)):
        frames[:, part] /= np.linalg.norm(frames[:, part], axis=1, keepdims=True)
    turned = frames.copy()
    flips = random.choice([-1.0, 1.0], (30, 1))
    turned[:, 3:7] *= flips
    turned[:, 12:16] *= flips
    layout = robomimic_layout(19)
    np.testing.assert_allclose(flat(frames, layout), flat(turned, layout), atol=1e-12)


def test_speed_says_nothing_of_length_and_places_nothing_of_where_a_segment_lies():
    line = np.linspace([0.0, 0.0], [1.0, 0.0], 101)
    longer = np.linspace([0.0, 0.0], [2.0, 0.0], 201)
    assert flat(line, POINT)[1] == pytest.approx(flat(longer, POINT)[1])
    moved = flat(line + np.array([5.0, -3.0]), POINT, relative=True)
    np.testing.assert_allclose(flat(line, POINT, relative=True), moved, atol=1e-12)


def test_no_group_of_features_dominates_by_its_unit():
    frames = walks(SIX, 5)
    groups = [describe_trajectory(f, POINT) for f in frames]
    scaled = [describe_trajectory(f * 1000.0, POINT) for f in frames]
    one, other = (Projection.of(g)(g) for g in (groups, scaled))
    np.testing.assert_allclose(np.abs(one), np.abs(other), rtol=1e-4, atol=1e-6)


def test_layouts_by_task():
    assert layout_of("sparse/Fork-v0", 4) == POINT
    assert layout_of("sparse/HandlePress-v3", 10).objects == ((4, 5, 6),)
    assert layout_of("ogbench/cube-single-singletask-v0", 28) == Layout()
    assert layout_of("robosuite/lift", 19).others == (7, 8)
