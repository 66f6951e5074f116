"""Environments of runs that share their seeds: arms that are compared play from equal starts."""

from collections.abc import Sequence

import numpy as np

from steelyard.envs.base import Step
from steelyard.envs.registry import make_env


class SharedStarts:
    """One environment a run, seeds may come several times; implements ``VectorEnv``.

    Two runs of one seed have an environment each, which starts its episodes alike and knows nothing
    of the other. A pool refuses equal seeds, so they are spread over several.
    """

    def __init__(self, env: str, seeds: Sequence[int]):
        """Build them.

        Args:
            env: Task.
            seeds: One a run.
        """
        pools: list[list[int]] = []
        self._members: list[list[int]] = []
        for run, seed in enumerate(seeds):
            free = [k for k, pool in enumerate(pools) if seed not in pool]
            if not free:
                pools.append([])
                self._members.append([])
            number = free[0] if free else len(pools) - 1
            pools[number].append(seed)
            self._members[number].append(run)
        self._envs = [make_env(env, pool) for pool in pools]
        self.spec, self.num_envs = self._envs[0].spec, len(seeds)
        self._order = np.argsort(np.concatenate(self._members))

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        return np.concatenate([env.reset() for env in self._envs])[self._order]

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]`` in environment units."""
        pairs = zip(self._envs, self._members, strict=True)
        steps = [env.step(action[own]) for env, own in pairs]
        return Step(*(np.concatenate(x)[self._order] for x in zip(*steps, strict=True)))

    def close(self) -> None:
        """Release the simulators."""
        for env in self._envs:
            env.close()
