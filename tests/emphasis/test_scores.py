"""Values and errors of the scores and the clusters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import (
    SCORES,
    Balanced,
    cluster_labels,
    constant,
    diagnose,
    episode_return,
    own_loss,
)

ITEMS = {"x": jnp.arange(6.0).reshape(3, 2), "y": jnp.array([1.0, 2.0, 3.0])}


def squared_error(items):
    return (items["x"].sum(1) - items["y"]) ** 2


def test_every_score_is_registered_under_its_own_name():
    assert all(function.__name__ == name for name, function in SCORES.items())


def test_constant_scores_every_item_alike():
    assert constant(ITEMS).tolist() == [1.0, 1.0, 1.0]


def test_own_loss_is_the_loss_without_its_gradient():
    assert own_loss(ITEMS, squared_error).tolist() == [0.0, 9.0, 36.0]
    gradient = jax.grad(lambda items: own_loss(items, squared_error).sum())(ITEMS)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_own_loss_refuses_a_reduced_loss():
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(\)"):
        own_loss(ITEMS, lambda items: jnp.mean(squared_error(items)))


def test_items_that_disagree_in_number_are_refused():
    with pytest.raises(ValueError, match=r"got the sizes \[2, 3\]"):
        constant((jnp.zeros(2), jnp.zeros(3)))


def test_episode_returns_by_hand():
    rewards = jnp.array([1.0, 2.0, 3.0, 4.0, 100.0, jnp.nan])
    lengths = jnp.array([2, 0, 1, 1])
    assert jax.jit(episode_return)(rewards, lengths).tolist() == [3.0, 0.0, 3.0, 4.0]
    discounted = episode_return(jnp.ones(5), jnp.array([3, 2]), discount=0.5)
    assert discounted.tolist() == [1.75, 1.5]
    assert episode_return(jnp.ones(5), jnp.array([3, 2]), discount=0.0).tolist() == [1.0, 1.0]


def blobs():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [10, 30, 20])
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return centres[truth] + rng.normal(size=(60, 2)), truth


def test_clusters_are_found_and_numbered_by_size():
    features, truth = blobs()
    labels = cluster_labels(features, 3, seed=0)
    assert labels.dtype == np.int32
    assert (labels == np.array([2, 0, 1])[truth]).all()
    assert (labels == cluster_labels(features, 3, seed=0)).all()


def test_balancing_the_clusters_gives_each_a_third():
    features, truth = blobs()
    p = np.asarray(Balanced(cluster_labels(features, 3, seed=1))(jnp.zeros(60)))
    np.testing.assert_allclose(np.bincount(truth, p), 1 / 3, atol=1e-6)
    assert float(diagnose(jnp.asarray(p), jnp.zeros(60))["max_weight"]) == pytest.approx(2.0)


def test_bad_clusterings_get_one_clear_error():
    features, _ = blobs()
    with pytest.raises(ValueError, match="number of distinct items, 1, got 2"):
        cluster_labels(np.zeros((5, 2)), 2, seed=0)
    with pytest.raises(ValueError, match="number of distinct items, 60, got 0"):
        cluster_labels(features, 0, seed=0)
    features[7, 1] = np.nan
    with pytest.raises(ValueError, match="in 1 items, the first at item 7"):
        cluster_labels(features, 3, seed=0)
