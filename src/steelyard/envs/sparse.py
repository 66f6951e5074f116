"""MetaWorld's tasks as sparse ones: -1 a step, 0 at success, which ends the episode.

What is seen are 10 of MetaWorld's 39 numbers: hand ``x, y, z`` (m), opening of the gripper, object
``x, y, z`` (m), goal ``x, y, z`` (m). The goal is visible. Departures from EnvPool's own behaviour
are those of ``steelyard.envs.envpool``, and the time limits below.
"""

import difflib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.envpool import Pool
from steelyard.types import EnvSpec

OBSERVATION_SIZE, ACTION_SIZE = 10, 4
HAND, OPENING, OBJECT, GOAL = slice(0, 3), 3, slice(4, 7), slice(7, 10)

LIMITS = {
    "HandlePress-v3": 60,
    "DrawerOpen-v3": 100,
    "ButtonPressTopdown-v3": 120,
    "WindowOpen-v3": 120,
    "PickPlace-v3": 150,
    "PegInsertSide-v3": 150,
}
"""Time limit of each task, steps; MetaWorld's own is 500."""


def task_view(raw: Float[np.ndarray, "env 39"]) -> Float32[np.ndarray, "env 10"]:
    """Return what is seen of MetaWorld's observation; see the module."""
    return np.concatenate([raw[:, :7], raw[:, 36:39]], axis=1).astype(np.float32)


def sparse_spec(id: str, max_episode_steps: int | None = None) -> EnvSpec:
    """Describe one of the tasks without building a simulator.

    Args:
        id: A key of ``LIMITS``.
        max_episode_steps: Time limit in steps, at least 1; the task's own if None.

    Raises:
        ValueError: There is no such task, or the limit is below 1.
    """
    if id not in LIMITS:
        near = difflib.get_close_matches(id, LIMITS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no sparse task {id!r}: legal are {', '.join(LIMITS)}{hint}")
    limit = LIMITS[id] if max_episode_steps is None else max_episode_steps
    if limit < 1:
        raise ValueError(f"sparse/{id}: max_episode_steps is at least 1, got {limit}")
    low, high = (-1.0,) * ACTION_SIZE, (1.0,) * ACTION_SIZE
    return EnvSpec(f"sparse/{id}", OBSERVATION_SIZE, low, high, limit, can_terminate=True)


class SparseTaskEnv:
    """A pool of one of the tasks, one seed per environment; implements ``VectorEnv``.

    Attributes:
        spec: The task.
        num_envs: Number of environments, one per seed.
    """

    def __init__(
        self,
        id: str,
        seeds: Sequence[int],
        *,
        num_threads: int = 0,
        max_episode_steps: int | None = None,
    ):
        """Build the pool.

        Args:
            id: A key of ``LIMITS``.
            seeds: One seed per environment, distinct (see ``training_seeds``).
            num_threads: Simulator threads; 0 for one per core. Changes no result.
            max_episode_steps: Time limit in steps; the task's own if None.

        Raises:
            ValueError: As ``sparse_spec``, or if the seeds are refused.
        """
        seeds = checked_seeds(seeds)
        self.spec = sparse_spec(id, max_episode_steps)
        self.num_envs = len(seeds)
        limit = self.spec.max_episode_steps
        visible = {"partially_observable": False}
        self._pool = Pool(f"MetaWorld/{id}", seeds, limit, num_threads, visible)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, 10]``."""
        return task_view(self._pool.reset())

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, 4]``.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        moved = self._pool.step(checked_action(action, self.spec, self.num_envs))
        assert moved.success is not None, "MetaWorld says whether a step succeeds"
        terminated = moved.success
        truncated = moved.at_limit & ~terminated
        next_observation = task_view(moved.observation)
        observation = next_observation.copy()
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            observation[ended] = task_view(self._pool.reset(ended))
        reward = terminated.astype(np.float32) - 1.0
        return Step(observation, next_observation, reward, terminated, truncated)

    def close(self) -> None:
        """Release the simulator."""
        self._pool.close()
