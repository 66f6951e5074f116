"""The native format: a directory that loses nothing.

``expert_buffer.safetensors`` holds the arrays, ``metadata.json`` the task, the origin and the
sha-256 of the arrays, ``README.txt`` the same for people. The same demonstrations give the same
bytes: there is no time stamp, and the keys are sorted.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError
from steelyard.data.formats.base import Format, atomic_path
from steelyard.data.inspection import inspect
from steelyard.data.provenance import Provenance
from steelyard.data.raw import RawDataset, RawEpisode
from steelyard.data.specs import spec_from_fields
from steelyard.files import read_json, read_tensors, reading

BUFFER_FILE = "expert_buffer.safetensors"
METADATA_FILE = "metadata.json"
README_FILE = "README.txt"
SCHEMA = "steelyard-demonstrations-1"

_ARRAYS = ("observations", "actions", "terminations", "truncations", "lengths", "start_seeds")


def matches(path: Path) -> bool:
    """Whether ``path`` is a native dataset: its directory, or the buffer file inside it."""
    return (_directory(path) / BUFFER_FILE).is_file()


def write(demonstrations: Demonstrations, path: Path, overwrite: bool) -> None:
    """Write the three files of a native dataset into the directory ``path``, atomically."""
    arrays = {name: getattr(demonstrations, name) for name in _ARRAYS}
    if demonstrations.rewards is not None:
        arrays["rewards"] = demonstrations.rewards
    metadata = {
        "schema": SCHEMA,
        "env_spec": dataclasses.asdict(demonstrations.env_spec),
        "provenance": demonstrations.provenance.to_fields(),
        "num_episodes": len(demonstrations),
        "num_steps": demonstrations.num_steps,
        "mean_return": demonstrations.statistics().return_mean,
        "sha256": demonstrations.sha256,
    }
    with atomic_path(path, overwrite) as draft:
        draft.mkdir()
        save_file(arrays, str(draft / BUFFER_FILE))
        text = json.dumps(metadata, indent=2, sort_keys=True, allow_nan=False)
        (draft / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
        (draft / README_FILE).write_text(_readme(demonstrations), encoding="utf-8")


def read(path: Path) -> RawDataset:
    """Read a native dataset and verify its sha-256.

    Raises:
        DatasetError: A file is missing or damaged, or the arrays are not those that were written.
    """
    directory = _directory(path)
    metadata = _read_metadata(directory / METADATA_FILE)
    arrays = read_tensors(directory / BUFFER_FILE, DatasetError)
    with reading(directory, f"not a native dataset ({SCHEMA})", DatasetError):
        spec = spec_from_fields(metadata["env_spec"])
        provenance = Provenance.from_fields(metadata["provenance"])
        demonstrations = Demonstrations(
            **{name: arrays[name] for name in _ARRAYS},
            rewards=arrays.get("rewards"),
            env_spec=spec,
            provenance=provenance,
        )
    if demonstrations.sha256 != metadata["sha256"]:
        raise DatasetError(
            f"{directory}: the arrays must be those that were written; their sha-256 is "
            f"{demonstrations.sha256[:16]}…, {METADATA_FILE} says {metadata['sha256']!s:.16}…"
        )
    episodes = tuple(
        RawEpisode(
            observations=episode.observations,
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=_flags(len(episode.actions), episode.terminated),
            truncations=_flags(len(episode.actions), episode.truncated),
            start_seed=episode.start_seed,
        )
        for episode in demonstrations.episodes()
    )
    return RawDataset(
        episodes,
        framed=True,
        env_spec=spec,
        task=spec.id,
        units_stated=True,
        provenance=provenance,
    )


def _directory(path: Path) -> Path:
    return path.parent if path.name == BUFFER_FILE else path


def _flags(steps: int, last: bool) -> np.ndarray:
    flags = np.zeros(steps, bool)
    flags[-1] = last
    return flags


def _read_metadata(path: Path) -> dict[str, Any]:
    needed = {"schema", "env_spec", "provenance", "sha256"}
    try:
        metadata = read_json(path, DatasetError)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: a native dataset has this file; it is missing") from error
    if not needed <= set(metadata):
        raise DatasetError(f"{path}: must be an object with the fields {sorted(needed)}")
    if metadata["schema"] != SCHEMA:
        raise DatasetError(f"{path}: `schema` is {metadata['schema']!r:.80}; this reads {SCHEMA!r}")
    return metadata


def _readme(demonstrations: Demonstrations) -> str:
    return (
        f"{inspect(demonstrations)}\n\n"
        f"{BUFFER_FILE} holds, end to end over the episodes: observations (one more row per\n"
        "episode than actions), actions (environment units), rewards (where known), terminations,\n"
        "truncations; and per episode: lengths, start_seeds (-1: unknown).\n"
        "Read it with `steelyard.data.formats.load_demonstrations` or any safetensors reader.\n"
    )


FORMAT = Format(
    name="native",
    looks_for=f"a directory with {BUFFER_FILE}",
    loses=(),
    path_for=lambda stem: stem,
    matches=matches,
    read=read,
    write=write,
)
