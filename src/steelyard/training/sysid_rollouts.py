"""Play a simulated car from recorded starts: what ``mujoco.sysid`` fits, and what it is scored by.

A start is a twist and a pose; the rest of the simulator's state is not recorded and is made up: the
car stands level on its tyres, its wheels roll without slip, and its actuators are where a
first-order lag of the past commands has them, or at zero where no past command is known.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.envs.car.generate import planar_motion
from steelyard.envs.car.scene import require_mujoco
from steelyard.evaluation.model_rollout import Recordings
from steelyard.training.sysid_plants import WHEELS

CHUNK = 20
"""Recordings simulated at once: a state of the simulator per time step is kept of each."""
_SETTLE_S = 1.0


def roll_out(model: Any, recordings: Recordings, threads: int = 1) -> Float[Array, "item states 3"]:
    """Simulate every recording's commands from its start; no later state is seen.

    Args:
        model: A plant's ``mujoco.MjModel``.
        recordings: Starts, commands with their history, and time steps.
        threads: Simulating at once, at least 1.

    Returns:
        Twists of the tracked point, in the shape of the recorded ones; NaN from where the physics
        broke down, which :func:`steelyard.evaluation.model_rollout.predict` takes as diverged.

    Raises:
        ValueError: The recordings' step is no multiple of the simulator's, or is not constant.
    """
    mujoco = require_mujoco()
    every = substeps(model, recordings)
    starts, controls = start_states(model, recordings), held_commands(model, recordings)
    parts = []
    with mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0) as rollout:
        data = [mujoco.MjData(model) for _ in range(threads)]
        for first in range(0, len(starts), CHUNK):
            chunk = slice(first, first + CHUNK)
            count = len(starts[chunk])
            states, _ = rollout.rollout(
                [model] * count, data, starts[chunk], controls[chunk], chunk_size=1
            )
            parts.append(np.stack([motion(model, each, every)[:, 3:] for each in states]))
    first_twist = np.asarray(recordings.window.twist[:, :1])
    twist = np.concatenate(parts).astype(first_twist.dtype)
    return jnp.asarray(np.concatenate([first_twist, twist], axis=1))


def motion(
    model: Any, states: Float[np.ndarray, "substep state"], every: int
) -> Float[np.ndarray, "step 6"]:
    """Pose and twist of the tracked point at the end of every control step.

    Args:
        model: Of the simulator.
        states: Its physics states after each time step: time, positions, velocities, actuators.
        every: Time steps of a control step.

    Returns:
        ``(x, y, theta, vx, vy, w)``; NaN from where the physics broke down.
    """
    # MuJoCo's rollout repeats the last state after any warning of the physics.
    moves = np.diff(states[:, 0], prepend=-math.inf) > 0.5 * model.opt.timestep
    intact = np.cumsum(~(moves & np.isfinite(states).all(axis=1))) == 0
    kept = states[every - 1 :: every]
    twist, pose, _ = planar_motion(kept[:, 1:8], kept[:, 1 + model.nq : 7 + model.nq])
    return np.where(intact[every - 1 :: every, None], np.concatenate([pose, twist], axis=1), np.nan)


def substeps(model: Any, recordings: Recordings) -> int:
    """Time steps of the simulator per step of the recordings.

    Raises:
        ValueError: The recordings' step is no multiple of the simulator's, or is not constant.
    """
    dt = np.asarray(recordings.window.dt, np.float64)
    count = round(float(dt.mean()) / model.opt.timestep)
    if count < 1 or not np.allclose(dt, count * model.opt.timestep, rtol=1e-3):
        raise ValueError(
            "a recording's step must be constant and a multiple of the simulator's "
            f"{model.opt.timestep} s within 0.1 %; got {dt.min():.6g} to {dt.max():.6g} s"
        )
    return count


def held_commands(model: Any, recordings: Recordings) -> Float[np.ndarray, "item substep 2"]:
    """Commands of each recording at the simulator's time steps, without their history."""
    steps = recordings.window.dt.shape[-1]
    command = np.asarray(recordings.window.command, np.float64)[:, -steps:]
    return np.repeat(command, substeps(model, recordings), axis=1)


