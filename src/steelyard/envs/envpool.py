"""EnvPool tasks behind the library's interface: the default simulator.

Departures from EnvPool's own behaviour, each of which a plain pool gets wrong for training:

- EnvPool's step *after* the end of an episode ignores its action and returns the reset observation.
  Here an episode that ends is reset at once, so that every row is a real transition.
- EnvPool reports a termination that falls on the time limit as a truncation, which would bootstrap
  from a dead state. Here the pool's own limit is one step later, and this adapter sets
  ``truncated``; ``terminated`` wins where both hold.
- A pool seeded ``s`` seeds environment ``i`` with ``s + i``. Here every environment has its own.
- MetaWorld hides its goal unless told otherwise. Here ``partially_observable`` is off.
"""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.envs.base import Step, checked_action, checked_seeds
from steelyard.envs.spaces import spec_from_spaces, without_precision_remarks
from steelyard.types import EnvSpec

# Tasks whose source has no terminating condition; every other task is taken to have one.
_NEVER_TERMINATES = frozenset(
    {"Pendulum", "HalfCheetah", "Swimmer", "Reacher", "Pusher", "HumanoidStandup"}
)
_OWN_OPTIONS = frozenset({"num_envs", "batch_size", "num_threads", "seed", "env_seed"})


def envpool_ids() -> list[str]:
    """Return the ids of all tasks that the installed EnvPool holds, sorted.

    Those with discrete actions or image observations are among them; building one is refused.
    """
    import envpool

    return sorted(envpool.list_all_envs())


def envpool_spec(
    id: str,
    max_episode_steps: int | None = None,
    can_terminate: bool | None = None,
    **options: Any,
) -> EnvSpec:
    """Describe an EnvPool task without building a simulator.

    Args:
        id: EnvPool's name of the task, e.g. ``"Pendulum-v1"``.
        max_episode_steps: Time limit in steps, at least 1; the task's own if None.
        can_terminate: Whether an episode can end before its time limit; looked up if None.
        **options: Further settings of the task, as EnvPool names them.

    Raises:
        ValueError: If the task or an option is unknown, or the task does not have one vector
            of observations and one bounded vector of actions.
    """
    return _described(id, max_episode_steps, can_terminate, options)[0]


class PoolStep(NamedTuple):
    """What one step of a pool gave, in EnvPool's own precision.

    Attributes:
        observation: ``[env, obs]``, what the step led to.
        reward: ``[env]``.
        terminated: ``[env]`` bool.
        truncated: ``[env]`` bool, cut by the task itself.
        at_limit: ``[env]`` bool, whether this was the last step that the time limit allows.
        success: ``[env]`` bool, whether the task was solved in this step, where it says so.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    at_limit: np.ndarray
    success: np.ndarray | None


class Pool:
    """A pool of one EnvPool task: one seed and one row per environment, resets that cost no row."""

    def __init__(
        self, id: str, seeds: list[int], limit: int, num_threads: int, options: dict[str, Any]
    ):
        """Build the pool.

        Args:
            id: EnvPool's name of the task.
            seeds: One seed per environment.
            limit: Time limit in steps; the caller resets what reaches it.
            num_threads: Simulator threads; 0 for one per core.
            options: Further settings of the task, as EnvPool names them.
        """
        import envpool

        self._limit = limit
        with without_precision_remarks():
            self._pool = envpool.make(
                id,
                env_type="gymnasium",
                num_envs=len(seeds),
                seed=seeds,
                num_threads=num_threads,
                max_episode_steps=limit + 1,
                **options,
            )
            _ = self._pool.observation_space  # built lazily, with the same remark
            self._action_dtype = self._pool.action_space.dtype

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Start new episodes and return their first observations.

        Args:
            which: Indices of environments, in order; None for all. Asking for some alone costs no
                row and steps no other environment.

        Returns:
            ``[len(which), obs]`` observations, in that order.
        """
        if which is None:
            observation, info = self._pool.reset()
        else:
            observation, info = self._pool.reset(which.astype(np.int32))
        return observation[np.argsort(info["env_id"])]

    def step(self, action: np.ndarray) -> PoolStep:
        """Step everywhere with ``action`` ``[env, act]`` in environment units."""
        observation, reward, terminated, truncated, info = self._pool.step(
            action.astype(self._action_dtype)
        )
        order = np.argsort(info["env_id"])
        return PoolStep(
            observation[order],
            reward[order],
            np.asarray(terminated, np.bool_)[order],
            np.asarray(truncated, np.bool_)[order],
            info["elapsed_step"][order] >= self._limit,
            info["success"][order] > 0.5 if "success" in info else None,
        )

    def close(self) -> None:
        """Release the simulator."""
        self._pool.close()


