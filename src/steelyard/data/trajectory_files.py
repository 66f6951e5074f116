"""Trajectories on disk: a directory with the arrays as safetensors and the rest as JSON.

The same trajectories give the same bytes: there is no time stamp, and the keys are sorted.
"""

import json
from pathlib import Path

from safetensors.numpy import save_file

from steelyard.data.findings import DatasetError
from steelyard.data.formats.base import atomic_path
from steelyard.data.trajectories import Trajectories
from steelyard.data.trajectory_rules import ARRAYS, COLUMNS
from steelyard.files import read_json, read_tensors, reading

ARRAYS_FILE = "trajectories.safetensors"
METADATA_FILE = "metadata.json"
SCHEMA = "steelyard-trajectories-1"

_STORED = (*ARRAYS, "lengths")


def save_trajectories(data: Trajectories, path: Path, overwrite: bool = False) -> Path:
    """Write the directory ``path``, atomically.

    Raises:
        FileExistsError: Something lies there and ``overwrite`` is false.
    """
    fields = {
        "schema": SCHEMA,
        "ids": data.ids,
        "groups": data.groups,
        "command_kind": data.command_kind,
        "metadata": dict(data.metadata),
        "columns": COLUMNS,
        "sha256": data.sha256,
    }
    text = json.dumps(fields, indent=2, sort_keys=True, allow_nan=False)
    with atomic_path(path, overwrite) as draft:
        draft.mkdir()
        save_file({name: getattr(data, name) for name in _STORED}, str(draft / ARRAYS_FILE))
        (draft / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
    return path


def load_trajectories(path: Path) -> Trajectories:
    """Read what :func:`save_trajectories` wrote and verify its sha-256.

    Raises:
        DatasetError: A file is missing or damaged, or the arrays are not those written.
    """
    path = Path(path)
    try:
        fields = read_json(path / METADATA_FILE, DatasetError)
        arrays = read_tensors(path / ARRAYS_FILE, DatasetError)
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: not saved trajectories ({SCHEMA}): {error}") from error
    with reading(path, f"not saved trajectories ({SCHEMA})", DatasetError):
        if fields["schema"] != SCHEMA:
            raise DatasetError(f"`schema` is {fields['schema']!r:.80}; this reads {SCHEMA!r}")
        loaded = Trajectories(
            **{name: arrays[name] for name in _STORED},
            ids=tuple(fields["ids"]),
            groups=tuple(fields["groups"]),
            command_kind=fields["command_kind"],
            metadata=fields["metadata"],
        )
        if loaded.sha256 != fields["sha256"]:
            raise DatasetError(
                "the arrays must be those that were written; their sha-256 is "
                f"{loaded.sha256[:16]}…, {METADATA_FILE} says {fields['sha256']!s:.16}…"
            )
    return loaded
