"""Policies that need no training: the anchors of every score, and experts for tests.

``ANCHORS`` holds what they earn per episode, undiscounted, with the standard error of the mean.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32

from steelyard.envs.pendulum import PendulumOptimum, pendulum_optimum, pendulum_optimum_returns
from steelyard.types import EnvSpec

__all__ = [
    "ANCHORS",
    "Anchor",
    "PendulumOptimum",
    "pendulum_optimum",
    "pendulum_optimum_returns",
    "random_actions",
    "zero_actions",
]


@dataclasses.dataclass(frozen=True)
class Anchor:
    """What a scripted policy was measured to earn.

    Attributes:
        mean: Mean undiscounted return of an episode.
        standard_error: Standard error of that mean.
        episodes: Number of episodes of the measurement.
    """

    mean: float
    standard_error: float
    episodes: int


ANCHORS: dict[tuple[str, str], Anchor] = {
    ("Pendulum-v1", "random"): Anchor(-1228.8, 9.0, 1000),
    ("Pendulum-v1", "optimum"): Anchor(-138.1, 1.2, 4000),
    ("HalfCheetah-v5", "random"): Anchor(-287.5, 8.9, 100),
    ("HalfCheetah-v5", "zero"): Anchor(-0.28, 0.07, 100),
}
"""By task and policy (``random``, ``zero``, ``optimum``). Measured in EnvPool 1.2.5 with actions
uniform in the box (random) or 0 (zero); the optimum in the formula, over starts drawn as the task
draws them. One measurement, not a definition: scores use the same starts as the policy they score.
"""


def random_actions(
    spec: EnvSpec, rng: np.random.Generator, num_envs: int
) -> Float32[np.ndarray, "env act"]:
    """Draw actions uniformly from the task's box, in environment units."""
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    drawn = rng.uniform(low, high, (num_envs, spec.action_size)).astype(np.float32)
    # Rounding to float32 may leave the box by one unit in the last place.
    return np.clip(drawn, low.astype(np.float32), high.astype(np.float32))


def zero_actions(spec: EnvSpec, num_envs: int) -> Float32[np.ndarray, "env act"]:
    """Return the action of the task's box that is nearest to 0, in environment units."""
    nearest = np.clip(np.zeros(spec.action_size), spec.action_low, spec.action_high)
    return np.tile(nearest.astype(np.float32), (num_envs, 1))
