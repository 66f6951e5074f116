"""Segments: pieces of equal length of played episodes, which people or a judge compare.

A data set is a folder ``preference_data/<YYYY-MM-DD-HH-MM-SS>/``:

=======================  =======================================================================
``segments.h5``          the arrays of :class:`Segments`, one HDF5 data set each
``segment_info.json``    what a labelling program needs to know, one entry a segment
``videos/``              clips, made by ``steelyard data film``
``labels.sqlite``        judgements
``export/``              judgements for other programs
=======================  =======================================================================

It lies outside ``runs/``: judgements cost people's hours. Every episode is the first one of an
environment built with its seed, so seed and actions are enough to play it again, bit for bit.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Int

from steelyard.data.findings import DatasetError
from steelyard.data.formats.hdf5 import column, json_attribute, open_hdf5
from steelyard.files import replacing, write_text

ARRAYS, INFO = "segments.h5", "segment_info.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True, eq=False)
class PlayedEpisodes:
    """Episodes that segments were cut from, each the first of an environment of its own.

    Attributes:
        seed: Of the environment.
        action: What was done, in ``[-1, 1]``; zeros after the episode's end.
        length: Steps played.
    """

    seed: Int[np.ndarray, " episode"]
    action: Float32[np.ndarray, "episode step act"]
    length: Int[np.ndarray, " episode"]


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Segments of ``T`` steps, each of one episode; no row lies after an episode's end.

    Attributes:
        env: Task, a name that ``make_env`` knows.
        env_options: What it was built with.
        control_timestep: Seconds of simulated time in a step.
        observation: What was seen before each step.
        action: What was done, in ``[-1, 1]``, both ends included.
        reward: The task's own; learners from judgements never read it.
        terminated: The task ended in this step.
        truncated: The time limit cut the episode in this step.
        valid: Steps that were played; the others are zeros.
        success: The step reached the task's goal, where the task says so.
        behaviour_logp: Log-density of the action under the policy that played it; NaN where it has
            none (noise 0).
        last_observation: What the last valid step led to.
        episode: Which of ``played`` each was cut from.
        start: Its first step in that.
        checkpoint: Who played it, a place in ``checkpoints``.
        noise: Standard deviation of the noise on its actions.
        checkpoints: Names.
        played: Whole episodes, to be played again.
    """

    env: str
    env_options: dict[str, Any]
    control_timestep: float
    observation: Float32[np.ndarray, "item time obs"]
    action: Float32[np.ndarray, "item time act"]
    reward: Float32[np.ndarray, "item time"]
    terminated: Bool[np.ndarray, "item time"]
    truncated: Bool[np.ndarray, "item time"]
    valid: Bool[np.ndarray, "item time"]
    success: Bool[np.ndarray, "item time"]
    behaviour_logp: Float32[np.ndarray, "item time"]
    last_observation: Float32[np.ndarray, "item obs"]
    episode: Int[np.ndarray, " item"]
    start: Int[np.ndarray, " item"]
    checkpoint: Int[np.ndarray, " item"]
    noise: Float32[np.ndarray, " item"]
    checkpoints: tuple[str, ...]
    played: PlayedEpisodes

    def __post_init__(self) -> None:
        for name in ("observation", "action", "reward", "last_observation", "noise"):
            _refuse_non_finite(name, getattr(self, name))
        outside = np.argwhere(np.abs(self.action) > 1.0)
        if len(outside):
            item, step, part = outside[0]
            raise DatasetError(
                f"actions lie in [-1, 1]: segment {item}, step {step}, component {part} is "
                f"{self.action[item, step, part]:g}; divide by the task's action range, see "
                "EnvSpec.to_learner_units"
            )
        empty = np.flatnonzero(~self.valid.any(axis=1))
        if len(empty):
            raise DatasetError(f"every segment has a valid step, segment {empty[0]} has none")
        for name, values, most in (
            ("checkpoint", self.checkpoint, len(self.checkpoints)),
            ("episode", self.episode, len(self.played.seed)),
        ):
            if len(values) and not (values.min() >= 0 and values.max() < most):
                raise DatasetError(
                    f"`{name}` lies in 0 … {most - 1}, got {values.min()} … {values.max()}"
                )

    def __len__(self) -> int:
        return len(self.action)

    @property
    def steps(self) -> int:
        """``T``, steps of a segment."""
        return self.action.shape[1]

    @property
    def window(self) -> Int[np.ndarray, " item"]:
        """Which piece of its episode each is, ``start // T``."""
        return self.start // self.steps

    def take(self, items: Any) -> "Segments":
        """Some of the segments, with all episodes."""
        arrays = {name: getattr(self, name)[items] for name in PER_ITEM}
        return dataclasses.replace(self, **arrays)


PER_ITEM = {
    "observation": "f", "action": "f", "reward": "f", "terminated": "b", "truncated": "b",
    "valid": "b", "success": "b", "behaviour_logp": "f", "last_observation": "f", "episode": "i",
    "start": "i", "checkpoint": "i", "noise": "f",
}  # fmt: skip
"""The arrays that have a row a segment, and the kind of their numbers."""
_PLAYED = {"seed": "i", "action": "f", "length": "i"}


