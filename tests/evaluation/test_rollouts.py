"""Episodes: one per start, whole, with the observation that each action led to."""

import hashlib

import numpy as np
import pytest

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError
from steelyard.data.provenance import Provenance
from steelyard.envs.pendulum import pendulum_state, pendulum_step, wrap
from steelyard.envs.registry import env_spec, make_env
from steelyard.evaluation.evaluator import random_policies
from steelyard.evaluation.rollouts import episode_returns, record_episodes

TASK = "Pendulum-v1"
STARTS = [500_000_000, 500_000_001, 500_000_002]


def swing(observation: np.ndarray) -> np.ndarray:
    """A deterministic policy of no particular merit."""
    return np.tanh(observation[..., 2:3] + observation[..., 1:2])


def recorded(starts=STARTS, policies=swing, task=TASK, runs=1):
    return record_episodes(policies, task, starts, runs)


def test_an_episode_has_one_more_observation_than_actions():
    for episode in recorded()[0]:
        assert episode.observations.shape == (201, 3)
        assert episode.actions.shape == (200, 1)
        assert episode.rewards.shape == (200,)
        assert episode.truncated
        assert not episode.terminated


def test_each_observation_is_what_the_action_before_it_led_to_the_last_one_too():
    for episode in recorded()[0]:
        before, after = episode.observations[:-1], episode.observations[1:]
        torque = episode.actions[:, 0].astype(np.float64)
        angle, speed, reward = pendulum_step(*pendulum_state(before), torque)
        next_angle, next_speed = pendulum_state(after)
        np.testing.assert_allclose(wrap(next_angle - angle), 0, atol=1e-4)
        np.testing.assert_allclose(next_speed, speed, atol=1e-4)
        np.testing.assert_allclose(episode.rewards, reward, atol=1e-3)


def test_actions_are_kept_in_environment_units_and_are_those_of_the_policy():
    (episode, *_), *_ = recorded()
    np.testing.assert_allclose(episode.actions, 2.0 * swing(episode.observations[:-1]), rtol=1e-6)
    assert np.abs(episode.actions).max() > 1.0


def test_the_transitions_of_demonstrations_have_the_shifted_observation():
    data = Demonstrations.from_episodes(recorded()[0], env_spec(TASK), Provenance(TASK))
    rows = data.transitions()
    first = slice(0, 199)
    np.testing.assert_array_equal(
        np.asarray(rows.next_observation)[first], np.asarray(rows.observation)[1:200]
    )
    assert data.num_steps == 600


def test_collecting_twice_gives_equal_bytes(tmp_path):
    def collect(name):
        data = Demonstrations.from_episodes(recorded()[0], env_spec(TASK), Provenance(TASK))
        folder = data.save(tmp_path / name)
        files = sorted(folder.iterdir())
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files], data.sha256

    assert collect("first") == collect("second")


def test_an_episode_does_not_depend_on_those_recorded_beside_it():
    together, alone = recorded()[0][1], recorded(STARTS[1:2])[0][0]
    np.testing.assert_array_equal(together.observations, alone.observations)
    assert together.start_seed == alone.start_seed == STARTS[1]


def test_recorded_rewards_add_up_to_the_returns_that_are_scored():
    returns = episode_returns(swing, TASK, STARTS, 1)[0]
    sums = [episode.rewards.astype(np.float64).sum() for episode in recorded()[0]]
    np.testing.assert_allclose(sums, returns, rtol=1e-12)


HOPPER = "Hopper-v5"


@pytest.fixture(scope="module")
def hops():
    """Random play of a task that terminates: every episode ends somewhere else."""
    spec = env_spec(HOPPER)
    starts = list(range(500_000_000, 500_000_006))
    episodes = recorded(starts, random_policies(spec, [0, 1], 6), HOPPER, 2)
    return starts, episodes


def test_episodes_of_a_terminating_task_end_where_the_task_ends(hops):
    _, runs = hops
    lengths = np.array([[len(e.actions) for e in episodes] for episodes in runs])
    assert len(np.unique(lengths)) > 3
    assert lengths.max() < env_spec(HOPPER).max_episode_steps
    for episodes in runs:
        assert all(e.terminated and not e.truncated for e in episodes)
        assert all(len(e.observations) == len(e.actions) + 1 for e in episodes)
        Demonstrations.from_episodes(episodes, env_spec(HOPPER), Provenance(HOPPER))


def test_an_episode_of_a_terminating_task_played_again_ends_at_the_same_step(hops):
    starts, runs = hops
    for index, episode in enumerate(runs[1]):
        env = make_env(HOPPER, [starts[index]])
        np.testing.assert_array_equal(env.reset()[0], episode.observations[0])
        for time, action in enumerate(episode.actions):
            step = env.step(action[None])
            np.testing.assert_allclose(step.next_observation[0], episode.observations[time + 1])
            assert step.terminated[0] == (time == len(episode.actions) - 1)
        env.close()


def test_returns_of_a_terminating_task_count_no_step_beyond_its_end(hops):
    starts, runs = hops
    returns = episode_returns(random_policies(env_spec(HOPPER), [0, 1], 6), HOPPER, starts, 2)
    for run, episodes in enumerate(runs):
        sums = [episode.rewards.astype(np.float64).sum() for episode in episodes]
        np.testing.assert_allclose(returns[run], sums, rtol=1e-12)


def test_the_record_of_a_policy_that_is_not_finite_is_no_demonstration():
    def broken(observation):
        return np.where(observation[..., :1] > 2, 0.0, np.nan)

    episodes = recorded(STARTS[:1], broken)[0]
    with pytest.raises(DatasetError, match="must be finite"):
        Demonstrations.from_episodes(episodes, env_spec(TASK), Provenance(TASK))
