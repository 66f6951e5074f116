"""A kinematic car driven by numpy, and the smallest runs that still exercise everything."""

import dataclasses
from typing import Any

import numpy as np

from steelyard.agents.dynamics import AdapterConfig, DynamicsConfig, ModelConfig
from steelyard.data.trajectories import Trajectories, concatenate
from steelyard.training.dynamics import DynamicsRun

WHEELBASE, LAG, ARM, BOUND = 0.26, 0.18, 0.13, 9.0


def recordings(
    count: int = 8,
    steps: int = 24,
    seed: int = 0,
    hold: int = 4,
    gain: float = 1.0,
    noise: float = 0.0,
    dt: float = 0.1,
) -> Trajectories:
    """Trajectories of a car whose wheels do not slip, from rest; commands change every ``hold``."""
    rng = np.random.default_rng(seed)
    pieces = -(-steps // hold)
    levels = rng.uniform(-1, 1, (count, pieces, 2)) * [2.5, 0.35]
    command = np.repeat(levels, hold, axis=1)[:, :steps]
    twist, pose = np.zeros((count, steps + 1, 3)), np.zeros((count, steps + 1, 3))
    for k in range(steps):
        acceleration = BOUND * np.tanh((command[:, k, 0] - twist[:, k, 0]) / LAG / BOUND)
        angle = 0.6 * np.tanh(gain * command[:, k, 1] / 0.6)
        speed = twist[:, k, 0] + dt * acceleration
        yaw_rate = speed * np.tan(angle) / WHEELBASE
        twist[:, k + 1] = np.stack([speed, ARM * yaw_rate, yaw_rate], axis=1)
        vx, vy, w = (0.5 * (twist[:, k] + twist[:, k + 1])).T
        middle = pose[:, k, 2] + 0.5 * w * dt
        chord = np.sinc(0.5 * w * dt / np.pi) * dt
        ahead, left = vx * chord, vy * chord
        cos, sin = np.cos(middle), np.sin(middle)
        move = [cos * ahead - sin * left, sin * ahead + cos * left, w * dt]
        pose[:, k + 1] = pose[:, k] + np.stack(move, axis=1)
    twist += noise * rng.normal(size=twist.shape)
    command = np.concatenate([command, command[:, -1:]], axis=1)
    rows = count * (steps + 1)
    return Trajectories(
        twist=twist.reshape(rows, 3),
        pose=pose.reshape(rows, 3),
        command=command.reshape(rows, 2),
        dt=np.full(rows, dt),
        lengths=np.full(count, steps + 1),
        ids=tuple(f"drive{seed}_{i}" for i in range(count)),
        groups=("tiny",) * count,
        command_kind="velocity",
    )


def with_loss(config: DynamicsConfig, **changes: Any) -> DynamicsConfig:
    """The config with parts of its loss replaced: ``rollout_cvar={"alpha": 0.5}``."""
    parts = {
        name: dataclasses.replace(getattr(config.loss, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, loss=dataclasses.replace(config.loss, **parts))


MODEL = ModelConfig(residual_hidden=(4,), control_adapter=AdapterConfig(enabled=False))
CONFIG = with_loss(
    DynamicsConfig(model=MODEL, groups=8, windows_per_group=2), rollout_mse={"horizon": 3}
)
RUN = DynamicsRun(CONFIG, steps=100, eval_every=20)


TRAIN, HELD_OUT = recordings(), concatenate([recordings(2, 24, 1), recordings(2, 17, 2)])
SHARP = {"rollout_cvar": {"enabled": True, "alpha": 0.25}}
"""A tail, from a quarter of the steps on."""


def run_of(run: DynamicsRun = RUN, **changes: Any) -> DynamicsRun:
    """The run with parts of its loss replaced."""
    return dataclasses.replace(run, agent=with_loss(run.agent, **changes))
