"""``car-mujoco``: trajectories of the simulated car, cached on disk.

Trajectory ``i`` of a set depends on the seed, the set and ``i`` alone: neither on how many are
asked for, nor on threads, nor on what lies in the cache.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from steelyard.envs.car.cache import cache_folder, read_chunk, write_chunk
from steelyard.envs.car.scene import MUSHR, CarParameters, car_xml, compile_car, require_mujoco
from steelyard.envs.car.sets import CarDraw, CarRecording, CarSet, car_set, checked_request

CHUNK = 20
"""Trajectories simulated and written at once."""
MAX_TILT = math.pi / 4.0
"""Roll or pitch beyond which the car counts as rolled over, rad."""
_SETTLE_S = 1.0


def generate(
    source: CarSet | str,
    trajectories: int,
    seed: int,
    *,
    cache: Path | None = None,
    threads: int = 1,
    tick: Callable[[int], object] | None = None,
    car: CarParameters = MUSHR,
) -> list[CarRecording]:
    """Simulate the first ``trajectories`` trajectories of a set, or read them from the cache.

    Args:
        source: A set or its name (``CAR_SETS``).
        trajectories: How many, at least 1.
        seed: Of the set, >= 0; training and test data need different ones.
        cache: Folder under which finished chunks are kept and looked for; none keeps nothing. A
            generation that was stopped goes on where it was.
        threads: Simulating at once.
        tick: Receives the number of trajectories that are done, after each chunk.
        car: The car's numbers.

    Returns:
        The recordings in their order. Those with ``terminated`` ended in a roll-over.

    Raises:
        ValueError: An argument is out of its range or the set is unknown.
        ImportError: MuJoCo is not installed; names the command that installs it.
        FloatingPointError: The physics broke down; names the trajectory.
    """
    chosen = car_set(source) if isinstance(source, str) else source
    checked_request(trajectories, seed)
    if threads < 1:
        raise ValueError(f"threads is at least 1: got {threads}")
    version = require_mujoco().__version__
    folder = cache and cache_folder(cache, chosen, seed, car_xml(car), f"mujoco {version}")
    recordings: list[CarRecording] = []
    for first in range(0, trajectories, CHUNK):
        wanted = min(CHUNK, trajectories - first)
        path = folder / f"{first:06d}.npz" if folder else None
        chunk = read_chunk(path, chosen.dt) if path else []
        if len(chunk) < wanted:
            indices = range(first + len(chunk), first + wanted)
            draws = [chosen.draw(seed, index) for index in indices]
            chunk = chunk + simulate(draws, chosen.dt, indices=indices, threads=threads, car=car)
            if path:
                write_chunk(path, chunk)
        recordings.extend(chunk[:wanted])
        if tick is not None:
            tick(len(recordings))
    return recordings


def simulate(
    draws: Sequence[CarDraw],
    dt: float,
    *,
    indices: Sequence[int] | None = None,
    threads: int = 1,
    car: CarParameters = MUSHR,
) -> list[CarRecording]:
    """Drive the car from rest through each draw's commands.

    Args:
        draws: One per trajectory, equally long.
        dt: Length of a control step, s; a multiple of the physics' time step.
        indices: Names of the trajectories in errors; their places by default.
        threads: Simulating at once.
        car: The car's numbers.

    Raises:
        ValueError: ``dt`` is no multiple of the time step.
        FloatingPointError: A state is not finite.
    """
    substeps = round(dt / car.timestep)
    if substeps < 1 or not math.isclose(substeps * car.timestep, dt, rel_tol=1e-9):
        raise ValueError(
            f"a control step is a multiple of the time step: got {dt} s with {car.timestep} s"
        )
    mujoco = require_mujoco()
    models = [compile_car(draw.friction, car) for draw in draws]
    start = _at_rest(models[0])
    control = np.repeat(np.stack([draw.command for draw in draws]), substeps, axis=1)
    with mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0) as rollout:
        data = [mujoco.MjData(models[0]) for _ in range(threads)]
        states, _ = rollout.rollout(models, data, start[None], control, chunk_size=1)
    states = np.concatenate([np.tile(start, (len(draws), 1, 1)), states], axis=1)
    places = range(len(draws)) if indices is None else indices
    return [
        _recording(draw, place, state, models[0].nq, substeps, dt)
        for draw, place, state in zip(draws, places, states, strict=True)
    ]


def planar_motion(
    position: Float[np.ndarray, "state 7"], velocity: Float[np.ndarray, "state 6"]
) -> tuple[Float[np.ndarray, "state 3"], Float[np.ndarray, "state 3"], Float[np.ndarray, " state"]]:
    """Twist and pose in the plane, and tilt, of a free body.

    Args:
        position: MuJoCo's position of a free joint: place (m) and unit quaternion ``(w, x, y, z)``.
        velocity: Its velocity: linear in the world (m/s), angular in the body (rad/s).

    Returns:
        Twist in the heading frame (its yaw rate is the derivative of the heading), pose with the
        heading unwrapped, and the larger of roll and pitch in ``[0, π]``, rad.
    """
    w, x, y, z = position[:, 3:].T
    roll = np.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x**2 + y**2))
    pitch = np.arcsin(np.clip(2.0 * (w * y - z * x), -1.0, 1.0))
    yaw = np.unwrap(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y**2 + z**2)))
    cos, sin = np.cos(yaw), np.sin(yaw)
    forward = cos * velocity[:, 0] + sin * velocity[:, 1]
    left = -sin * velocity[:, 0] + cos * velocity[:, 1]
    turn = np.sin(roll) * velocity[:, 4] + np.cos(roll) * velocity[:, 5]
    # At 90° of pitch the heading has no derivative; such a state is past the roll-over.
    rate = turn / np.maximum(np.cos(pitch), 1e-3)
    twist = np.stack([forward, left, rate], axis=1)
    pose = np.stack([position[:, 0], position[:, 1], yaw], axis=1)
    return twist, pose, np.maximum(np.abs(roll), np.abs(pitch))


def _recording(
    draw: CarDraw,
    place: int,
    state: Float[np.ndarray, "physics state"],
    nq: int,
    substeps: int,
    dt: float,
) -> CarRecording:
    """Keep every ``substeps``-th state up to the roll-over; a state is time, qpos, qvel, act."""
    # MuJoCo's rollout repeats the last state after any warning of the physics.
    stuck = np.flatnonzero(np.diff(state[:, 0]) < 0.5 * dt / substeps)
    if len(stuck) or not np.isfinite(state).all():
        after_s = stuck[0] * dt / substeps if len(stuck) else 0.0
        raise FloatingPointError(
            f"car-mujoco, trajectory {place}: the physics broke down after {after_s:.3f} s "
            f"(friction {draw.friction:.3f}, commands {draw.kind})"
        )
    twist, pose, tilt = planar_motion(state[:, 1:8], state[:, 1 + nq : 7 + nq])
    over = np.flatnonzero(tilt > MAX_TILT)
    steps = (over[0] - 1) // substeps if len(over) else len(draw.command)
    kept = slice(0, steps * substeps + 1, substeps)
    return CarRecording(
        twist=twist[kept] + draw.noise[: steps + 1],
        pose=pose[kept].copy(),
        command=draw.command[:steps],
        dt=np.full(steps, dt),
        terminated=bool(len(over)),
        friction=draw.friction,
        kind=draw.kind,
    )


def _at_rest(model: Any) -> Float[np.ndarray, " physics"]:
    """State of the car standing on its tyres, at time 0."""
    mujoco = require_mujoco()
    data = mujoco.MjData(model)
    for _ in range(math.ceil(_SETTLE_S / model.opt.timestep)):
        mujoco.mj_step(model, data)
    height = data.qpos[2]
    mujoco.mj_resetData(model, data)
    data.qpos[2] = height
    kind = mujoco.mjtState.mjSTATE_FULLPHYSICS
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    return state
