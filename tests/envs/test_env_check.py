"""The check rejects an environment for every rule, by planting one violation at a time."""

import ast
import dataclasses
import inspect

import numpy as np
import pytest

from steelyard.envs import check
from steelyard.envs.base import Step
from steelyard.envs.check import ContractError, check_env
from steelyard.types import EnvSpec


class Walk:
    """A random walk of five steps that keeps the contract; subclasses break one rule each."""

    limit = 5

    def __init__(self, seeds):
        self.spec = EnvSpec("walk", 2, (-1.0,), (1.0,), self.limit, False)
        self.num_envs = len(seeds)
        self.rngs = [np.random.default_rng(seed) for seed in self.used(seeds)]
        self.state = np.zeros((self.num_envs, 2), np.float32)
        self.elapsed = np.zeros(self.num_envs, int)

    def used(self, seeds):
        return seeds

    def reset(self):
        for index in range(self.num_envs):
            self.start(index)
        return self.state.copy()

    def start(self, index):
        self.state[index] = self.rngs[index].uniform(-1, 1, 2)
        self.elapsed[index] = 0

    def step(self, action):
        if action.shape != (self.num_envs, 1):
            raise ValueError("shape")
        self.state = self.state + 0.1 * action
        self.elapsed += 1
        next_observation = self.state.copy()
        truncated = self.elapsed >= self.limit
        for index in np.flatnonzero(truncated):
            self.start(index)
        reward = next_observation[:, 0].copy()
        return Step(
            self.state.copy(), next_observation, reward, np.zeros_like(truncated), truncated
        )

    def close(self):
        pass


def changed(**fields):
    """A walk whose steps come out with some fields replaced by a function of the step."""

    class Changed(Walk):
        def step(self, action):
            step = super().step(action)
            return step._replace(**{name: change(step) for name, change in fields.items()})

    return Changed


def described(**fields):
    class Described(Walk):
        def __init__(self, seeds):
            super().__init__(seeds)
            self.spec = dataclasses.replace(self.spec, **fields)

    return Described


class OneTooFew(Walk):
    def __init__(self, seeds):
        super().__init__(seeds[1:])


class WideReset(Walk):
    def reset(self):
        return super().reset().astype(np.float64)


class WritesActions(Walk):
    def step(self, action):
        step = super().step(action)
        action *= 0.5
        return step


class ReusesArrays(Walk):
    buffer = None

    def step(self, action):
        step = super().step(action)
        if self.buffer is None:
            self.buffer = np.zeros_like(step.reward)
        self.buffer[:] = step.reward
        return step._replace(reward=self.buffer)


class NextStepAutoreset(Walk):
    """Spends a row on each reset, as EnvPool and gymnasium's vector environments do."""

    over = False

    def step(self, action):
        if self.over:
            self.over = False
            none = np.zeros(self.num_envs, bool)
            return Step(self.first, self.first, np.zeros(self.num_envs, np.float32), none, none)
        step = super().step(action)
        self.over, self.first = bool(step.truncated.any()), step.observation
        return step._replace(observation=step.next_observation)


class NeverEnds(Walk):
    limit = 10**9

    def __init__(self, seeds):
        super().__init__(seeds)
        self.spec = dataclasses.replace(self.spec, max_episode_steps=5)


class CutsEarly(Walk):
    def __init__(self, seeds):
        super().__init__(seeds)
        self.spec = dataclasses.replace(self.spec, max_episode_steps=6)


class DrawsStartsFromNowhere(Walk):
    """Draws from numpy's entropy, not from its seeds."""

    def used(self, seeds):
        return [None] * len(seeds)


class DrawsRewardsFromNowhere(Walk):
    nowhere = np.random.default_rng()

    def step(self, action):
        return super().step(action)._replace(reward=self.nowhere.random(self.num_envs, np.float32))


class SeededByPlace(Walk):
    """What a pool seeded with one number does: environment i gets that number + i."""

    def used(self, seeds):
        return [seeds[0] + place for place in range(len(seeds))]


