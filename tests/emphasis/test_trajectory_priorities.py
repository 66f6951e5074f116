"""Priorities of trajectories: by hand, by simulation beside the reference's logic, by laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import Systematic, draw_starts, make_weighting
from steelyard.emphasis.trajectory_priorities import TrajectoryPriorities, reward_scores

ALL = jnp.ones(4, bool)


def test_a_running_mean_by_hand():
    kept, found = TrajectoryPriorities.empty(2), []
    for error in (2.0, 4.0, 4.0):
        kept = kept.seen(jnp.array([0]), jnp.array([error]))
        found.append(float(kept.scores(jnp.ones(2, bool))[0]))
    np.testing.assert_allclose(found, [2.0, 3.0526, 3.4022], atol=5e-5)


def test_every_drawn_trajectory_is_scored_by_its_own_chunks():
    kept = TrajectoryPriorities.empty(4).seen(
        jnp.array([2, 0, 2, 3]), jnp.array([1.0, 5.0, 3.0, 0.5])
    )
    np.testing.assert_allclose(kept.scores(ALL), [5.0, 5.0, 2.0, 0.5], rtol=1e-6)
    assert kept.count.tolist() == [1, 0, 1, 1]
    again = kept.seen(jnp.array([2, 3, 2, 0]), jnp.array([3.0, 0.5, 1.0, 5.0]))
    assert float(again.scores(ALL)[2]) == pytest.approx(2.0)  # the order of a batch is nothing


def test_a_new_trajectory_ranks_first_and_a_place_that_is_given_away_starts_anew():
    kept = TrajectoryPriorities.empty(3).seen(jnp.array([0, 1]), jnp.array([1.0, 9.0]))
    valid = jnp.array([True, True, False])
    np.testing.assert_allclose(kept.scores(valid), [1.0, 9.0, 0.0], rtol=1e-6)
    valid = jnp.ones(3, bool)
    assert float(kept.scores(valid)[2]) == float(kept.scores(valid)[1])
    other = kept.forget(jnp.array([False, True, False]))
    np.testing.assert_allclose(other.scores(valid), [1.0, 1.0, 1.0], rtol=1e-6)
    assert other.count.tolist() == [1, 0, 0]
    assert TrajectoryPriorities.empty(3).scores(valid).tolist() == [0.0, 0.0, 0.0]


def simulated(as_reference):
    """Draw 300 trajectories of different true error by rank for a while; correlate the scores.

    The reference averages the errors of a batch to one number and gives it to one trajectory.
    """
    rng = np.random.default_rng(0)
    true = jnp.asarray(rng.gamma(2.0, 1.0, 300), jnp.float32)
    lengths = jnp.asarray(rng.integers(20, 200, 300))
    weighting, everything = make_weighting("rank", power=0.7, floor=0.05), jnp.ones(300, bool)
    base = lengths / lengths.sum()

    def step(kept, key):
        draw_key, noise_key, place_key = jax.random.split(key, 3)
        p = weighting(kept.scores(everything), everything, base)
        drawn = draw_starts(Systematic(), p, lengths, draw_key, 64)
        noise = jax.random.gamma(noise_key, 2.0, (64,)) / 2.0
        errors = true[drawn.trajectories] * noise
        if as_reference:
            one = drawn.trajectories[jax.random.randint(place_key, (1,), 0, 64)]
            return kept.seen(one, jnp.mean(errors)[None]), None
        return kept.seen(drawn.trajectories, errors), None

    kept, _ = jax.lax.scan(step, TrajectoryPriorities.empty(300), jax.random.split(KEY, 400))
    return float(np.corrcoef(kept.scores(everything), true)[0, 1])


KEY = jax.random.key(0)


def test_scores_track_the_true_error_and_the_references_logic_does_not():
    assert simulated(as_reference=False) >= 0.9
    assert abs(simulated(as_reference=True)) < 0.3


def test_scores_by_rewards_by_hand():
    rewards = jnp.array([-1.0, -1.0, 0.0, -1.0, -1.0, 3.0, 1.0, 2.0, 0.0, 5.0])
    item = jnp.array([0, 0, 0, 1, 1, 3, 3, 3, 3, 3])
    found = {
        kind: reward_scores(kind, rewards, item, 4).tolist()
        for kind in (
            *("avg_reward", "min_reward", "uhm_reward", "uqm_reward", "success_binary", "uniform"),
        )
    }
    assert found["avg_reward"] == pytest.approx([-2 / 3, -1.0, 0.0, 2.2])
    assert found["min_reward"] == [-1.0, -1.0, 0.0, 0.0]
    assert found["uhm_reward"] == pytest.approx([-0.5, -1.0, 0.0, 10 / 3])  # ceil(5/2) = 3
    assert found["uqm_reward"] == pytest.approx([0.0, -1.0, 0.0, 4.0])  # ceil(5/4) = 2
    assert found["success_binary"] == pytest.approx([2.0, 0.1, 0.0, 2.0])
    assert found["uniform"] == [1.0, 1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="score by rewards is one of avg_reward, .*got 'mean'"):
        reward_scores("mean", rewards, item, 4)
