"""Returns of action chunks: by hand, and against the sum written out."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.numerics.chunk_returns import chunk_return

REWARDS = [-1.0, -1.0, -1.0, 0.0]


def starts(rewards, ends, chunk, gamma=0.99):
    """Every start of one episode; behind its end stand numbers that must not be read."""
    total = len(rewards)
    padded = np.full(total + chunk, 1e6, np.float32)
    padded[:total] = rewards
    over = np.ones(total + chunk, bool)
    over[:total] = ends
    rows = np.arange(total)[:, None] + np.arange(chunk)
    steps = jnp.asarray(total - np.arange(total))
    return chunk_return(jnp.asarray(padded[rows]), jnp.asarray(over[rows]), steps, gamma)


def test_an_episode_that_ends_by_hand():
    found = starts(REWARDS, [False, False, False, True], 3)
    np.testing.assert_allclose(found.reward, [-2.9701, -1.99, -1.0, 0.0], rtol=1e-5)
    np.testing.assert_allclose(found.discount, [0.970299, 0.0, 0.0, 0.0], rtol=1e-5)
    assert found.trains_critic.tolist() == [True] * 4
    assert found.steps.tolist() == [3, 3, 2, 1]
    assert found.played.tolist() == [
        [True] * 3,
        [True] * 3,
        [True, True, False],
        [True] + [False] * 2,
    ]


def test_an_episode_that_is_cut_by_hand():
    found = starts(REWARDS, [False] * 4, 3)
    np.testing.assert_allclose(found.discount[1], 0.970299, rtol=1e-5)
    assert found.trains_critic.tolist() == [True, True, False, False]


def test_rewards_behind_the_end_of_the_task_do_not_count_by_hand():
    found = starts([-1.0, 0.0, -1.0], [False, True, False], 3)
    assert float(found.reward[0]) == -1.0  # not -1.9801
    assert float(found.discount[0]) == 0.0
    assert found.played[0].tolist() == [True, True, False]
    assert bool(found.trains_critic[1])


def test_five_steps_discount_by_hand():
    found = starts([0.0] * 6, [False] * 6, 5)
    assert float(found.discount[0]) == pytest.approx(0.95099, abs=5e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-2, 2, width=32), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)
def test_returns_equal_the_sum_written_out(steps, chunk, gamma):
    rewards, ends = [r for r, _ in steps], [e for _, e in steps]
    found = starts(rewards, ends, chunk, gamma)
    for t in range(len(steps)):
        total, alive, count = 0.0, True, min(chunk, len(steps) - t)
        played = []
        for k in range(count):
            total += gamma**k * rewards[t + k] * alive
            played.append(alive)
            alive = alive and not ends[t + k]
        np.testing.assert_allclose(found.reward[t], total, atol=1e-4)
        np.testing.assert_allclose(found.discount[t], gamma**count * alive, atol=1e-6)
        assert bool(found.trains_critic[t]) == (count == chunk or not alive)
        assert found.played[t].tolist() == played + [False] * (chunk - count)
