"""The replay ring: order, overwriting, views of one run, donation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.data.replay import Replay, take
from steelyard.types import RewardFreeTransition

SEEDS, ROWS, CAPACITY = 2, 3, 9


def record(value):
    """Rows that carry their number; run 1's are 100 more than run 0's."""
    value = jnp.asarray(value, jnp.float32)
    return RewardFreeTransition(
        observation=jnp.stack([value, -value], -1),
        action=value[..., None],
        terminated=value % 2 == 0,
        next_observation=jnp.stack([value + 0.5, -value], -1),
    )


def batch(first):
    return record(first + np.arange(ROWS)[None] + 100 * np.arange(SEEDS)[:, None])


def empty(capacity=CAPACITY):
    return Replay.create(record(0.0), SEEDS, capacity, ROWS)


def filled(batches):
    replay = empty()
    for i in range(batches):
        replay = replay.insert(batch(i * ROWS))
    return replay


def numbers(replay, run=0):
    return np.asarray(replay.storage.action[run, :, 0])


def test_an_empty_ring_holds_nothing_and_keeps_types():
    replay = empty()
    assert replay.storage.terminated.dtype == bool
    assert replay.storage.observation.shape == (SEEDS, CAPACITY, 2)
    assert replay.size.tolist() == replay.position.tolist() == [0, 0]


def test_capacity_is_rounded_up_to_whole_insertions():
    assert empty(7).storage.action.shape[1] == 9
    assert empty(9).storage.action.shape[1] == 9


def test_rows_lie_in_order_and_size_counts_them():
    replay = filled(2)
    np.testing.assert_array_equal(numbers(replay)[:6], np.arange(6))
    assert replay.size.tolist() == [6, 6]


def test_each_run_keeps_its_own_rows():
    replay = filled(2)
    np.testing.assert_array_equal(numbers(replay, 1)[:6], 100 + np.arange(6))


def test_a_full_ring_overwrites_its_oldest_rows_only():
    replay = filled(4)
    np.testing.assert_array_equal(numbers(replay), [9, 10, 11, 3, 4, 5, 6, 7, 8])
    assert replay.size.tolist() == [CAPACITY, CAPACITY]
    assert replay.position.tolist() == [3, 3]


def test_all_leaves_of_a_row_move_together():
    rows = take(jax.tree.map(lambda x: x[0], filled(5).storage), jnp.arange(CAPACITY))
    value = rows.action[:, 0]
    np.testing.assert_array_equal(rows.observation[:, 1], -value)
    np.testing.assert_array_equal(rows.next_observation[:, 0], value + 0.5)
    np.testing.assert_array_equal(rows.terminated, np.asarray(value) % 2 == 0)


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5, 6])
def test_recent_counts_back_from_the_last_row_across_the_seam(batches):
    replay = filled(batches)
    held = min(batches * ROWS, CAPACITY)

    def newest(view):
        return take(view.storage, view.recent(jnp.arange(held))).action[:, 0]

    found = jax.vmap(newest)(replay)
    last = batches * ROWS - 1
    np.testing.assert_array_equal(found[0], last - np.arange(held))
    np.testing.assert_array_equal(found[1], 100 + last - np.arange(held))


def test_an_insertion_that_would_wrap_is_refused():
    two = jax.tree.map(lambda x: x[:, :2], batch(0))
    with pytest.raises(ValueError, match=r"divide the capacity: got 2 rows, 9"):
        empty().insert(two)


def test_an_insertion_leaves_the_old_ring_as_it_was():
    before = filled(1)
    before.insert(batch(50))
    np.testing.assert_array_equal(numbers(before)[:ROWS], np.arange(ROWS))
    assert before.size.tolist() == [ROWS, ROWS]


def test_a_donated_ring_equals_a_copied_one_and_its_buffers_are_reused():
    insert = jax.jit(lambda replay, rows: replay.insert(rows), donate_argnums=0)
    donated, copied = empty(), empty()
    for i in range(5):
        before, rows = donated, batch(i * ROWS)
        donated, copied = insert(donated, rows), copied.insert(rows)
        assert before.storage.observation.is_deleted()
    jax.tree.map(np.testing.assert_array_equal, donated, copied)
