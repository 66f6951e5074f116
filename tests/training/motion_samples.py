"""Recorded motion of a car without slip, made from formulas: what a small model can learn."""

import numpy as np

from steelyard.data.trajectories import Trajectories

DT = 0.1
WHEELBASE = 0.3


def recorded(count=10, states=12, seed=0, kind="throttle", prefix="run"):
    """Trajectories of a kinematic car that follows smoothly changing commands from rest."""
    random = np.random.default_rng(seed)
    parts = [_one(random, states) for _ in range(count)]
    twist, pose, command = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Trajectories(
        twist=twist,
        pose=pose,
        command=command,
        dt=np.full(len(twist), DT),
        lengths=np.full(count, states),
        ids=tuple(f"{prefix}{i}" for i in range(count)),
        groups=("made",) * count,
        command_kind=kind,
    )


def _one(random, states):
    asked, steering = random.uniform(0.3, 1.0), random.uniform(-0.35, 0.35)
    time = DT * np.arange(states)
    command = np.column_stack(
        [asked * (0.7 + 0.3 * np.sin(time + asked)), steering * np.cos(0.5 * time)]
    )
    twist, pose = np.zeros((states, 3)), np.zeros((states, 3))
    for k in range(states - 1):
        speed = twist[k, 0] + 0.5 * (command[k, 0] - twist[k, 0])
        rate = speed * np.tan(command[k, 1]) / WHEELBASE
        twist[k + 1] = speed, 0.1 * rate, rate
        middle = 0.5 * (twist[k] + twist[k + 1])
        heading = pose[k, 2] + 0.5 * DT * middle[2]
        cos, sin = np.cos(heading), np.sin(heading)
        moved = cos * middle[0] - sin * middle[1], sin * middle[0] + cos * middle[1], middle[2]
        pose[k + 1] = pose[k] + DT * np.array(moved)
    command[-1] = command[-2]
    return twist, pose, command
