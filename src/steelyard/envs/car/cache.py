"""Finished chunks of recordings on disk: npz without pickles, written atomically.

The folder's name holds a hash of all that the recordings follow from, so a change of the scene, the
set, the seed or the simulator leads to another folder and never to old data.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steelyard.envs.car.sets import CarRecording, CarSet
from steelyard.files import read_arrays, reading, replacing, write_text

FORMAT = 1
"""Raised when the generation changes in a way that no field of the key shows."""


def cache_folder(cache: Path, source: CarSet, seed: int, scene: str, simulator: str) -> Path:
    """Return the folder of one set and seed, made if there is none; ``key.json`` says what it is.

    Args:
        cache: Folder of all sets.
        source: The set.
        seed: Of the set.
        scene: MJCF of the car.
        simulator: Name and version.
    """
    key = {
        "format": FORMAT,
        "set": dataclasses.asdict(source),
        "seed": seed,
        "scene": hashlib.sha256(scene.encode()).hexdigest(),
        "simulator": simulator,
    }
    text = json.dumps(key, indent=1, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = cache / f"car-mujoco-{source.name}-seed{seed}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "key.json", text + "\n")
    return folder


def write_chunk(path: Path, recordings: Sequence[CarRecording]) -> None:
    """Write recordings atomically: a reader sees the old file, or the whole new one."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(
            file,
            twist=np.concatenate([r.twist for r in recordings]),
            pose=np.concatenate([r.pose for r in recordings]),
            command=np.concatenate([r.command for r in recordings]),
            steps=np.array([len(r.command) for r in recordings]),
            terminated=np.array([r.terminated for r in recordings]),
            friction=np.array([r.friction for r in recordings]),
            kind=np.array([r.kind for r in recordings]),
        )


def read_chunk(path: Path, dt: float) -> list[CarRecording]:
    """Read recordings; an absent or damaged file holds none, as what it held can be made again.

    Args:
        path: The file.
        dt: Length of a control step, s.
    """
    try:
        with reading(path, "no recordings"):
            return _recordings(read_arrays(path), dt)
    except (OSError, ValueError):
        return []


def _recordings(arrays: Mapping[str, np.ndarray], dt: float) -> list[CarRecording]:
    steps, twist, pose = arrays["steps"], arrays["twist"], arrays["pose"]
    command = arrays["command"]
    if np.any(steps < 1) or len(twist) != np.sum(steps + 1) or len(command) != np.sum(steps):
        raise ValueError("the lengths do not agree")
    if not all(np.isfinite(array).all() for array in (twist, pose, command)):
        raise ValueError("a number is not finite")
    rest = zip(arrays["terminated"], arrays["friction"], arrays["kind"], strict=True)
    states, rows = np.cumsum(steps + 1)[:-1], np.cumsum(steps)[:-1]
    pieces = zip(
        np.split(twist, states),
        np.split(pose, states),
        np.split(command, rows),
        rest,
        strict=True,
    )
    return [
        CarRecording(t, p, c, np.full(len(c), dt), bool(ended), float(friction), str(kind))
        for t, p, c, (ended, friction, kind) in pieces
    ]
