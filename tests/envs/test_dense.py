"""MetaWorld's dense tasks, their experts, and failures of them by grade."""

import numpy as np
import pytest

from steelyard.envs.dense import GOAL, HAND, OBJECT, OBSERVATION_SIZE, DenseTaskEnv, dense_spec
from steelyard.envs.scripted.graded import GRADED, expert_action


def successes(task: str, displaced_m: float, episodes: int = 8, steps: int = 150) -> float:
    env = DenseTaskEnv(task, [9_000 + i for i in range(episodes)])
    seen, won = env.reset(), np.zeros(episodes, bool)
    shift = np.tile(np.asarray(GRADED[task].direction) * displaced_m, (episodes, 1))
    for _ in range(steps):
        step = env.step(expert_action(task, seen, shift))
        won |= env.succeeded
        seen = step.observation
    env.close()
    return float(won.mean())


def test_what_is_seen_leaves_out_the_hand_of_the_frame_before():
    env = DenseTaskEnv("SweepInto-v3", [1, 2])
    seen = env.reset()
    assert seen.shape == (2, OBSERVATION_SIZE)
    assert np.abs(seen[:, GOAL]).max() > 0.1  # the goal is in sight
    assert not np.array_equal(seen[:, OBJECT], seen[:, GOAL])
    step = env.step(np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]], np.float32))
    assert step.next_observation[0, HAND][0] > step.next_observation[1, HAND][0]
    assert not step.terminated.any()
    env.close()


def test_an_environment_alone_plays_what_it_plays_in_a_pool_bit_for_bit():
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 2, 4)).astype(np.float32)
    pool, alone = DenseTaskEnv("DoorOpen-v3", [5, 6]), DenseTaskEnv("DoorOpen-v3", [6])
    assert np.array_equal(pool.reset()[1], alone.reset()[0])
    for action in actions:
        first, second = pool.step(action), alone.step(action[1:])
        assert np.array_equal(first.observation[1], second.observation[0])
        assert first.reward[1] == second.reward[0]
    pool.close()
    alone.close()


@pytest.mark.parametrize("task", ["SweepInto-v3", "ButtonPress-v3"])
def test_experts_succeed_and_their_last_grade_does_not(task):
    assert successes(task, 0.0) >= 0.9
    assert successes(task, GRADED[task].defects_m[-1]) <= 0.1


def test_unknown_tasks_and_limits_are_refused():
    with pytest.raises(ValueError, match="SweepInto-v3"):
        dense_spec("SweepIn-v3")
    with pytest.raises(ValueError, match="max_episode_steps is at least 1"):
        dense_spec("SweepInto-v3", 0)
