"""Chunks of demonstrations: none crosses an episode end, and every step starts exactly one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from demonstrations_examples import make_demonstrations
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.data.chunks import ActionRange, all_chunks, chunk_steps, last_steps


def test_chunks_by_hand():
    """Episodes of 3 and 2 steps, chunks of 2."""
    last = last_steps(np.array([3, 2]))
    assert last.tolist() == [2, 2, 2, 4, 4]
    steps, mask = chunk_steps(jnp.arange(5), jnp.asarray(last), 2)
    assert steps.tolist() == [[0, 1], [1, 2], [2, 2], [3, 4], [4, 4]]
    assert mask.tolist() == [[True, True], [True, True], [True, False], [True, True], [True, False]]


MOST = 45
compiled_steps = jax.jit(chunk_steps, static_argnums=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from([1, 2, 5, 12]))
def test_no_chunk_crosses_an_episode_end_and_every_step_starts_exactly_one(lengths, chunk):
    lengths = np.array(lengths)
    total, episode = lengths.sum(), np.repeat(np.arange(len(lengths)), lengths)
    # Filled up to one size, so that one program serves all examples.
    last = np.pad(last_steps(lengths), (0, MOST - total))
    steps, mask = compiled_steps(jnp.arange(MOST), jnp.asarray(last), chunk)
    steps, mask = np.asarray(steps)[:total], np.asarray(mask)[:total]
    # Row i starts at step i: every step is a start, once.
    np.testing.assert_array_equal(steps[:, 0], np.arange(total))
    assert mask[:, 0].all()
    np.testing.assert_array_equal(episode[steps], np.repeat(episode[:, None], chunk, axis=1))
    for i, (row, real) in enumerate(zip(steps, mask, strict=True)):
        left = int((episode[i:] == episode[i]).sum())
        assert real.sum() == min(chunk, left)
        np.testing.assert_array_equal(row[real], i + np.arange(real.sum()))
        assert (row[~real] == i + left - 1).all()


@pytest.mark.parametrize("chunk", [1, 2, 4, 8])
def test_a_chunk_holds_the_observation_and_the_actions_that_followed(chunk):
    data = make_demonstrations()
    chunks, row = all_chunks(data, chunk), 0
    assert chunks.actions.shape == (data.num_steps, chunk, 2)
    for episode in data.episodes():
        actions = data.env_spec.to_learner_units(episode.actions)
        for start in range(len(actions)):
            rest = actions[start:][:chunk]
            padded = np.concatenate([rest, np.repeat(actions[-1:], chunk - len(rest), axis=0)])
            np.testing.assert_array_equal(chunks.observation[row], episode.observations[start])
            np.testing.assert_allclose(chunks.actions[row], padded, atol=1e-6)
            assert chunks.mask[row].tolist() == [True] * len(rest) + [False] * (chunk - len(rest))
            row += 1
    assert row == data.num_steps


def test_chunks_of_one_action_are_the_plain_steps():
    data = make_demonstrations()
    chunks, steps = all_chunks(data, 1), data.transitions()
    np.testing.assert_array_equal(chunks.actions[:, 0], steps.action)
    np.testing.assert_array_equal(chunks.observation, steps.observation)
    assert chunks.mask.all()


def test_a_chunk_without_actions_is_refused():
    with pytest.raises(ValueError, match="at least 1 action, got chunk = 0"):
        all_chunks(make_demonstrations(), 0)


# The range of actions.

ACTIONS = jnp.asarray([[-0.5, 0.2, 1.0], [0.1, 0.2, -1.0], [0.0, 0.2, 0.3]])


def test_the_range_by_hand_and_a_constant_component_keeps_its_units():
    found = ActionRange.of(ACTIONS)
    np.testing.assert_allclose(found.centre, [-0.2, 0.2, 0.0], atol=1e-7)
    np.testing.assert_allclose(found.half, [0.3, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(found.normalise(ACTIONS)[:, 1], 0.0, atol=1e-7)


def test_demonstrated_actions_fill_the_unit_range_and_come_back():
    found = ActionRange.of(ACTIONS)
    inside = found.normalise(ACTIONS)
    np.testing.assert_allclose(inside.min(0), [-1.0, 0.0, -1.0], atol=1e-6)
    np.testing.assert_allclose(inside.max(0), [1.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(found.denormalise(inside), ACTIONS, atol=1e-6)
    chunks = jnp.stack([ACTIONS, -ACTIONS])
    np.testing.assert_allclose(found.denormalise(found.normalise(chunks)), chunks, atol=1e-6)


def test_the_identity_leaves_actions_as_they_are():
    same = ActionRange.identity(3)
    np.testing.assert_array_equal(same.normalise(ACTIONS), ACTIONS)
    np.testing.assert_array_equal(same.denormalise(ACTIONS), ACTIONS)
