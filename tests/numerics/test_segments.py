"""Pieces of episodes in a rollout: numbers, outcomes, sums; one order for all arrays."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.numerics.segments import (
    flatten,
    outcomes,
    segment_count,
    segment_ids,
    sum_by_segment,
)

TIME, ENVS = 5, 3  # not square: two layouts of the items cannot be mistaken for each other


def flags(text):
    """One string an environment, a character a step."""
    return jnp.asarray(np.array([[c != "." for c in row] for row in text]).T)


def test_items_are_laid_out_time_first_and_labels_come_back_with_their_rows():
    label = jnp.arange(TIME * ENVS).reshape(TIME, ENVS)
    assert flatten(label).tolist() == list(range(TIME * ENVS))
    both = flatten({"label": label, "vector": jnp.stack([label, -label], axis=-1)})
    np.testing.assert_array_equal(both["vector"][:, 0], both["label"])


def test_pieces_are_numbered_apart_over_environments_and_ends():
    ids = np.asarray(segment_ids(flags([".x..x", ".....", "xx..."]))).T
    assert ids.tolist() == [[0, 0, 1, 1, 1], [6, 6, 6, 6, 6], [12, 13, 14, 14, 14]]
    assert ids.max() < segment_count(TIME, ENVS)


def test_an_outcome_is_that_of_the_whole_piece_and_a_cut_piece_has_the_value_it_stands_at():
    success = flags([".x...", ".....", "....."])
    ended = flags([".x...", "..x..", "....."])
    valid = jnp.ones((TIME, ENVS), bool)
    signal, known = outcomes(success, ended, valid, jnp.asarray([0.25, 1.7, -0.3]))
    assert np.asarray(signal).T.tolist() == [
        [1, 1, 0.25, 0.25, 0.25],
        [0, 0, 0, 1, 1],  # the value is clipped to [0, 1]
        [0, 0, 0, 0, 0],
    ]
    assert np.asarray(known).T.tolist() == [
        [True, True, False, False, False],
        [True, True, True, False, False],
        [False] * 5,
    ]


def test_an_episode_that_runs_on_after_its_success_has_succeeded():
    success, ended = flags([".x...", ".....", "....."]), flags(["....x", "....x", "....x"])
    valid = flags(["xx...", "xxxxx", "xxxxx"])
    signal, known = outcomes(success, ended, valid, jnp.zeros(3))
    assert np.asarray(signal).T[0].tolist() == [1, 1, 0, 0, 0]  # the rest does not count
    assert np.asarray(known).T[0].tolist() == [True, True, False, False, False]


@settings(deadline=None)
@given(st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1))
def test_sums_over_pieces_are_those_of_a_loop(pattern, seed):
    ended = np.array([(pattern >> i) & 1 for i in range(15)], bool).reshape(TIME, ENVS)
    values = np.random.default_rng(seed).normal(size=(TIME, ENVS)).astype(np.float32)
    ids = segment_ids(jnp.asarray(ended))
    found = sum_by_segment(
        flatten(jnp.asarray(values)), flatten(ids), segment_count(TIME, ENVS)
    ).reshape(TIME, ENVS)
    for env in range(ENVS):
        first = 0
        for t in range(TIME):
            if ended[t, env] or t == TIME - 1:
                expected = values[first : t + 1, env].sum()
                np.testing.assert_allclose(
                    found[first : t + 1, env], expected, rtol=2e-5, atol=1e-6
                )
                first = t + 1
