"""The one interface through which data come from a simulator."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from steelyard.types import EnvSpec


class Step(NamedTuple):
    """What a vector environment returns; every row is a real transition of its episode.

    Attributes:
        observation: ``[env, obs]`` float32, what to act on next: where the episode has ended, the
            first observation of the next one.
        next_observation: ``[env, obs]`` float32, what the step led to: where the episode has ended,
            its true final observation.
        reward: ``[env]`` float32.
        terminated: ``[env]`` bool, the task ended; bootstrapping stops here and only here.
        truncated: ``[env]`` bool, the time limit cut the episode.
    """

    observation: np.ndarray
    next_observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """``[env]`` bool, whether the episode ended for whichever reason."""
        return self.terminated | self.truncated


@runtime_checkable
class VectorEnv(Protocol):
    """``num_envs`` copies of one task, stepped together.

    Observations are float32. Actions are in environment units (see ``EnvSpec.to_env_units``).
    Two environments built with the same seeds and given the same actions return the same bytes.
    """

    spec: EnvSpec
    num_envs: int

    def reset(self) -> np.ndarray:
        """Start a new episode everywhere and return observations ``[env, obs]``."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Step everywhere with ``action`` ``[env, act]`` in environment units."""
        ...

    def close(self) -> None:
        """Release the simulator."""
        ...


def checked_seeds(seeds: Sequence[int]) -> list[int]:
    """Return ``seeds`` as plain integers, or refuse them.

    Args:
        seeds: One seed per environment, distinct, each in ``[0, 2**31 - 1]``.

    Raises:
        ValueError: If there is none, one is out of range, or two are equal (two environments with
            one seed would hold the same episodes twice).
    """
    plain = [int(seed) for seed in seeds]
    if not plain:
        raise ValueError("a vector environment needs at least one seed, one per environment: got 0")
    for index, seed in enumerate(plain):
        if not 0 <= seed < 2**31:
            raise ValueError(f"a seed lies in [0, {2**31 - 1}]: got {seed} for environment {index}")
    first = {seed: index for index, seed in reversed(list(enumerate(plain)))}
    for index, seed in enumerate(plain):
        if first[seed] != index:
            raise ValueError(
                f"seeds are distinct: environments {first[seed]} and {index} both got {seed}"
            )
    return plain


def checked_action(action: np.ndarray, spec: EnvSpec, num_envs: int) -> np.ndarray:
    """Return ``action`` as an array, or refuse it before the simulator sees it.

    Args:
        action: ``[env, act]``, environment units.
        spec: The task that is stepped.
        num_envs: Number of environments that are stepped.

    Raises:
        ValueError: If the shape differs from ``[env, act]`` or a value is not finite.
    """
    action = np.asarray(action)
    expected = (num_envs, spec.action_size)
    if action.shape != expected:
        raise ValueError(
            f"{spec.id}: actions have shape [env, act] = {list(expected)}, got {list(action.shape)}"
        )
    if not np.isfinite(action).all():
        row = int(np.flatnonzero(~np.isfinite(action).all(axis=1))[0])
        raise ValueError(
            f"{spec.id}: actions are finite, got {action[row].tolist()} for environment {row}"
        )
    return action
