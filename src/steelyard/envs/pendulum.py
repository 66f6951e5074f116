"""The pendulum task as a formula, and its exact solution by dynamic programming.

``θ`` is the angle from upright in radians, ``ω`` the angular velocity in rad/s, ``u`` the torque in
N·m. With a 1 kg, 1 m rod, g = 10 m/s² and steps of 0.05 s:

    ν = ω + (15 sin θ + 3 u) · 0.05;  θ' = θ + 0.05 ν;  ω' = clip(ν, ±8)
    r = -(θ² + 0.1 ω² + 0.001 u²),  θ in [-π, π]

This is EnvPool 1.2.5's ``Pendulum-v1`` (measured: each of 20,000 steps). Gymnasium's clips the
speed before it moves the angle; the two differ only in steps that reach 8 rad/s.
"""

import dataclasses
import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float, Float32, Float64

HORIZON = 200
"""Steps of an episode."""
MAX_SPEED = 8.0
"""Largest angular velocity, rad/s."""
MAX_TORQUE = 2.0
"""Largest torque, N·m."""

_ANGLES, _SPEEDS = 181, 161
_TABLE_TORQUES = np.linspace(-MAX_TORQUE, MAX_TORQUE, 15)
_STEP_S = 0.05

Angles = Float64[np.ndarray, "*batch"]


def pendulum_step(angle: Angles, speed: Angles, torque: Angles) -> tuple[Angles, Angles, Angles]:
    """Advance the pendulum by one step.

    Args:
        angle: ``θ``, radians, any number of turns.
        speed: ``ω``, rad/s, in ``[-8, 8]``.
        torque: ``u``, N·m, clipped to ``[-2, 2]``.

    Returns:
        The next angle in ``[-π, π]``, the next speed, and the reward of the step.
    """
    angle, torque = wrap(angle), np.clip(torque, -MAX_TORQUE, MAX_TORQUE)
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = speed + (15 * np.sin(angle) + 3 * torque) * _STEP_S
    return wrap(angle + speed * _STEP_S), np.clip(speed, -MAX_SPEED, MAX_SPEED), reward


