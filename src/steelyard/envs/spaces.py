"""From gymnasium spaces, which EnvPool uses too, to the fields of an ``EnvSpec``."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from steelyard.types import EnvSpec


def spec_from_spaces(
    id: str, observations: Any, actions: Any, max_episode_steps: int, can_terminate: bool
) -> EnvSpec:
    """Describe a task whose observations and actions are gymnasium spaces.

    Args:
        id: Name of the task.
        observations: A ``Box`` with one axis.
        actions: A bounded ``Box`` with one axis.
        max_episode_steps: Time limit in steps, at least 1.
        can_terminate: Whether an episode can end before its time limit.

    Raises:
        ValueError: If a space is of another kind, or the time limit is below 1.
    """
    from gymnasium.spaces import Box

    if not (isinstance(observations, Box) and len(observations.shape) == 1):
        raise ValueError(f"{id}: observations are one vector of numbers, got {observations}")
    if not (isinstance(actions, Box) and len(actions.shape) == 1):
        raise ValueError(f"{id}: actions are one vector of numbers, got {actions}")
    if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
        raise ValueError(f"{id}: actions are bounded, got {actions.low} to {actions.high}")
    if max_episode_steps < 1:
        raise ValueError(f"{id}: max_episode_steps is at least 1, got {max_episode_steps}")
    low, high = tuple(map(float, actions.low)), tuple(map(float, actions.high))
    return EnvSpec(id, observations.shape[0], low, high, int(max_episode_steps), can_terminate)


@contextmanager
def without_precision_remarks() -> Iterator[None]:
    """Silence gymnasium's remark that it stores float64 bounds as float32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*precision lowered by casting.*", UserWarning)
        yield
