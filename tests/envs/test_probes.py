"""What the probes predict is what their episodes give."""

import numpy as np
import pytest

from steelyard.envs.probes import PROBES, ProbeEnv

GAMMA = 0.9
SEEDS = list(range(16))


@pytest.mark.parametrize("name", PROBES)
def test_predicted_values_solve_the_bellman_equation_of_the_episodes(name):
    env = ProbeEnv(name, SEEDS)
    predicted = env.predicted
    known = np.float32(predicted.observations)
    values = np.array(predicted.values(GAMMA))
    best = np.array(predicted.best_actions or (0.3,) * len(values))
    observation, met = env.reset(), set()
    for _ in range(12):
        at = np.argmax(known == observation, axis=1)
        np.testing.assert_array_equal(known[at], observation[:, 0])
        step = env.step(best[at][:, None])
        led_to = np.argmax(known == step.next_observation, axis=1)
        np.testing.assert_array_equal(
            known[led_to][~step.terminated], step.next_observation[~step.terminated, 0]
        )
        future = np.where(step.terminated, 0, values[led_to])
        np.testing.assert_allclose(step.reward + GAMMA * future, values[at], rtol=1e-6)
        observation = step.observation
        met |= set(at)
    assert met == set(range(len(values)))


@pytest.mark.parametrize("name", PROBES)
def test_no_other_action_is_better_than_the_predicted_one(name):
    env = ProbeEnv(name, SEEDS)
    if env.predicted.best_actions is None:
        rewards = []
        for action in (-1.0, 0.0, 1.0):
            env = ProbeEnv(name, SEEDS)
            env.reset()
            rewards.append([env.step(np.full((16, 1), action)).reward for _ in range(6)])
        np.testing.assert_array_equal(rewards[0], rewards[1])
        np.testing.assert_array_equal(rewards[0], rewards[2])
        return
    best = dict(zip(env.predicted.observations, env.predicted.best_actions, strict=True))
    for other in (-1.0, -0.5, 0.0, 0.5, 1.0):
        ours, theirs = ProbeEnv(name, SEEDS), ProbeEnv(name, SEEDS)
        action = np.array([[best[float(x)]] for x in ours.reset()[:, 0]])
        theirs.reset()
        got, alternative = ours.step(action).reward, theirs.step(np.full((16, 1), other)).reward
        differs = action[:, 0] != other
        assert (got[differs] > alternative[differs]).all()
        np.testing.assert_array_equal(got[~differs], alternative[~differs])


def test_the_twins_differ_in_how_they_end_and_in_nothing_that_is_rewarded():
    steps = {}
    for name in ("truncation", "termination"):
        env = ProbeEnv(name, SEEDS)
        env.reset()
        steps[name] = [env.step(np.zeros((16, 1))) for _ in range(10)]
    for cut, dead in zip(steps["truncation"], steps["termination"], strict=True):
        np.testing.assert_array_equal(cut.reward, dead.reward)
        np.testing.assert_array_equal(cut.truncated, dead.terminated)
        assert not cut.terminated.any()
        assert not dead.truncated.any()
    predicted = {name: PROBES[name].predicted.values(0.99)[0] for name in steps}
    assert predicted["truncation"] == pytest.approx(100)
    assert predicted["termination"] == pytest.approx((1 - 0.99**5) / 0.01)


def test_the_final_observation_of_an_episode_is_not_the_next_ones_first():
    env = ProbeEnv("termination", [0])
    env.reset()
    step = [env.step(np.zeros((1, 1))) for _ in range(5)][-1]
    assert (step.next_observation[0, 0], step.observation[0, 0]) == (1.0, 0.0)


def test_an_unknown_probe_is_refused_with_the_legal_names():
    with pytest.raises(ValueError, match=r"no probe 'delay'; legal: .*two-step"):
        ProbeEnv("delay", [0])
