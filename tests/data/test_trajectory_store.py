"""The store of trajectories: chunks never leave their own, places and rows go round."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.types import EnvSpec

LONGEST = 6
SPEC = EnvSpec("example", 2, (-1.0,), (1.0,), LONGEST, can_terminate=True)


def episode(name, steps, ended, longest=LONGEST):
    """A trajectory whose every number tells its name and its step."""
    place = np.arange(steps + 1, dtype=np.float32)
    return Episode(
        observations=np.stack([np.full(steps + 1, name, np.float32), place], 1),
        actions=(place[:-1, None] + 1) / (longest + 1),
        rewards=-1.0 - place[:-1] / 10,
        terminated=ended,
        truncated=not ended,
        start_seed=name,
    )


def store_of(lengths, ends, **room):
    episodes = [episode(i, n, e) for i, (n, e) in enumerate(zip(lengths, ends, strict=True))]
    data = Demonstrations.from_episodes(episodes, SPEC, Provenance("example"))
    return TrajectoryStore.of(data, **room)


@jax.jit
def appended(store, observation, action, reward, terminated, after, ended):
    return TrajectoryStore.append(store, observation, action, reward, terminated, after, ended)


def inserted(store, name, steps, ended, whole=True):
    """Play an episode into the store step by step; the last step leaves it open unless whole."""
    new, changed = episode(name, steps, ended), None
    for t in range(steps):
        last = t == steps - 1
        store, other = appended(
            store, new.observations[t], new.actions[t], new.rewards[t],
            jnp.asarray(last and ended), new.observations[t + 1], jnp.asarray(last and whole),
        )  # fmt: skip
        changed = other if changed is None else changed | other
    return store, changed


@functools.partial(jax.jit, static_argnums=3)
def taken(store, item, start, chunk):
    return store.chunks(item[None], start[None], chunk, 0.9, with_next=True)


def check(store, item, start, chunk, name, steps, ended):
    """A chunk is that of its own trajectory, number by number."""
    found = taken(store, jnp.asarray(item), jnp.asarray(start), chunk)
    count = min(chunk, steps - start)
    assert found.observation[0].tolist() == [name, start]
    assert found.next_observation[0].tolist() == [name, start + count]
    assert found.mask[0].tolist() == [k < count for k in range(chunk)]
    own = (start + np.arange(count) + 1) / (LONGEST + 1)
    np.testing.assert_allclose(found.actions[0, :count, 0], own, rtol=1e-6)
    reward = sum(0.9**k * (-1.0 - (start + k) / 10) for k in range(count))
    np.testing.assert_allclose(found.reward[0], reward, rtol=1e-5)
    over = ended and start + count == steps
    np.testing.assert_allclose(found.discount[0], 0.0 if over else 0.9**count, rtol=1e-5)
    after = steps - start - count
    assert bool(found.next_known[0]) == (over or after >= chunk)
    if after >= chunk:
        following = (start + count + np.arange(chunk) + 1) / (LONGEST + 1)
        np.testing.assert_allclose(found.next_actions[0, :, 0], following, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, LONGEST), st.booleans()), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_every_chunk_stays_in_its_own_trajectory(shapes, chunk):
    rows = 5 * (LONGEST + 1)  # the most there can be, so that few programs are compiled
    store = store_of([n for n, _ in shapes], [e for _, e in shapes], offline_rows=rows)
    starts = store.critic_starts(chunk).tolist()
    for item, (steps, ended) in enumerate(shapes):
        assert starts[item] == (steps if ended else max(steps - chunk + 1, 0))
        for start in range(steps):
            check(store, item, start, chunk, item, steps, ended)


def test_the_data_s_next_chunk_starts_where_the_first_one_ended():
    store = store_of([6], [True])
    found = store.chunks(jnp.array([0]), jnp.array([1]), 2, 0.9, with_next=True)
    np.testing.assert_allclose(found.actions[0, :, 0] * (LONGEST + 1), [2, 3], rtol=1e-6)
    np.testing.assert_allclose(found.next_actions[0, :, 0] * (LONGEST + 1), [4, 5], rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(1, LONGEST), st.booleans()), min_size=1, max_size=14))
def test_new_trajectories_go_round_and_give_up_whole_what_they_overwrite(shapes):
    old = [(4, True), (3, False)]
    store = store_of([n for n, _ in old], [e for _, e in old], new_steps=12, new_items=3)
    held = {0: (0, *old[0]), 1: (1, *old[1])}
    for name, (steps, ended) in enumerate(shapes, start=10):
        before = {i: v for i, v in enumerate(store.length.tolist())}
        store, changed = inserted(store, name, steps, ended)
        place = 2 + (name - 10) % 3
        held = {i: v for i, v in held.items() if int(store.length[i])}
        held[place] = (name, steps, ended)
        gone = {i for i, n in before.items() if n and not int(store.length[i])}
        assert set(np.flatnonzero(np.asarray(changed))) >= gone | {place}
        assert {0, 1} <= set(held)  # offline trajectories stay
        assert store.held.tolist() == [i in held for i in range(5)]
        assert store.new.tolist() == [i in held and i >= 2 for i in range(5)]
        for item, (own, length, over) in held.items():
            for start in range(length):
                check(store, item, start, 3, own, length, over)


def test_an_open_trajectory_grows_and_only_its_whole_chunks_train_the_critic():
    store = store_of([4], [True], new_steps=12, new_items=2)
    for steps in range(1, LONGEST + 1):
        grown, changed = inserted(store, 9, steps, False, whole=False)
        assert changed.tolist() == [False, True, False]
        assert grown.length.tolist() == [4, steps, 0]
        assert grown.critic_starts(3).tolist() == [4, max(steps - 2, 0), 0]
        for start in range(steps):
            check(grown, 1, start, 3, 9, steps, False)


def test_a_trajectory_that_is_cut_stays_and_the_next_begins_behind_it():
    store = store_of([4], [True], new_steps=12, new_items=2)
    store = inserted(store, 9, 2, False, whole=False)[0].close()
    assert int(store.open_steps) == 0
    again = store.close()  # there is nothing to close
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), store, again))
    store, _ = inserted(store, 8, 3, True)
    for item, (name, steps, ended) in enumerate([(0, 4, True), (9, 2, False), (8, 3, True)]):
        for start in range(steps):
            check(store, item, start, 3, name, steps, ended)


def test_rows_to_spare_change_no_chunk():
    store = store_of([4, 2], [True, False], new_steps=6, new_items=1, offline_rows=20)
    store, _ = inserted(store, 7, 5, False)
    for item, (name, steps, ended) in enumerate([(0, 4, True), (1, 2, False), (7, 5, False)]):
        for start in range(steps):
            check(store, item, start, 3, name, steps, ended)
    with pytest.raises(ValueError, match="the dataset needs 8 rows, offline_rows is 7"):
        store_of([4, 2], [True, False], offline_rows=7)


def test_a_store_without_room_takes_no_new_trajectory():
    with pytest.raises(ValueError, match="no room for new trajectories; make it with new_steps"):
        inserted(store_of([4], [True]), 9, 2, True)


def test_room_for_steps_needs_room_for_a_trajectory():
    with pytest.raises(ValueError, match="new_items must be at least 1 to keep 10 new steps"):
        store_of([4], [True], new_steps=10)
