"""MetaWorld's tasks with their own reward, all of the scene in sight, never ending early.

What is seen are 35 of MetaWorld's 39 numbers: hand ``x, y, z`` (m), opening of the gripper, the two
objects (7 numbers each: place, quaternion), the two objects of the frame before, the goal
``x, y, z`` (m). Left out are the hand and the gripper of the frame before, as in Hejna et al. 2023,
arXiv:2310.13639. Departures from EnvPool's own behaviour are those of ``steelyard.envs.envpool``.
"""

import difflib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.envpool import Pool, envpool_ids
from steelyard.types import EnvSpec

OBSERVATION_SIZE, ACTION_SIZE = 35, 4
HAND, OPENING, OBJECT, GOAL = slice(0, 3), 3, slice(4, 7), slice(32, 35)
_LEFT_OUT = slice(18, 22)
MAX_EPISODE_STEPS = 250
CONTROL_TIMESTEP = 0.0125
"""Seconds of a step."""


def dense_ids() -> tuple[str, ...]:
    """Names of the tasks, without the family's prefix: all of EnvPool's MetaWorld."""
    return tuple(
        id.removeprefix("MetaWorld/") for id in envpool_ids() if id.startswith("MetaWorld/")
    )


def whole_view(raw: Float[np.ndarray, "env 39"]) -> Float32[np.ndarray, "env 35"]:
    """Return what is seen of MetaWorld's observation; see the module."""
    return np.delete(raw, _LEFT_OUT, axis=1).astype(np.float32)


def dense_spec(id: str, max_episode_steps: int = MAX_EPISODE_STEPS) -> EnvSpec:
    """Describe one of the tasks without building a simulator.

    Args:
        id: MetaWorld's name of it, such as ``"SweepInto-v3"``.
        max_episode_steps: Time limit in steps, at least 1; MetaWorld's own is 500.

    Raises:
        ValueError: There is no such task, or the limit is below 1.
    """
    legal = dense_ids()
    if id not in legal:
        near = difflib.get_close_matches(id, legal, n=3)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"MetaWorld has no task {id!r}{hint} (list_envs() names all)")
    if max_episode_steps < 1:
        raise ValueError(f"dense/{id}: max_episode_steps is at least 1, got {max_episode_steps}")
    low, high = (-1.0,) * ACTION_SIZE, (1.0,) * ACTION_SIZE
    return EnvSpec(f"dense/{id}", OBSERVATION_SIZE, low, high, max_episode_steps, False)


class DenseTaskEnv:
    """A pool of one of the tasks, one seed per environment; implements ``VectorEnv``.

    Attributes:
        spec: The task.
        num_envs: Number of environments, one per seed.
        succeeded: ``[env]`` bool, whether the last step was at the task's goal.
    """

    succeeded: Bool[np.ndarray, "env"]

    def __init__(
        self,
        id: str,
        seeds: Sequence[int],
        *,
        num_threads: int = 0,
        max_episode_steps: int = MAX_EPISODE_STEPS,
    ):
        """Build the pool.

        Args:
            id: MetaWorld's name of the task, such as ``"SweepInto-v3"``.
            seeds: One seed per environment, distinct (see ``training_seeds``).
            num_threads: Simulator threads; 0 for one per core. Changes no result.
            max_episode_steps: Time limit in steps.

        Raises:
            ValueError: As ``dense_spec``, or if the seeds are refused.
        """
        seeds = checked_seeds(seeds)
        self.spec = dense_spec(id, max_episode_steps)
        self.num_envs = len(seeds)
        visible = {"partially_observable": False}
        self._pool = Pool(f"MetaWorld/{id}", seeds, max_episode_steps, num_threads, visible)
        self.succeeded = np.zeros(self.num_envs, np.bool_)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, 35]``."""
        self.succeeded = np.zeros(self.num_envs, np.bool_)
        return whole_view(self._pool.reset())

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, 4]``.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        moved = self._pool.step(checked_action(action, self.spec, self.num_envs))
        assert moved.success is not None, "MetaWorld says whether a step succeeds"
        self.succeeded = moved.success
        next_observation = whole_view(moved.observation)
        observation = next_observation.copy()
        ended = np.flatnonzero(moved.at_limit)
        if ended.size:
            observation[ended] = whole_view(self._pool.reset(ended))
        never = np.zeros(self.num_envs, np.bool_)
        reward = moved.reward.astype(np.float32)
        return Step(observation, next_observation, reward, never, moved.at_limit)

    def close(self) -> None:
        """Release the simulator."""
        self._pool.close()