def _refuse_non_finite(name: str, values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = ", ".join(
            f"{axis} {index}"
            for axis, index in zip(("segment", "step", "component"), bad[0], strict=False)
        )
        raise DatasetError(f"`{name}` must be finite: {place} is {values[tuple(bad[0])]}")


def save_segments(folder: Path, segments: Segments) -> Path:
    """Write a data set's arrays and ``segment_info.json``.

    Args:
        folder: The data set; made where it is missing.
        segments: What to write.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder has segments already; judgements may refer to them.
    """
    folder = Path(folder)
    path = folder / ARRAYS
    if path.exists():
        raise FileExistsError(
            f"{path} exists, and judgements may refer to its segments; choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft, h5py.File(draft, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["env"] = segments.env
        file.attrs["env_options"] = json.dumps(segments.env_options, sort_keys=True)
        file.attrs["control_timestep"] = segments.control_timestep
        file.attrs["checkpoints"] = json.dumps(segments.checkpoints)
        for name in PER_ITEM:
            _write(file, name, getattr(segments, name))
        for field in dataclasses.fields(PlayedEpisodes):
            _write(file, f"played/{field.name}", getattr(segments.played, field.name))
    info = json.dumps(segment_info(segments, file_hash(path)), indent=1)
    write_text(folder / INFO, info + "\n")
    return folder


def _write(file: h5py.File, name: str, values: np.ndarray) -> None:
    packed: dict[str, Any] = {"compression": "gzip", "compression_opts": 1} if values.size else {}
    file.create_dataset(name, data=values, track_times=False, **packed)


def segment_info(segments: Segments, sha256: str) -> dict[str, Any]:
    """What ``segment_info.json`` says."""
    entries = [
        {
            "id": item,
            "episode": int(segments.episode[item]),
            "window": int(segments.window[item]),
            "start_time": round(float(segments.start[item] * segments.control_timestep), 6),
            "duration": round(float(segments.valid[item].sum() * segments.control_timestep), 6),
            "checkpoint": segments.checkpoints[segments.checkpoint[item]],
            "noise_scale": round(float(segments.noise[item]), 6),
            "video_path": clip_path(item),
        }
        for item in range(len(segments))
    ]
    return {
        "schema": SCHEMA,
        "env": segments.env,
        "control_timestep": segments.control_timestep,
        "sha256": sha256,
        "segments": entries,
    }


def clip_path(segment: int) -> str:
    """Where a segment's clip lies in its data set."""
    return f"videos/segment_{segment:06d}.webm"


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_segments(folder: Path) -> Segments:
    """Read a data set that :func:`save_segments` wrote.

    Raises:
        FileNotFoundError: There is none.
        DatasetError: A part is missing, damaged, or of a newer schema; names file and part.
    """
    path = Path(folder) / ARRAYS
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} is no data set of segments, it has no {ARRAYS}; "
            "make one with `steelyard data segments`"
        )
    place = str(path)
    with open_hdf5(path) as file:
        missing = [name for name in _ATTRIBUTES if name not in file.attrs]
        if missing:
            raise DatasetError(f"{path}: a part is missing: the attribute {missing[0]!r}")
        attributes: dict[str, Any] = {name: file.attrs[name] for name in _ATTRIBUTES}
        if int(attributes["schema"]) > SCHEMA:
            raise DatasetError(
                f"{path} has schema {attributes['schema']}, this version reads up to {SCHEMA}; "
                "update Steelyard"
            )
        arrays = {name: _read(file, name, place, kind) for name, kind in PER_ITEM.items()}
        played = {
            name: _read(file, f"played/{name}", place, kind) for name, kind in _PLAYED.items()
        }
        _check_lengths(path, arrays)
        _check_played(path, played)
        return Segments(
            env=str(attributes["env"]),
            env_options=json_attribute(file, "env_options", dict, place),
            control_timestep=float(attributes["control_timestep"]),
            checkpoints=tuple(map(str, json_attribute(file, "checkpoints", list, place))),
            played=PlayedEpisodes(**played),
            **arrays,
        )


_ATTRIBUTES = ("schema", "env", "env_options", "control_timestep", "checkpoints")
_KINDS = {"f": "numbers (float32)", "b": "truth values", "i": "whole numbers"}


def _read(file: h5py.File, name: str, place: str, kind: str) -> np.ndarray:
    if name not in file:
        raise DatasetError(f"{place}: a part is missing: {name}")
    values = column(file, name, place)
    if values.dtype.kind != kind or (kind == "f" and values.dtype != np.float32):
        raise DatasetError(f"{place}: `{name}` holds {_KINDS[kind]}; its type is {values.dtype}")
    return values


def _check_played(path: Path, played: dict[str, np.ndarray]) -> None:
    shapes = {name: values.shape for name, values in played.items()}
    count = shapes["seed"][:1]
    if not (shapes["seed"] == shapes["length"] == count == shapes["action"][:1] != ()) or (
        len(shapes["action"]) != 3
    ):
        raise DatasetError(
            f"{path}: `played` holds `seed` and `length` [episode], `action` [episode, step, "
            f"component]; got {shapes}"
        )


def _check_lengths(path: Path, arrays: dict[str, np.ndarray]) -> None:
    shape = arrays["action"].shape
    if len(shape) != 3:
        raise DatasetError(f"{path}: `action` is [segment, step, component], got {list(shape)}")
    for name, values in arrays.items():
        wanted = shape[:1] if name in _ONE_EACH else shape[:2]
        if values.shape[: len(wanted)] != wanted or values.ndim != _AXES.get(name, len(wanted)):
            raise DatasetError(
                f"{path}: `{name}` is {list(values.shape)}, `action` is {list(shape)}"
            )


_ONE_EACH = ("last_observation", "episode", "start", "checkpoint", "noise")
_AXES = {"observation": 3, "action": 3, "last_observation": 2}
