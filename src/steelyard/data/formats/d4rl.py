"""D4RL files: flat columns in an npz archive or an HDF5 file, by the suffix of the path.

Layout: ``observations``, ``actions`` (environment units), ``rewards``, ``terminals``, ``timeouts``,
``next_observations``, one row a step; an episode ends at ``terminals or timeouts``. The task is
written as JSON under ``metadata/``, where D4RL keeps what is not a column.

Lost: start seeds (read back as -1) and the provenance. Reward-free demonstrations get NaN rewards,
read back as none. Nothing is unpickled: an archive with object arrays is refused.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError, Finding
from steelyard.data.formats.base import SPEC_KEY, Format, atomic_path
from steelyard.data.formats.hdf5 import SUFFIXES, column, holds, open_hdf5
from steelyard.data.raw import RawDataset, RawEpisode
from steelyard.data.specs import UNKNOWN_TASK, spec_from_json, spec_to_json
from steelyard.files import read_arrays
from steelyard.files.npz import names_in

_METADATA = f"metadata/{SPEC_KEY}"
_REQUIRED = ("observations", "actions", "terminals")
_OPTIONAL = ("rewards", "timeouts", "next_observations")
_ONE_A_STEP = ("rewards", "terminals", "timeouts")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def matches(path: Path) -> bool:
    """Whether ``path`` is an npz or HDF5 file with ``observations`` and ``actions`` at its top."""
    if path.suffix == ".npz" and path.is_file():
        return {"observations", "actions"} <= names_in(path)
    return holds(path, "observations", "actions")


def write(demonstrations: Demonstrations, path: Path, overwrite: bool) -> None:
    """Write one file, atomically: ``.npz``, or ``.hdf5``/``.h5``.

    Raises:
        DatasetError: The suffix is another.
    """
    if path.suffix not in (".npz", *SUFFIXES):
        raise DatasetError(f"{path}: a D4RL file ends in .npz, .hdf5 or .h5; got {path.suffix!r}")
    steps = np.arange(demonstrations.num_steps) + demonstrations.step_episodes()
    rewards = demonstrations.rewards
    columns = {
        "observations": demonstrations.observations[steps],
        "actions": demonstrations.actions,
        "rewards": np.full(len(steps), np.nan, np.float32) if rewards is None else rewards,
        "terminals": demonstrations.terminations,
        "timeouts": demonstrations.truncations,
        "next_observations": demonstrations.observations[steps + 1],
    }
    task = spec_to_json(demonstrations.env_spec)
    with atomic_path(path, overwrite) as draft:
        if path.suffix == ".npz":
            _write_npz(draft, columns | {_METADATA: np.array(task)})
        else:
            with h5py.File(draft, "w") as file:
                for name, values in columns.items():
                    file[name] = values
                file[_METADATA] = task


def read(path: Path) -> RawDataset:
    """Read a D4RL file.

    Raises:
        DatasetError: A column is missing, has another number of rows or holds pickled objects.
    """
    columns, text = _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise DatasetError(f"{path}: needs the columns {missing}; found {sorted(columns)}")
    flat = [name for name, values in columns.items() if values.ndim == 0]
    if flat:
        raise DatasetError(f"{path}: `{flat[0]}` must have one row a step; it is a single number")
    rows = len(columns["actions"])
    for name, values in columns.items():
        if values.dtype.kind not in "biuf":
            raise DatasetError(f"{path}: `{name}` must hold numbers; its type is {values.dtype}")
        if name in _ONE_A_STEP and values.size != len(values):
            raise DatasetError(f"{path}: `{name}` is one number a step; got {list(values.shape)}")
        if len(values) != rows:
            raise DatasetError(
                f"{path}: the lengths must agree: {rows} `actions`, {len(values)} `{name}`"
            )
    spec = spec_from_json(text, str(path)) if text else None
    findings = []
    if "timeouts" not in columns:
        message = "the file has no `timeouts`: episodes are taken to end at `terminals` only"
        findings.append(Finding("warning", "episode end", message))
    return RawDataset(
        _split(columns),
        framed=False,
        env_spec=spec,
        task=spec.id if spec else UNKNOWN_TASK,
        findings=tuple(findings),
    )


def _split(columns: Mapping[str, np.ndarray]) -> tuple[RawEpisode, ...]:
    """Cut the columns after every row that is terminal or a time-out."""
    rows = len(columns["actions"])
    terminals = columns["terminals"].reshape(rows).astype(bool)
    timeouts = columns.get("timeouts", np.zeros(rows, bool)).reshape(rows).astype(bool)
    ends = np.flatnonzero(terminals | timeouts) + 1
    edges = np.unique(np.concatenate([[0], ends, [rows]]))

    def part(name: str, piece: slice) -> np.ndarray | None:
        return columns[name][piece] if name in columns else None

    rewards = columns.get("rewards")
    return tuple(
        RawEpisode(
            observations=columns["observations"][piece],
            actions=columns["actions"][piece],
            rewards=None if rewards is None else rewards[piece].reshape(-1),
            terminations=terminals[piece],
            truncations=timeouts[piece],
            next_observations=part("next_observations", piece),
        )
        for piece in map(slice, edges[:-1].tolist(), edges[1:].tolist())
    )


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an archive as ``np.savez_compressed`` does, without its time stamps."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    columns = read_arrays(path, (*_REQUIRED, *_OPTIONAL, _METADATA), DatasetError)
    text = columns.pop(_METADATA, None)
    return columns, None if text is None else str(text)


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    with open_hdf5(path) as file:
        columns = {
            name: column(file, name, str(path))
            for name in (*_REQUIRED, *_OPTIONAL)
            if isinstance(file.get(name), h5py.Dataset)
        }
        item = file.get(_METADATA)
        text = item.asstr()[()] if isinstance(item, h5py.Dataset) else None
    return columns, None if text is None else str(text)


FORMAT = Format(
    name="d4rl",
    looks_for="an .npz or HDF5 file with observations, actions and terminals",
    loses=("start_seeds: read back as -1", "provenance: read back as unknown"),
    path_for=lambda stem: stem.with_name(f"{stem.name}.npz"),
    matches=matches,
    read=read,
    write=write,
)
