"""Backward walks: starts fall one by one, and in the long run each comes as often as it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.acfql import ACFQLConfig
from steelyard.data.normalisation import Normaliser
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.training.backward_walk import BackwardWalk
from steelyard.training.offline_rl import draw_chunks, drawing
from steelyard.training.operator_demonstrations import record_operators

CONFIG = ACFQLConfig(batch_size=32)


@pytest.fixture(scope="module")
def data():
    store = TrajectoryStore.of(record_operators("sparse/Fork-v0", "fork-small", 0).data)
    ratio = jnp.linspace(0.2, 3.0, store.length.shape[0])
    return drawing(store, CONFIG.horizon_length, Normaliser.identity(4), ratio)


def walked(data, how, stride, batches):
    @jax.jit
    def run(key):
        def one(walk, key):
            found = draw_chunks(CONFIG, data, key, CONFIG.batch_size)
            found, walk = walk.draw(found, data, key, CONFIG, how, stride)
            return walk, (found.items, found.starts, found.owed)

        return jax.lax.scan(one, BackwardWalk.empty(32), jax.random.split(key, batches))

    return [np.asarray(x) for x in run(jax.random.key(0))[1]]


def test_starts_fall_by_one_until_a_trajectory_is_exhausted(data):
    items, starts, _ = walked(data, "walk", 1, 300)
    limit = np.asarray(data.store.critic_starts(CONFIG.horizon_length))
    same = (items[1:] == items[:-1]) & (starts[:-1] > 0)
    assert (starts[1:][same] == starts[:-1][same] - 1).all()
    begun = ~same
    assert (starts[1:][begun] == limit[items[1:][begun]] - 1).all()
    assert (starts[0] == limit[items[0]] - 1).all()


def test_in_the_long_run_items_come_as_often_as_they_are_drawn(data):
    items, starts, owed = walked(data, "walk", 1, 20_000)
    wanted = np.asarray(data.critic.probabilities)
    found = np.bincount(items[2_000:].ravel(), minlength=len(wanted)) / items[2_000:].size
    np.testing.assert_allclose(found, wanted, atol=0.01)
    np.testing.assert_allclose(owed, np.asarray(data.critic.correction)[items], rtol=1e-6)
    longest = int(np.argmax(wanted))
    own = starts[2_000:][items[2_000:] == longest]
    share = np.bincount(own) / len(own)
    assert share.max() / share.min() < 1.3


def test_a_stride_leaves_starts_out_and_an_endpoint_stays(data):
    items, starts, _ = walked(data, "walk", 3, 200)
    same = (items[1:] == items[:-1]) & (starts[:-1] >= 3)
    assert (starts[1:][same] == starts[:-1][same] - 3).all()
    limit = np.asarray(data.store.critic_starts(CONFIG.horizon_length))
    items, starts, _ = walked(data, "endpoint", 1, 50)
    assert (starts == limit[items] - 1).all()