class IgnoresSeeds(Walk):
    def used(self, seeds):
        return [0] * len(seeds)


class AlwaysTheSameStart(Walk):
    def start(self, index):
        super().start(index)
        self.state[index] = self.first[index]

    def __init__(self, seeds):
        super().__init__(seeds)
        self.first = np.stack([rng.uniform(-1, 1, 2) for rng in self.rngs]).astype(np.float32)


class ResetKeepsCounting(Walk):
    def reset(self):
        elapsed = self.elapsed.copy()
        first = super().reset()
        self.elapsed = elapsed
        return first


class TakesAnyShape(Walk):
    def step(self, action):
        return super().step(action[:, :1])


def at_ends(step, then):
    return np.where(step.ended[:, None], then, step.observation).astype(np.float32)


PLANTED = {
    "one environment per seed": OneTooFew,
    "observations have components": described(observation_size=0),
    "the time limit is at least 1": described(max_episode_steps=0),
    "action bounds are finite": described(action_low=(-np.inf,)),
    "low below high": described(action_low=(1.0,)),
    "observation is float32; at reset": WideReset,
    "next_observation is float32; at step 0": changed(
        next_observation=lambda s: s.next_observation.astype(np.float64)
    ),
    "reward is float32": changed(reward=lambda s: s.reward.astype(np.float64)),
    "terminated is bool": changed(terminated=lambda s: s.terminated.astype(np.int8)),
    r"observation has shape \[3, 2\]": changed(observation=lambda s: s.observation[:, :1]),
    r"reward has shape \[3\]": changed(reward=lambda s: s.reward[:, None]),
    "reward is finite": changed(reward=lambda s: s.reward * np.float32(np.nan)),
    "never both": changed(terminated=lambda s: s.truncated),
    "can_terminate=False never terminates": changed(
        terminated=lambda s: s.truncated, truncated=lambda s: s.terminated
    ),
    "actions are read only": WritesActions,
    "does not write into arrays returned before": ReusesArrays,
    "ends at or before max_episode_steps = 5": NeverEnds,
    "truncated means the time limit": CutsEarly,
    "ends at or before max_episode_steps = 5; at step 9": NextStepAutoreset,
    "observation equals next_observation where the episode goes on": changed(
        observation=lambda s: s.observation + np.float32(1)
    ),
    "its true final observation": changed(next_observation=lambda s: s.observation),
    "the first of the next episode": changed(observation=lambda s: at_ends(s, s.next_observation)),
    "the same seeds and actions give the same bytes": DrawsStartsFromNowhere,
    "not on its place or its neighbours": SeededByPlace,
    "different seeds give different starts": IgnoresSeeds,
    "continue an environment's random stream": AlwaysTheSameStart,
    "reset starts new episodes everywhere": ResetKeepsCounting,
    "an action of the wrong shape is a ValueError": TakesAnyShape,
}


def test_a_sound_environment_passes():
    check_env(Walk)


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_violation_is_named(rule):
    with pytest.raises(ContractError, match=rule):
        check_env(PLANTED[rule])


def test_every_rule_is_broken_by_some_planted_violation():
    tree = ast.parse(inspect.getsource(check))
    calls = [
        range(node.lineno, node.end_lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "_require"
    ]
    raised = set()
    for make in [*PLANTED.values(), DrawsRewardsFromNowhere]:
        with pytest.raises(ContractError) as error:
            check_env(make)
        raised |= {frame.lineno + 1 for frame in error.traceback if frame.path.name == "check.py"}
    never = [call[0] for call in calls if not raised & set(call)]
    assert not never, f"no planted violation breaks the rules at lines {never} of check.py"


def test_an_environment_without_any_randomness_can_be_checked():
    class Fixed(Walk):
        def start(self, index):
            self.state[index] = 0
            self.elapsed[index] = 0

    check_env(Fixed, one_start=True)
    with pytest.raises(ContractError, match="random stream"):
        check_env(Fixed)