def start_states(model: Any, recordings: Recordings) -> Float[np.ndarray, "item state"]:
    """Full physics states in which the recordings start, as far as they tell; see above.

    Args:
        model: A plant's; where the car's numbers change, so do its starts.
        recordings: Of which the first twist, the first pose and the past commands are read.
    """
    mujoco = require_mujoco()
    data = mujoco.MjData(model)
    height = _standing_height(model, data)
    window = recordings.window
    dt = float(np.asarray(window.dt).mean())
    past = np.asarray(window.command, np.float64)[:, : -window.dt.shape[-1]]
    twists, poses = (np.asarray(a[:, 0], np.float64) for a in (window.twist, window.pose))
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    states = np.empty((len(twists), mujoco.mj_stateSize(model, kind)))
    for state, twist, pose, commands in zip(states, twists, poses, past, strict=True):
        mujoco.mj_resetData(model, data)
        _place(data, twist, pose, height)
        _actuate(model, data, commands, dt)
        _steer_and_spin(model, data, twist)
        mujoco.mj_getState(model, data, state, kind)
    return states


def _standing_height(model: Any, data: Any) -> float:
    mujoco = require_mujoco()
    mujoco.mj_resetData(model, data)
    for _ in range(math.ceil(_SETTLE_S / model.opt.timestep)):
        mujoco.mj_step(model, data)
    return float(data.qpos[2])


def _place(data: Any, twist: np.ndarray, pose: np.ndarray, height: float) -> None:
    x, y, theta = pose
    cos, sin = math.cos(theta), math.sin(theta)
    data.qpos[:7] = (x, y, height, math.cos(theta / 2), 0.0, 0.0, math.sin(theta / 2))
    data.qvel[:2] = cos * twist[0] - sin * twist[1], sin * twist[0] + cos * twist[1]
    data.qvel[5] = twist[2]


def _actuate(model: Any, data: Any, past: Float[np.ndarray, "past 2"], dt: float) -> None:
    """Let each lagging actuator follow the past commands from the oldest one on."""
    for actuator in range(model.nu):
        place, lag = model.actuator_actadr[actuator], model.actuator_dynprm[actuator, 0]
        if place < 0:
            continue
        bounds = model.actuator_ctrlrange[actuator]
        limited = model.actuator_ctrllimited[actuator]
        known = past[:, actuator] if len(past) else np.zeros(1)
        wanted = np.clip(known, *bounds) if limited else known
        level = wanted[0]
        for each in wanted:
            level += -math.expm1(-dt / lag) * (each - level)
        data.act[place] = level


def _steer_and_spin(model: Any, data: Any, twist: np.ndarray) -> None:
    """Turn the steering to where its servo rests, and the wheels as if they rolled."""
    servo = model.actuator("steering")
    gain, bias = servo.gainprm, servo.biasprm
    angle = (gain[0] * data.act[servo.actadr[0]] + bias[0]) / -bias[1]
    _joint(model, data.qpos, "steering", angle)
    for row in range(model.neq):
        slave = model.joint(model.eq_obj1id[row])
        data.qpos[slave.qposadr[0]] = np.polynomial.polynomial.polyval(
            angle, model.eq_data[row, :5]
        )
    for wheel in WHEELS:
        x, y, _ = model.body(wheel).pos
        front = wheel.startswith("front")
        heading = data.qpos[model.joint(f"{wheel}_steer").qposadr[0]] if front else 0.0
        rolling = math.cos(heading) * (twist[0] - twist[2] * y)
        rolling += math.sin(heading) * (twist[1] + twist[2] * x)
        _joint(model, data.qvel, f"{wheel}_spin", rolling / model.geom(wheel).size[0])


def _joint(model: Any, array: np.ndarray, name: str, value: float) -> None:
    joint = model.joint(name)
    positions = array.shape[0] == model.nq
    array[(joint.qposadr if positions else joint.dofadr)[0]] = value
