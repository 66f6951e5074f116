"""Gymnasium environments behind the library's interface: for tasks that EnvPool does not hold."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.spaces import spec_from_spaces, without_precision_remarks


class GymnasiumEnv:
    """Gymnasium environments stepped one after the other; implements ``VectorEnv``.

    Each is reset with its own seed first; later resets continue its random stream. An episode that
    ends is reset within the same step. Where a task ends on its time limit, ``terminated`` wins.

    Attributes:
        spec: The task; float32 bounds, as the actions that learners produce.
        num_envs: Number of environments, one per seed.
    """

    def __init__(
        self,
        source: str | Callable[[], Any],
        seeds: Sequence[int],
        *,
        max_episode_steps: int | None = None,
        can_terminate: bool = True,
        id: str | None = None,
        **options: Any,
    ):
        """Build the environments.

        Args:
            source: A gymnasium id, e.g. ``"Pendulum-v1"``, or a function that builds one
                environment.
            seeds: One seed per environment, distinct (see ``training_seeds``).
            max_episode_steps: Time limit in steps. None for the environment's own, which it then
                must have; at most that of an environment built by a function.
            can_terminate: Whether an episode can end before its time limit. False is a promise
                that is checked at each step.
            id: Name in ``spec``; ``gymnasium/`` and the environment's id if None.
            **options: Passed to ``gymnasium.make``; refused with a function.

        Raises:
            ValueError: If the seeds, the spaces or the time limit are refused, or the id is
                unknown to gymnasium.
        """
        seeds = checked_seeds(seeds)
        self._envs = [_build(source, max_episode_steps, options) for _ in seeds]
        self._pending_seeds: list[int | None] = [*seeds]
        self._elapsed = np.zeros(len(seeds), np.int64)
        one = self._envs[0]
        own_id = getattr(one.spec, "id", None) or getattr(source, "__name__", "custom")
        name = id or f"gymnasium/{own_id}"
        own_limit = getattr(one.spec, "max_episode_steps", None)
        limit = max_episode_steps or own_limit
        if limit is None:
            raise ValueError(f"{name} has no time limit of its own: pass max_episode_steps")
        if own_limit is not None and limit > own_limit:
            raise ValueError(
                f"{name}: max_episode_steps is at most its own limit {own_limit}, got {limit}"
            )
        self.spec = spec_from_spaces(
            name, one.observation_space, one.action_space, limit, can_terminate
        )
        self._action_dtype = one.action_space.dtype
        self.num_envs = len(self._envs)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        return np.stack([self._first(index) for index in range(self.num_envs)])

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]`` in environment units.

        Raises:
            ValueError: If ``action`` has another shape or is not finite, or an environment
                terminates that was promised not to.
        """
        action = checked_action(action, self.spec, self.num_envs).astype(self._action_dtype)
        next_observation = np.empty((self.num_envs, self.spec.observation_size), np.float32)
        reward = np.empty(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for index, env in enumerate(self._envs):
            observed, reward[index], terminated[index], cut, _ = env.step(action[index])
            next_observation[index] = observed
            self._elapsed[index] += 1
            at_limit = self._elapsed[index] >= self.spec.max_episode_steps
            truncated[index] = (cut or at_limit) and not terminated[index]
        if terminated.any() and not self.spec.can_terminate:
            index = int(np.flatnonzero(terminated)[0])
            raise ValueError(
                f"{self.spec.id}: environment {index} terminated after {self._elapsed[index]} "
                "steps, but was built with can_terminate=False"
            )
        observation = next_observation.copy()
        for index in map(int, np.flatnonzero(terminated | truncated)):
            observation[index] = self._first(index)
        return Step(observation, next_observation, reward, terminated, truncated)

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs:
            env.close()

    def _first(self, index: int) -> np.ndarray:
        """Start an episode in one environment and return its first observation ``[obs]``."""
        observation, _ = self._envs[index].reset(seed=self._pending_seeds[index])
        self._pending_seeds[index] = None
        self._elapsed[index] = 0
        return np.array(observation, np.float32)


def _build(
    source: str | Callable[[], Any], max_episode_steps: int | None, options: dict[str, Any]
) -> Any:
    import gymnasium

    if not isinstance(source, str):
        if options:
            raise ValueError(
                f"options go to gymnasium.make; with a function, close over them: got {options}"
            )
        return source()
    try:
        with without_precision_remarks():
            return gymnasium.make(
                source,
                max_episode_steps=max_episode_steps,
                disable_env_checker=True,  # its remarks are warnings; check_env raises instead
                **options,
            )
    except gymnasium.error.UnregisteredEnv as error:
        raise ValueError(f"gymnasium has no task {source!r}: {error}") from error
