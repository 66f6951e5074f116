"""Simulated recordings of the car as trajectories."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.data.trajectories import Trajectories
from steelyard.envs.car.sets import CarRecording


def car_trajectories(
    recordings: Sequence[CarRecording],
    name: str,
    metadata: Mapping[str, Any] | None = None,
) -> Trajectories:
    """Put simulated recordings end to end; trajectory ``i`` is called ``{name}_{i:05d}``.

    A recording that ended in a roll-over before its second state is left out and counted, like all
    that ended so, in the metadata.

    Args:
        recordings: In their order.
        name: Set they belong to; their group.
        metadata: What else to remember.
    """
    kept = [(i, r) for i, r in enumerate(recordings) if len(r.twist) >= 2]
    parts = [r for _, r in kept]
    counts = {
        "trajectories": len(parts),
        "rolled_over": sum(r.terminated for r in recordings),
        "left_out": len(recordings) - len(parts),
    }
    return Trajectories(
        twist=np.concatenate([r.twist for r in parts]).astype(np.float32),
        pose=np.concatenate([r.pose for r in parts]).astype(np.float32),
        command=np.concatenate([_per_state(r.command) for r in parts]).astype(np.float32),
        dt=np.concatenate([_per_state(r.dt) for r in parts]).astype(np.float32),
        lengths=np.array([len(r.twist) for r in parts]),
        ids=tuple(f"{name}_{i:05d}" for i, _ in kept),
        groups=(name,) * len(parts),
        command_kind="velocity",
        metadata={
            **(metadata or {}),
            "counts": counts,
            "friction": [round(r.friction, 6) for r in parts],
            "laws": [r.kind for r in parts],
        },
    )


def _per_state(steps: np.ndarray) -> np.ndarray:
    """One row per state: the last step's once more, which is never used."""
    return np.concatenate([steps, steps[-1:]])
