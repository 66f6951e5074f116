"""The gymnasium adapter gives gymnasium's own episodes."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from steelyard.envs.gymnasium import GymnasiumEnv

SEEDS = [3, 40]


class Cliff(gymnasium.Env):
    """Terminates at its third step, which may also be its last; ends odd episodes nowhere else."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return np.zeros(1), {}

    def step(self, action):
        self.elapsed += 1
        return np.full(1, float(self.elapsed)), 1.0, self.elapsed == 3, self.elapsed == 3, {}


def test_episodes_equal_gymnasiums_own():
    env = GymnasiumEnv("Pendulum-v1", SEEDS, max_episode_steps=12)
    plain = [gymnasium.make("Pendulum-v1", max_episode_steps=12) for _ in SEEDS]
    expected = [one.reset(seed=seed)[0] for one, seed in zip(plain, SEEDS, strict=True)]
    np.testing.assert_array_equal(env.reset(), expected)
    rng, ends = np.random.default_rng(0), 0
    for _ in range(30):
        action = rng.uniform(-2, 2, (2, 1)).astype(np.float32)
        step = env.step(action)
        for i, one in enumerate(plain):
            observed, reward, terminated, truncated, _ = one.step(action[i])
            np.testing.assert_array_equal(step.next_observation[i], observed)
            assert step.reward[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            if truncated:
                observed, _ = one.reset()  # continues the stream of this environment
                ends += 1
            np.testing.assert_array_equal(step.observation[i], observed)
    assert ends == 4
    env.close()


def test_termination_wins_over_a_time_limit_at_the_same_step():
    env = GymnasiumEnv(Cliff, SEEDS, max_episode_steps=3)
    env.reset()
    steps = [env.step(np.zeros((2, 1), np.float32)) for _ in range(3)]
    assert [s.terminated.tolist() for s in steps] == [[False] * 2, [False] * 2, [True] * 2]
    assert not any(s.truncated.any() for s in steps)
    np.testing.assert_array_equal(steps[-1].next_observation, [[3], [3]])
    np.testing.assert_array_equal(steps[-1].observation, [[0], [0]])
    assert steps[0].next_observation.dtype == np.float32


def test_a_shorter_time_limit_cuts_an_environment_that_has_none():
    env = GymnasiumEnv(PendulumEnv, SEEDS, max_episode_steps=4, can_terminate=False)
    env.reset()
    truncated = [bool(env.step(np.zeros((2, 1))).truncated.all()) for _ in range(8)]
    assert truncated == [False, False, False, True] * 2
    env.close()


def test_a_promise_not_to_terminate_is_checked():
    env = GymnasiumEnv(Cliff, SEEDS, max_episode_steps=9, can_terminate=False)
    env.reset()
    env.step(np.zeros((2, 1)))
    env.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="terminated after 3 steps"):
        env.step(np.zeros((2, 1)))


def test_names():
    assert GymnasiumEnv("Pendulum-v1", [0]).spec.id == "gymnasium/Pendulum-v1"
    assert GymnasiumEnv(Cliff, [0], max_episode_steps=3).spec.id == "gymnasium/Cliff"
    assert GymnasiumEnv(Cliff, [0], max_episode_steps=3, id="cliff").spec.id == "cliff"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("Pendulm-v1", {}, "gymnasium has no task 'Pendulm-v1'"),
        ("CartPole-v1", {}, "actions are one vector of numbers, got Discrete"),
        (Cliff, {}, "no time limit of its own: pass max_episode_steps"),
        (Cliff, {"max_episode_steps": 3, "g": 9.8}, "options go to gymnasium.make"),
        (lambda: gymnasium.make("Pendulum-v1"), {"max_episode_steps": 300}, "at most its own"),
    ],
)
def test_what_cannot_be_built_is_refused(source, options, message):
    with pytest.raises(ValueError, match=message):
        GymnasiumEnv(source, SEEDS, **options)
