"""The one interface through which data come from a simulator."""

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
