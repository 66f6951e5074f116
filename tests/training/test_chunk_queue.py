"""Chunk queues: the head is the base action for the observation in hand, in every environment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.chunk_queue import (
    BasePlanner,
    advance,
    head,
    make_planner,
    on_host,
    plan_keys,
    start,
)
from steelyard.types import EnvSpec

OBS, ACT, CHUNK = 2, 3, 4
SPEC = EnvSpec("queue", OBS, (-1.0,) * ACT, (1.0,) * ACT, 50, can_terminate=True)
KEY = jax.random.key(2)


def telling(observation, envs, plans):
    """Chunks whose actions say what they were planned from: (observation, 100·env + plan, h)."""
    chunks = np.zeros((len(envs), CHUNK, ACT), np.float32)
    chunks[..., 0] = observation[:, :1]
    chunks[..., 1] = (100 * envs + plans)[:, None]
    chunks[..., 2] = np.arange(CHUNK)
    return chunks


def seen(time, envs):
    """An observation that tells time and environment."""
    return np.stack([1_000.0 * time + np.arange(envs), np.arange(envs)], 1).astype(np.float32)


def bits(queue):
    return [x.tobytes() for x in queue]


# By hand.


def test_a_queue_starts_with_the_first_action_of_each_plan():
    queue = start(seen(0, 3), telling)
    assert head(queue).tolist() == [[0, 0, 0], [1, 100, 0], [2, 200, 0]]
    assert queue.cursor.tolist() == [0, 0, 0]
    assert queue.plans.tolist() == [1, 1, 1]


def test_three_steps_by_hand():
    """Two environments, two actions played of each chunk, the second reset at the first step."""
    queue = start(seen(0, 2), telling)
    queue = advance(queue, seen(1, 2), np.array([False, True]), telling, 2)
    assert head(queue).tolist() == [[0, 0, 1], [1001, 101, 0]]
    queue = advance(queue, seen(2, 2), np.array([False, False]), telling, 2)
    assert head(queue).tolist() == [[2000, 1, 0], [1001, 101, 1]]
    queue = advance(queue, seen(3, 2), np.array([False, False]), telling, 2)
    assert head(queue).tolist() == [[2000, 1, 1], [3001, 102, 0]]
    assert queue.plans.tolist() == [2, 3]


def test_advancing_by_the_executed_length_replans():
    for executed in range(1, CHUNK + 1):
        queue = start(seen(0, 1), telling)
        for time in range(1, executed + 1):
            queue = advance(queue, seen(time, 1), np.array([False]), telling, executed)
        assert head(queue).tolist() == [[1_000 * executed, 1, 0]]


@pytest.mark.parametrize("age", range(CHUNK))
def test_after_a_discard_no_action_of_the_old_chunk_is_left(age):
    queue = start(seen(0, 2), telling)
    for time in range(1, age + 1):
        queue = advance(queue, seen(time, 2), np.array([False, False]), telling, CHUNK)
    queue = advance(queue, seen(50, 2), np.array([False, True]), telling, CHUNK)
    assert (queue.actions[1, :, 0] == 50_001).all()
    assert (queue.actions[1, :, 1] == 101).all()
    assert queue.cursor[1] == 0


def test_a_planner_is_asked_for_due_environments_only_and_not_at_all_where_none_is():
    asked = []

    def listening(observation, envs, plans):
        asked.append((observation[:, 0].tolist(), envs.tolist(), plans.tolist()))
        return telling(observation, envs, plans)

    queue = start(seen(0, 4), listening)
    queue = advance(queue, seen(1, 4), np.array([False, True, False, True]), listening, 3)
    queue = advance(queue, seen(2, 4), np.zeros(4, bool), listening, 3)
    advance(queue, seen(3, 4), np.array([False, False, False, True]), listening, 3)
    assert asked == [
        ([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0]),
        ([1001, 1003], [1, 3], [1, 1]),
        ([3000, 3002, 3003], [0, 2, 3], [1, 1, 2]),
    ]


@pytest.mark.parametrize("executed", [0, CHUNK + 1])
def test_an_executed_length_out_of_range_is_refused(executed):
    queue = start(seen(0, 1), telling)
    with pytest.raises(ValueError, match=f"the chunk's 4 actions, got {executed}"):
        advance(queue, seen(1, 1), np.array([False]), telling, executed)


# Laws.


def test_looking_at_the_head_leaves_the_queue_as_it_is():
    queue = start(seen(0, 3), telling)
    queue = advance(queue, seen(1, 3), np.array([True, False, False]), telling, 3)
    before, first = bits(queue), head(queue)
    for _ in range(5):
        again = head(queue)
        again += 1.0  # the head is a copy
    assert bits(queue) == before
    np.testing.assert_array_equal(head(queue), first)


def test_a_queue_cannot_be_written_and_advancing_leaves_it_as_it_was():
    queue = start(seen(0, 2), telling)
    before = bits(queue)
    for array in queue:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    advance(queue, seen(1, 2), np.array([True, False]), telling, 1)
    assert bits(queue) == before


class Story(NamedTuple):
    """When which environment starts an episode, and how much of a chunk is played."""

    discard: np.ndarray
    executed: int


@st.composite
def stories(draw):
    envs, steps = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    rows = st.lists(st.booleans(), min_size=envs, max_size=envs)
    return Story(
        np.array(draw(st.lists(rows, min_size=steps, max_size=steps))),
        draw(st.integers(1, CHUNK)),
    )


def told(story, planner=telling, envs=None):
    """The queues of a story, one a step; or those of one environment by itself."""
    discard = story.discard if envs is None else story.discard[:, envs]
    which = slice(None) if envs is None else envs
    total = story.discard.shape[1]
    queues = [start(seen(0, total)[which], planner)]
    for time, row in enumerate(discard, start=1):
        now = seen(time, total)[which]
        queues.append(advance(queues[-1], now, row, planner, story.executed))
    return queues


@settings(max_examples=80, deadline=None)
@given(stories())
def test_the_head_is_what_was_planned_so_many_steps_ago_in_this_environment(story):
    """A plain loop over environments and steps says the same as the queue."""
    for env in range(story.discard.shape[1]):
        planned, plans = 0, 1
        for time, queue in enumerate(told(story)):
            if time > 0 and (story.discard[time - 1, env] or time - planned == story.executed):
                planned, plans = time, plans + 1
            age = time - planned
            assert queue.cursor[env] == age < story.executed
            assert queue.plans[env] == plans
            expected = [1_000 * planned + env, 100 * env + plans - 1, age]
            assert head(queue)[env].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(stories())
def test_an_environment_out_of_step_plays_what_it_would_play_alone(story):
    together = told(story)
    for env in range(story.discard.shape[1]):

        def alone(observation, envs, plans, env=env):
            return telling(observation, np.full_like(envs, env), plans)

        for queue, own in zip(together, told(story, alone, [env]), strict=True):
            for many, one in zip(queue, own, strict=True):
                np.testing.assert_array_equal(many[env], one[0])


# The planner of a policy.


def base(head="flow"):
    config = ChunkedBCConfig(head=head, hidden=(32, 32), chunk=CHUNK, executed=3)
    identity = Normaliser.identity(OBS), ActionRange.identity(ACT)
    return ChunkedBC.create(KEY, SPEC, config, *identity, total_steps=1)


def random_observations(time, envs):
    return np.random.default_rng(time).normal(size=(envs, OBS)).astype(np.float32)


def played(planner, discard, which=slice(None)):
    """Heads of a run on random observations, ``[time, env, act]``."""
    envs = discard.shape[1]
    queue = start(random_observations(0, envs)[which], planner)
    heads = [head(queue)]
    for time, row in enumerate(discard, start=1):
        now = random_observations(time, envs)[which]
        queue = advance(queue, now, row[which], planner, 3)
        heads.append(head(queue))
    return np.stack(heads)


def random_discard(envs, steps, share):
    return np.random.default_rng(1).random((steps, envs)) < share


@pytest.mark.parametrize(("envs", "sizes"), [(64, (8, 16, 32, 64)), (6, (1, 2, 3, 6)), (1, (1,))])
def test_a_planner_is_traced_once_a_size_and_has_at_most_four(envs, sizes):
    planner = make_planner(base(), KEY, envs)
    assert planner.sizes == sizes
    for count in [*range(1, envs + 1), *range(1, envs + 1)]:
        due = np.arange(count, dtype=np.int32)
        chunks = planner(random_observations(count, count), due, np.zeros(count, np.int32))
        assert chunks.shape == (count, CHUNK, ACT)
    assert planner.traces == len(sizes)


def test_a_run_out_of_step_is_traced_at_most_four_times():
    planner = make_planner(base(), KEY, 16)
    played(planner, random_discard(16, 60, 0.1))
    assert planner.traces <= 4


def test_a_policys_environment_out_of_step_plays_what_it_would_play_alone():
    """To rounding: the alone one is planned in a batch of one row."""
    discard = random_discard(6, 20, 0.2)
    together = played(make_planner(base(), KEY, 6), discard)
    for env in range(6):
        solo = make_planner(base(), KEY, 1)

        def alone(observation, envs, plans, env=env, solo=solo):
            return solo(observation, np.full_like(envs, env), plans)

        own = played(alone, discard, which=[env])
        np.testing.assert_allclose(own[:, 0], together[:, env], atol=1e-6)


def test_a_plan_is_that_of_the_policy_at_the_key_of_environment_and_count():
    envs, plans = np.array([3, 5], np.int32), np.array([0, 7], np.int32)
    observation = random_observations(0, 2)
    found = make_planner(base(), KEY, 8)(observation, envs, plans)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, e), n) for e, n in ((3, 0), (5, 7))]
    expected = base().plan(jnp.asarray(observation), jnp.stack(keys))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_every_plan_has_a_key_of_its_own():
    envs, plans = (x.ravel().astype(np.int32) for x in np.meshgrid(np.arange(8), np.arange(8)))
    keys = jax.random.key_data(plan_keys(KEY, jnp.asarray(envs), jnp.asarray(plans)))
    assert len(np.unique(np.asarray(keys), axis=0)) == 64


def test_a_run_repeats_bit_for_bit():
    discard = random_discard(6, 20, 0.2)
    one, two = (played(make_planner(base(), KEY, 6), discard) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("count", [0, 5])
def test_more_rows_than_environments_or_none_are_refused(count):
    planner = make_planner(base(), KEY, 4)
    rows = np.zeros(count, np.int32)
    with pytest.raises(ValueError, match=f"between 1 and 4 rows can be planned, got {count}"):
        planner(random_observations(0, count), rows, rows)


def test_no_environments_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        BasePlanner(base(), KEY, 0)


def test_a_queue_comes_back_from_a_checkpoint_and_goes_on(tmp_path):
    queue = advance(start(seen(0, 3), telling), seen(1, 3), np.ones(3, bool), telling, 3)
    save_tree(tmp_path / "queue.safetensors", queue)
    back = on_host(*load_tree(tmp_path / "queue.safetensors", queue))
    assert bits(back) == bits(queue)
    after = [advance(q, seen(2, 3), np.zeros(3, bool), telling, 3) for q in (queue, back)]
    assert bits(after[0]) == bits(after[1])
