"""Environments of runs that share seeds: equal starts, and nothing else in common."""

import numpy as np

from steelyard.envs.registry import make_env
from steelyard.envs.shared_starts import SharedStarts

FORK = "sparse/Fork-v0"


def test_runs_of_one_seed_start_alike_and_live_apart():
    env = SharedStarts(FORK, [4, 5, 4, 6, 5, 4])
    first = env.reset()
    np.testing.assert_array_equal(first[[0, 1]], first[[2, 4]])
    np.testing.assert_array_equal(first[0], first[5])
    assert not np.array_equal(first[0], first[1])
    action = np.zeros((6, 2), np.float32)
    action[2] = [0.5, 0.5]
    step = env.step(action)
    np.testing.assert_array_equal(step.observation[0], step.observation[5])
    assert not np.array_equal(step.observation[0], step.observation[2])


def test_each_row_is_that_of_its_own_environment(optimised):
    seeds = [9, 3, 9, 7, 3]
    env, alone = SharedStarts(FORK, seeds), [make_env(FORK, [s]) for s in seeds]
    np.testing.assert_array_equal(env.reset(), np.concatenate([e.reset() for e in alone]))
    random = np.random.default_rng(0)
    for _ in range(70):
        action = random.uniform(-1, 1, (5, 2)).astype(np.float32)
        step = env.step(action)
        parts = [e.step(a[None]) for e, a in zip(alone, action, strict=True)]
        for name in step._fields:
            expected = np.concatenate([getattr(p, name) for p in parts])
            np.testing.assert_array_equal(getattr(step, name), expected)
