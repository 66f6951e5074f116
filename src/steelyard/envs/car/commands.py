"""Laws by which the car is commanded: how speed and steering go over the time of a trajectory.

Every level that a law draws is uniform between the bounds of its channel; what lies between two
levels (sine, chirp) stays between them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Times = Float[np.ndarray, " step"]
Commands = Float[np.ndarray, "step 2"]
Bounds = Float[np.ndarray, " 2"]
Law = Callable[[np.random.Generator, Times, Bounds, Bounds], Commands]


def constant(rng: np.random.Generator, time: Times, low: Bounds, high: Bounds) -> Commands:
    """One level per channel, held throughout.

    Args:
        rng: Source of all draws.
        time: Start of each control step, s.
        low: Least speed (m/s) and steering (rad).
        high: Largest.

    Returns:
        Speed (m/s) and steering (rad, positive left) of each step.
    """
    return np.tile(rng.uniform(low, high), (len(time), 1))


def piecewise(rng: np.random.Generator, time: Times, low: Bounds, high: Bounds) -> Commands:
    """New levels of both channels every 0.5 to 2 s; arguments as :func:`constant`."""
    piece = _pieces(rng, time, shortest=0.5, longest=2.0)
    return rng.uniform(low, high, (piece[-1] + 1, 2))[piece]


def sine(rng: np.random.Generator, time: Times, low: Bounds, high: Bounds) -> Commands:
    """A sine per channel between two levels, 0.1 to 0.8 Hz; arguments as :func:`constant`."""
    ends = rng.uniform(low, high, (2, 2))
    frequency, phase = rng.uniform(0.1, 0.8, 2), rng.uniform(0.0, 2.0 * np.pi, 2)
    wave = np.sin(2.0 * np.pi * time[:, None] * frequency + phase)
    return (ends[0] + ends[1]) / 2.0 + wave * (ends[0] - ends[1]) / 2.0


def chirp(rng: np.random.Generator, time: Times, low: Bounds, high: Bounds) -> Commands:
    """Steering swept from 0.1 to 1.5 Hz at one speed; arguments as :func:`constant`."""
    ends = rng.uniform(low, high, (2, 2))
    phase, duration = rng.uniform(0.0, 2.0 * np.pi), time[-1] + np.finfo(float).eps
    cycles = 0.1 * time + (1.5 - 0.1) * time**2 / (2.0 * duration)
    wave = np.sin(2.0 * np.pi * cycles + phase)
    steering = ends[:, 1].mean() + wave * (ends[0, 1] - ends[1, 1]) / 2.0
    return np.stack([np.full_like(time, ends[0, 0]), steering], axis=1)


def brake_and_steer(rng: np.random.Generator, time: Times, low: Bounds, high: Bounds) -> Commands:
    """Cruise almost straight for 1 to 3 s, then brake to 0–40 % of the speed in a turn, and again.

    Arguments as :func:`constant`. While it cruises the steering is a fifth of a level.
    """
    piece = _pieces(rng, time, shortest=1.0, longest=3.0)
    levels = rng.uniform(low, high, (piece[-1] + 1, 2))
    levels[0::2, 1] *= 0.2
    brakes = rng.uniform(0.0, 0.4, len(levels))[1::2]
    levels[1::2, 0] = levels[0::2, 0][: len(brakes)] * brakes
    return np.clip(levels[piece], low, high)


LAWS: dict[str, Law] = {
    "constant": constant,
    "piecewise": piecewise,
    "sine": sine,
    "chirp": chirp,
    "brake_and_steer": brake_and_steer,
}
"""The laws by name."""


def _pieces(
    rng: np.random.Generator, time: Times, *, shortest: float, longest: float
) -> np.ndarray:
    """Index of the piece that each step lies in; lengths uniform between two bounds, s."""
    ends = np.cumsum(rng.uniform(shortest, longest, int(time[-1] / shortest) + 1))
    return np.searchsorted(ends, time, side="right")
