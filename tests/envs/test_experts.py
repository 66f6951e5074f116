"""The scripted policies, and the pendulum's formula and exact solution."""

import numpy as np
import pytest

from steelyard.envs.envpool import EnvPoolEnv, envpool_spec
from steelyard.envs.experts import (
    ANCHORS,
    pendulum_optimum,
    pendulum_optimum_returns,
    random_actions,
    zero_actions,
)
from steelyard.envs.pendulum import pendulum_state, pendulum_step
from steelyard.types import EnvSpec

PI = np.pi


def starts(count, seed=0):
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(-PI, PI, count), rng.uniform(-1, 1, count)
    return np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)


@pytest.mark.parametrize(
    ("angle", "speed", "torque", "reward"),
    [
        (PI / 2, 0.0, 0.0, -2.4674),
        (PI, 0.0, 2.0, -9.8736),
        (5 * PI / 2, 0.0, 0.0, -2.4674),
        (0.0, 8.0, 0.0, -6.4),
        (PI, 0.0, 50.0, -9.8736),
    ],
)
def test_reward_by_hand(angle, speed, torque, reward):
    _, _, got = pendulum_step(np.float64(angle)[None], np.array([speed]), np.array([torque]))
    np.testing.assert_allclose(got, reward, atol=5e-5)


def test_motion_by_hand():
    angle, speed, _ = pendulum_step(np.array([PI / 2]), np.array([1.0]), np.array([-2.0]))
    np.testing.assert_allclose(speed, 1 + (15 - 6) * 0.05)
    np.testing.assert_allclose(angle, PI / 2 + 0.05 * 1.45)
    # The speed limit is felt after the angle has moved.
    angle, speed, _ = pendulum_step(np.array([PI / 2]), np.array([7.9]), np.array([2.0]))
    np.testing.assert_allclose(speed, 8)
    np.testing.assert_allclose(angle, PI / 2 + 0.05 * (7.9 + 21 * 0.05))


def test_envpools_pendulum_equals_the_formula_for_200_steps():
    env = EnvPoolEnv("Pendulum-v1", list(range(100)))
    rng = np.random.default_rng(0)
    observation = env.reset()
    angle, speed = pendulum_state(observation)  # of the formula, left alone after the start
    at_speed_limit = 0
    for _ in range(200):
        action = random_actions(env.spec, rng, 100)
        step = env.step(action)
        torque = action[:, 0].astype(np.float64)
        one_angle, one_speed, reward = pendulum_step(*pendulum_state(observation), torque)
        np.testing.assert_allclose(step.next_observation, rod(one_angle, one_speed), atol=1e-4)
        np.testing.assert_allclose(step.reward, reward, atol=1e-4)
        angle, speed, _ = pendulum_step(angle, speed, torque)
        at_speed_limit += (np.abs(speed) == 8).sum()
        observation = step.observation
    assert at_speed_limit > 10
    # Near upright the pendulum multiplies the start's rounding by up to e^(√15 · 10): some drift.
    drift = np.abs(step.next_observation - rod(angle, speed)).max(axis=1)
    assert (drift < 1e-4).mean() > 0.8
    assert step.truncated.all()
    env.close()


def rod(angle, speed):
    return np.stack([np.cos(angle), np.sin(angle), speed], 1)


def test_the_optimum_earns_in_envpool_what_it_says_and_far_more_than_chance():
    env = EnvPoolEnv("Pendulum-v1", list(range(1_000_000, 1_000_100)))
    observation = env.reset()
    expected = pendulum_optimum_returns(observation)
    total = np.zeros(100)
    for step in range(200):
        got = env.step(pendulum_optimum().act(observation, step))
        observation, total = got.observation, total + got.reward
    env.close()
    # A greedy choice may tip over at the last digit; over 100 starts that is nothing.
    assert abs(total.mean() - expected.mean()) < 1
    assert np.median(np.abs(total - expected)) < 0.1
    assert -175 < expected.mean() < -110


def test_the_greedy_policy_earns_about_what_its_table_promises():
    hanging = np.array([[-1, 0, 0], [1, 0, 0]], np.float32)
    table = pendulum_optimum().values[0].reshape(181, 161)[[0, 90], 80]
    np.testing.assert_allclose(pendulum_optimum_returns(hanging), table, atol=6)
    assert pendulum_optimum_returns(hanging)[1] == pytest.approx(0, abs=1e-3)


def test_with_one_step_to_go_the_best_torque_is_none():
    assert (np.abs(pendulum_optimum().act(starts(50), 199)) < 1e-6).all()


@pytest.mark.parametrize("step", [-1, 200])
def test_a_step_beyond_the_episode_is_refused(step):
    with pytest.raises(ValueError, match=rf"step lies in \[0, 199\].*got {step}"):
        pendulum_optimum().act(starts(1), step)


@pytest.mark.slow
def test_the_optimum_over_4000_starts_is_the_anchor():
    returns = pendulum_optimum_returns(starts(4000))
    assert abs(returns.mean() - ANCHORS["Pendulum-v1", "optimum"].mean) < 1.2
    # An independent solution, of gymnasium's formula, earned -138.6 ± 1.2.
    assert abs(returns.mean() + 138.6) < 3
    assert abs(returns.std() - 75) < 3


@pytest.mark.slow
@pytest.mark.parametrize("id", ["Pendulum-v1", "HalfCheetah-v5"])
def test_random_actions_earn_the_anchor(id):
    count = 200
    env = EnvPoolEnv(id, list(range(count)))
    rng, total = np.random.default_rng(0), np.zeros(count)
    env.reset()
    for _ in range(env.spec.max_episode_steps):
        total += env.step(random_actions(env.spec, rng, count)).reward
    env.close()
    anchor = ANCHORS[id, "random"]
    error = np.hypot(total.std() / count**0.5, anchor.standard_error)
    assert abs(total.mean() - anchor.mean) < 4 * error


def test_random_actions_fill_the_box_and_stay_in_it():
    spec = EnvSpec("box", 1, (-2.0, 0.1), (2.0, 0.7), 1, False)
    drawn = random_actions(spec, np.random.default_rng(0), 4000)
    low, high = np.float32([-2, 0.1]), np.float32([2, 0.7])
    assert ((drawn >= low) & (drawn <= high)).all()
    np.testing.assert_allclose(drawn.mean(0), [0, 0.4], atol=0.1)
    np.testing.assert_allclose(drawn.min(0), low, atol=0.01)
    np.testing.assert_allclose(drawn.max(0), high, atol=0.01)


def test_zero_actions_are_the_nearest_to_zero_in_the_box():
    spec = EnvSpec("box", 1, (-2.0, 0.1, -3.0), (2.0, 0.7, -1.0), 1, False)
    np.testing.assert_allclose(zero_actions(spec, 2), [[0, 0.1, -1]] * 2)
    assert (zero_actions(envpool_spec("HalfCheetah-v5"), 3) == 0).all()
