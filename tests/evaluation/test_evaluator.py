"""Scores: every policy on the same fixed starts, deterministic, and on none that training saw."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from steelyard.envs.pendulum import pendulum_optimum, pendulum_optimum_returns
from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.seeding import evaluation_seeds, training_seeds
from steelyard.evaluation.evaluator import Evaluator, random_policies, random_returns
from steelyard.evaluation.rollouts import episode_returns, rollout
from steelyard.numerics.statistics import anchor, normalised_score

TASK = "Pendulum-v1"


class Linear(eqx.Module):
    """``tanh(weights · o)``, with noise unless it is asked for its mean."""

    weights: Array

    def act(self, observation, key, deterministic):
        mean = observation @ self.weights[:, None]
        return jnp.tanh(mean + (0.0 if deterministic else jax.random.normal(key, mean.shape)))


def stacked(*weights: tuple[float, float, float]) -> Linear:
    return Linear(jnp.array(weights, jnp.float32))


def test_all_runs_and_arms_are_scored_on_identical_starts():
    def first_observations(policies, runs):
        return next(iter(rollout(policies, TASK, evaluation_seeds(5), runs))).observation

    evaluator = Evaluator(TASK, 2, 5)
    learned = first_observations(evaluator.policies(stacked((1, 0, 0), (0, 1, 0))), 2)
    chance = first_observations(random_policies(env_spec(TASK), [0, 1, 2], 5), 3)
    starts = make_env(TASK, evaluation_seeds(5)).reset()
    for observation in (*learned, *chance):
        np.testing.assert_array_equal(observation, starts)
    assert len(np.unique(starts, axis=0)) == 5


def test_an_identical_policy_scores_exactly_one():
    returns = Evaluator(TASK, 3, 20).returns(stacked((0, 8, 1), (0, 8, 1), (0, 0, 0)))
    np.testing.assert_array_equal(returns[0], returns[1])
    expert, chance = anchor(returns[0]), anchor(random_returns(TASK, [0], 20)[0] - 1e4)
    assert normalised_score(float(returns[1].mean()), chance, expert) == 1.0
    assert normalised_score(chance.mean, chance, expert) == 0.0


def test_the_mean_is_evaluated_so_twice_gives_the_same_numbers():
    evaluator = Evaluator(TASK, 2, 4)
    agents = stacked((0, 8, 1), (1, 1, 1))
    np.testing.assert_array_equal(evaluator.returns(agents), evaluator.returns(agents))
    metrics = evaluator(agents)
    np.testing.assert_array_equal(metrics["eval/reward_mean"], evaluator.returns(agents).mean(1))
    np.testing.assert_array_equal(metrics["eval/reward_std"], evaluator.returns(agents).std(1))


def test_the_optimal_policy_earns_the_optimal_return():
    optimum, starts, step = pendulum_optimum(), evaluation_seeds(20), -1

    def policies(observation):
        nonlocal step
        step += 1
        return optimum.act(observation[0], step)[None] / 2.0

    returns = episode_returns(policies, TASK, starts, 1)[0]
    expected = pendulum_optimum_returns(make_env(TASK, starts).reset())
    np.testing.assert_allclose(returns, expected, atol=2.0)


def test_random_play_is_repeatable_and_each_run_has_its_own():
    first, again = random_returns(TASK, [3, 4], 6), random_returns(TASK, [4], 6)
    np.testing.assert_array_equal(first[1], again[0])
    assert not np.allclose(first[0], first[1])


def test_a_policy_that_is_not_finite_earns_nan_and_does_not_disturb_the_others():
    evaluator = Evaluator(TASK, 2, 3)
    sick = evaluator.returns(stacked((0, 8, 1), (0, np.nan, 0)))
    well = evaluator.returns(stacked((0, 8, 1), (0, 1, 0)))
    np.testing.assert_array_equal(sick[0], well[0])
    assert np.isnan(sick[1]).all()


def test_starts_that_training_has_seen_are_refused_with_both_ranges():
    Evaluator(TASK, 1, 100, training_seeds(0, 8))
    with pytest.raises(ValueError, match="share no seed") as error:
        Evaluator(TASK, 1, 100, [999_999, 1_000_050])
    assert "999999…1000050 (2 seeds)" in str(error.value)
    assert "1000000…1000099 (100 seeds)" in str(error.value)
