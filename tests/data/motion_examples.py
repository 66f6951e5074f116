"""Exact recorded motion made from formulas, for the tests of trajectories and of their imports."""

import numpy as np

from steelyard.data.trajectories import Trajectories


def example_trajectories(sizes=(9, 4, 12), seed=0, kind="velocity", prefix="run", **changes):
    """Trajectories of random numbers; each row's first twist is its own row number."""
    generator = np.random.default_rng(seed)
    states = sum(sizes)
    fields = {
        "twist": np.column_stack([np.arange(states), generator.normal(size=(states, 2))]),
        "pose": generator.normal(size=(states, 3)),
        "command": generator.uniform(-1, 1, (states, 2)),
        "dt": np.full(states, 0.05),
        "lengths": np.array(sizes),
        "ids": tuple(f"{prefix}{i}" for i in range(len(sizes))),
        "groups": ("mixed",) * len(sizes),
        "command_kind": kind,
    }
    return Trajectories(**{**fields, **changes})


def circle(states=60, dt=0.05, speed=1.5, yaw_rate=0.8, start=0.3):
    """Pose and body twist of a car on a circle, its tracked point 0.1 m ahead of the rear axle."""
    time = dt * np.arange(states)
    theta = start + yaw_rate * time
    lateral = 0.1 * yaw_rate
    # The velocity has constant size and turns with the body.
    course = theta + np.arctan2(lateral, speed)
    radius = np.hypot(speed, lateral) / yaw_rate
    pose = np.column_stack([radius * np.sin(course), -radius * np.cos(course), theta])
    return time, pose, np.tile([speed, lateral, yaw_rate], (states, 1))


def in_world(pose, twist):
    """The same velocities along the world's axes."""
    cos, sin = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    return np.column_stack(
        [
            cos * twist[:, 0] - sin * twist[:, 1],
            sin * twist[:, 0] + cos * twist[:, 1],
            twist[:, 2],
        ]
    )