def wrap(angle: Angles) -> Angles:
    """Return the same angle within ``[-π, π)``, radians."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def pendulum_state(observation: Float[np.ndarray, "batch 3"]) -> tuple[Angles, Angles]:
    """Return angle and speed of observations ``(cos θ, sin θ, ω)``."""
    observation = observation.astype(np.float64)
    return np.arctan2(observation[:, 1], observation[:, 0]), observation[:, 2]


@dataclasses.dataclass(frozen=True)
class PendulumOptimum:
    """The policy that is greedy in the tables of optimal values of ``Pendulum-v1``.

    Attributes:
        values: Optimal return from each step on, over a grid of 181 angles in ``[-π, π]`` times 161
            speeds in ``[-8, 8]``; ``values[200]`` is 0. Read only.
        torques: The torques it chooses from, N·m.
    """

    values: Float32[np.ndarray, "time_plus_1 grid"]
    torques: Float64[np.ndarray, " choice"]

    def act(
        self, observation: Float[np.ndarray, "batch 3"], step: int
    ) -> Float32[np.ndarray, "batch 1"]:
        """Return the best torque with ``200 - step`` steps to go.

        Args:
            observation: ``(cos θ, sin θ, ω)``.
            step: Steps taken in this episode, the same for each row, in ``[0, 199]``.

        Returns:
            Torques in environment units, N·m.

        Raises:
            ValueError: If ``step`` lies beyond the end of the episode.
        """
        if not 0 <= step < HORIZON:
            raise ValueError(f"step lies in [0, {HORIZON - 1}], the episode's length: got {step}")
        angle, speed = pendulum_state(observation)
        return self._greedy(angle, speed, step)[:, None].astype(np.float32)

    def returns(self, observation: Float[np.ndarray, "batch 3"]) -> Float64[np.ndarray, " batch"]:
        """Return what this policy earns in an episode from each start, by playing the formula."""
        angle, speed = pendulum_state(observation)
        total = np.zeros_like(angle)
        for step in range(HORIZON):
            torque = self._greedy(angle, speed, step)
            angle, speed, reward = pendulum_step(angle, speed, torque)
            total += reward
        return total

    def _greedy(
        self,
        angle: Float64[np.ndarray, " batch"],
        speed: Float64[np.ndarray, " batch"],
        step: int,
    ) -> Float64[np.ndarray, " batch"]:
        torque = np.broadcast_to(self.torques[:, None], (len(self.torques), len(angle)))
        angle, speed = (np.broadcast_to(x, torque.shape) for x in (angle, speed))
        next_angle, next_speed, reward = pendulum_step(angle, speed, torque)
        cells, weights = _interpolation(next_angle, next_speed)
        table = self.values[step + 1]
        value = sum(table[cell] * weight for cell, weight in zip(cells, weights, strict=True))
        return self.torques[np.argmax(reward + value, axis=0)]


@functools.cache
def pendulum_optimum() -> PendulumOptimum:
    """Solve ``Pendulum-v1`` by finite-horizon dynamic programming, once per process (≈ 1 s).

    ``V_t(s) = max_u r(s, u) + V_{t+1}(s')`` over 15 torques, ``V`` bilinear between grid points.
    """
    angle, speed = np.meshgrid(
        np.linspace(-np.pi, np.pi, _ANGLES),
        np.linspace(-MAX_SPEED, MAX_SPEED, _SPEEDS),
        indexing="ij",
    )
    shape = (len(_TABLE_TORQUES), angle.size)
    torque = np.broadcast_to(_TABLE_TORQUES[:, None], shape)
    next_angle, next_speed, reward = pendulum_step(
        np.broadcast_to(angle.ravel(), shape), np.broadcast_to(speed.ravel(), shape), torque
    )
    cells, weights = _interpolation(next_angle.ravel(), next_speed.ravel())
    rows = np.arange(reward.size)
    # Where the pendulum goes does not depend on the step, so one sparse matrix serves all 200.
    transition = scipy.sparse.csr_matrix(
        (
            np.stack(weights, 1).ravel().astype(np.float32),
            np.stack(cells, 1).ravel(),
            np.append(rows, rows.size) * 4,
        ),
        shape=(rows.size, angle.size),
    )
    reward = reward.astype(np.float32)
    values = np.zeros((HORIZON + 1, angle.size), np.float32)
    for step in reversed(range(HORIZON)):
        values[step] = (reward + (transition @ values[step + 1]).reshape(shape)).max(axis=0)
    values.setflags(write=False)
    return PendulumOptimum(values, _TABLE_TORQUES)


def pendulum_optimum_returns(
    observations: Float[np.ndarray, "start 3"],
) -> Float64[np.ndarray, " start"]:
    """Return the optimal return of an episode of 200 steps from each start.

    Args:
        observations: Start observations ``(cos θ, sin θ, ω)``.

    Returns:
        Undiscounted returns, each at most 0.
    """
    return pendulum_optimum().returns(observations)


def _interpolation(angle: np.ndarray, speed: np.ndarray) -> tuple[list, list]:
    """Return the four grid cells around each state and their bilinear weights."""
    row = (angle + np.pi) * ((_ANGLES - 1) / (2 * np.pi))
    column = (speed + MAX_SPEED) * ((_SPEEDS - 1) / (2 * MAX_SPEED))
    i = np.clip(row.astype(np.int64), 0, _ANGLES - 2)
    j = np.clip(column.astype(np.int64), 0, _SPEEDS - 2)
    up, right = row - i, column - j
    corner = i * _SPEEDS + j
    cells = [corner, corner + 1, corner + _SPEEDS, corner + _SPEEDS + 1]
    weights = [(1 - up) * (1 - right), (1 - up) * right, up * (1 - right), up * right]
    return cells, weights