class EnvPoolEnv:
    """A pool of one EnvPool task, one seed per environment; implements ``VectorEnv``.

    Results depend on the seeds and actions only, not on ``num_threads``.

    Attributes:
        spec: The task; float32 bounds, as the actions that learners produce.
        num_envs: Number of environments, one per seed.
    """

    def __init__(
        self,
        id: str,
        seeds: Sequence[int],
        *,
        num_threads: int = 0,
        max_episode_steps: int | None = None,
        can_terminate: bool | None = None,
        **options: Any,
    ):
        """Build the pool.

        Args:
            id: EnvPool's name of the task, e.g. ``"Pendulum-v1"``.
            seeds: One seed per environment, distinct (see ``training_seeds``).
            num_threads: Simulator threads; 0 for one per core, at most one per environment. The
                learner idles while the simulator steps, so using all cores costs it nothing.
            max_episode_steps: Time limit in steps, at least 1; the task's own if None.
            can_terminate: Whether an episode can end before its time limit; looked up if None.
            **options: Further settings of the task, as EnvPool names them, e.g.
                ``ctrl_cost_weight=0.2``.

        Raises:
            ValueError: As ``envpool_spec``, or if the seeds are refused.
        """
        seeds = checked_seeds(seeds)
        self.spec, options = _described(id, max_episode_steps, can_terminate, options)
        self.num_envs = len(seeds)
        self._pool = Pool(id, seeds, self.spec.max_episode_steps, num_threads, options)

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        return self._pool.reset().astype(np.float32)

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]`` in environment units.

        Raises:
            ValueError: If ``action`` has another shape or is not finite.
        """
        moved = self._pool.step(checked_action(action, self.spec, self.num_envs))
        next_observation = moved.observation.astype(np.float32)
        truncated = (moved.truncated | moved.at_limit) & ~moved.terminated
        observation = next_observation.copy()
        ended = np.flatnonzero(moved.terminated | truncated)
        if ended.size:
            observation[ended] = self._pool.reset(ended)
        reward = moved.reward.astype(np.float32)
        return Step(observation, next_observation, reward, moved.terminated, truncated)

    def close(self) -> None:
        """Release the simulator."""
        self._pool.close()


def _described(
    id: str, max_episode_steps: int | None, can_terminate: bool | None, options: dict[str, Any]
) -> tuple[EnvSpec, dict[str, Any]]:
    """Return the task's spec and the options to build it with."""
    import envpool

    known = envpool.list_all_envs()
    if id not in known:
        near = difflib.get_close_matches(id, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"EnvPool has no task {id!r}{hint} (list_envs() names all)")
    with without_precision_remarks():
        config = envpool.make_spec(id).config
    legal = sorted(set(config._fields) - _OWN_OPTIONS)
    for name in options:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, n=1)
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise ValueError(f"{id} has no option {name!r}{hint}. Legal: {', '.join(legal)}")
    if "partially_observable" in legal:
        options = {"partially_observable": False} | options
    limit = config.max_episode_steps if max_episode_steps is None else max_episode_steps
    with without_precision_remarks():
        task: Any = envpool.make_spec(id, **options)
        observations, actions = task.observation_space, task.action_space
    if can_terminate is None:
        can_terminate = not (
            id.startswith("MetaWorld/") or id.rpartition("-v")[0] in _NEVER_TERMINATES
        )
    spec = spec_from_spaces(id, observations, actions, limit, can_terminate)
    return spec, options
