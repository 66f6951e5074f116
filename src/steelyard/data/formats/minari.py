"""Minari datasets (HDF5 storage), read and written with h5py alone.

Layout, as Minari 0.5.4 reads it: ``<id>/data/main_data.hdf5`` with one group ``episode_i`` an
episode (``observations [T + 1]``, ``actions``, ``rewards``, ``terminations``, ``truncations``,
``infos``; attributes ``id``, ``seed``, ``total_steps``) and ``<id>/data/metadata.json``.

Lost: the provenance but for the algorithm's name and the notes' text. Reward-free demonstrations
get NaN rewards, which are read back as none. Only vector (``Box``) spaces are read.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import UNKNOWN_SEED
from steelyard.data.findings import DatasetError
from steelyard.data.formats.base import SPEC_KEY, Format, atomic_path
from steelyard.data.formats.hdf5 import column, open_hdf5
from steelyard.data.provenance import Provenance
from steelyard.data.raw import RawDataset, RawEpisode
from steelyard.data.specs import UNKNOWN_TASK, spec_from_json, spec_to_json
from steelyard.files import read_json, reading
from steelyard.types import EnvSpec

MAIN_FILE = "main_data.hdf5"
METADATA_FILE = "metadata.json"
LAYOUT_VERSION = "0.5.4"

_DATASET_NAME = re.compile(r"[-\w]+-v\d+")


def minari_root() -> Path:
    """Return where Minari keeps its datasets: ``MINARI_DATASETS_PATH``, else its default."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root) if root else Path.home() / ".minari" / "datasets"


def matches(path: Path) -> bool:
    """Whether ``path`` is a Minari dataset: ``<id>``, ``<id>/data`` or the main file inside."""
    data = _data_directory(path)
    return (data / METADATA_FILE).is_file() and (data / MAIN_FILE).is_file()


def write(demonstrations: Demonstrations, path: Path, overwrite: bool) -> None:
    """Write the directory ``path``, whose name must end in ``-v<number>``, atomically.

    The dataset's id is the path relative to :func:`minari_root` if it lies under it, else its name.

    Raises:
        DatasetError: Minari could not find a dataset of this name.
    """
    if not _DATASET_NAME.fullmatch(path.name):
        stem = re.sub(r"[^-\w]+", "-", path.name)
        raise DatasetError(
            f"{path}: Minari needs a name of letters, digits, - and _ that ends in -v<number>; "
            f"did you mean {path.with_name(f'{stem}-v0')}?"
        )
    root, absolute = minari_root().absolute(), path.absolute()
    inside = absolute.is_relative_to(root)
    dataset_id = absolute.relative_to(root).as_posix() if inside else path.name
    with atomic_path(path, overwrite) as draft:
        data = draft / "data"
        data.mkdir(parents=True)
        # Minari appends in creation order, so it asks for groups that remember theirs.
        with h5py.File(data / MAIN_FILE, "w", track_order=True) as file:
            _write_episodes(file, demonstrations)
        size_mb = round((data / MAIN_FILE).stat().st_size / 1e6, 1)
        metadata = _metadata(demonstrations, dataset_id) | {"dataset_size": size_mb}
        text = json.dumps(metadata, sort_keys=True)
        (data / METADATA_FILE).write_text(text, encoding="utf-8")


def read(path: Path) -> RawDataset:
    """Read a Minari dataset; the action bounds come from its action space.

    Raises:
        DatasetError: The storage is not HDF5, a space is not a vector ``Box``, or the files are
            damaged.
    """
    data = _data_directory(path)
    metadata = read_json(data / METADATA_FILE, DatasetError)
    storage = metadata.get("data_format", "hdf5")
    if storage != "hdf5":
        raise DatasetError(f"{data}: `data_format` must be 'hdf5'; got {storage!r}")
    with open_hdf5(data / MAIN_FILE) as file:
        count = metadata.get("total_episodes", len(file))
        if isinstance(count, bool) or not isinstance(count, int):
            raise DatasetError(
                f"{data / METADATA_FILE}: `total_episodes` must be a whole number, got {count!r}"
            )
        episodes = tuple(
            _read_episode(file, index, f"{data / MAIN_FILE}: episode_{index}")
            for index in range(count)
        )
    place = str(data / METADATA_FILE)
    with reading(place, "its spaces or specification are not those of Minari", DatasetError):
        spec = _read_spec(metadata, episodes, place)
        task = spec.id if spec else _task(metadata)
    provenance = Provenance(task, algorithm=str(metadata.get("algorithm_name", "unknown")))
    return RawDataset(episodes, framed=True, env_spec=spec, task=task, provenance=provenance)


def _data_directory(path: Path) -> Path:
    if path.name == MAIN_FILE:
        return path.parent
    return path if (path / MAIN_FILE).is_file() else path / "data"


def _write_episodes(file: h5py.File, demonstrations: Demonstrations) -> None:
    for index, episode in enumerate(demonstrations.episodes()):
        steps = len(episode.actions)
        group = file.create_group(f"episode_{index}")
        group.attrs["id"] = index
        group.attrs["total_steps"] = steps
        if episode.start_seed != UNKNOWN_SEED:
            group.attrs["seed"] = episode.start_seed
        unknown = np.full(steps, np.nan, np.float32)
        flags = {"terminations": episode.terminated, "truncations": episode.truncated}
        columns = {
            "observations": episode.observations,
            "actions": episode.actions,
            "rewards": unknown if episode.rewards is None else episode.rewards,
            **{
                name: np.arange(steps) == (steps - 1 if last else -1)
                for name, last in flags.items()
            },
        }
        for name, values in columns.items():
            # Resizable in the first axis: Minari appends to episodes in place.
            group.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]))
        group.create_group("infos")


def _metadata(demonstrations: Demonstrations, dataset_id: str) -> dict[str, Any]:
    spec = demonstrations.env_spec
    unbounded = [float("inf")] * spec.observation_size
    metadata = {
        "total_episodes": len(demonstrations),
        "total_steps": demonstrations.num_steps,
        "data_format": "hdf5",
        "observation_space": _box([-x for x in unbounded], unbounded),
        "action_space": _box(list(spec.action_low), list(spec.action_high)),
        "dataset_id": dataset_id,
        "algorithm_name": demonstrations.provenance.algorithm,
        "minari_version": LAYOUT_VERSION,
        "description": "; ".join(demonstrations.provenance.notes),
        SPEC_KEY: spec_to_json(spec),
    }
    if spec.id != UNKNOWN_TASK:
        metadata["env_spec"] = json.dumps(
            {
                "id": spec.id,
                "entry_point": None,
                "reward_threshold": None,
                "nondeterministic": False,
                "max_episode_steps": spec.max_episode_steps,
                "order_enforce": True,
                "disable_env_checker": False,
                "kwargs": {},
                "additional_wrappers": [],
                "vector_entry_point": None,
            }
        )
    return metadata


def _box(low: list[float], high: list[float]) -> str:
    box = {"type": "Box", "dtype": "float32", "shape": [len(low)], "low": low, "high": high}
    return json.dumps(box)


def _read_episode(file: h5py.File, index: int, place: str) -> RawEpisode:
    group = file.get(f"episode_{index}")
    if not isinstance(group, h5py.Group):
        raise DatasetError(f"{place}: is missing; found {sorted(file)[:5]}")
    for name in ("observations", "actions"):
        item = group.get(name)
        if isinstance(item, h5py.Group):
            raise DatasetError(
                f"{place}: `{name}` must come from a vector Box space; this is a dictionary of "
                f"{list(item)}: flatten it in the environment and record again"
            )
    seed = group.attrs.get("seed")
    return RawEpisode(
        observations=column(group, "observations", place),
        actions=column(group, "actions", place),
        rewards=column(group, "rewards", place) if "rewards" in group else None,
        terminations=column(group, "terminations", place),
        truncations=column(group, "truncations", place),
        start_seed=UNKNOWN_SEED if seed is None else int(seed),
    )


def _read_spec(
    metadata: dict[str, Any], episodes: tuple[RawEpisode, ...], place: str
) -> EnvSpec | None:
    """Read our own specification, else build one from the spaces; ``None`` without bounds."""
    if SPEC_KEY in metadata:
        return spec_from_json(metadata[SPEC_KEY], place)
    if "action_space" not in metadata or not episodes:
        return None
    space = json.loads(metadata["action_space"])
    if space.get("type") != "Box" or len(space.get("shape", ())) != 1:
        raise DatasetError(f"{place}: the action space must be a vector Box; got {space}")
    low, high = tuple(map(float, space["low"])), tuple(map(float, space["high"]))
    if not np.isfinite([low, high]).all():
        return None
    gym_spec = json.loads(metadata["env_spec"]) if "env_spec" in metadata else {}
    longest = max(len(episode.actions) for episode in episodes)
    return EnvSpec(
        id=_task(metadata),
        observation_size=int(np.prod(episodes[0].observations.shape[1:])),
        action_low=low,
        action_high=high,
        max_episode_steps=int(gym_spec.get("max_episode_steps") or longest),
        can_terminate=any(bool(episode.terminations.any()) for episode in episodes),
    )


def _task(metadata: dict[str, Any]) -> str:
    gym_spec = json.loads(metadata["env_spec"]) if "env_spec" in metadata else {}
    return str(gym_spec.get("id", UNKNOWN_TASK))


FORMAT = Format(
    name="minari",
    looks_for=f"a directory <id>-v<n> with data/{MAIN_FILE} and data/{METADATA_FILE}",
    loses=("provenance, but for the algorithm's name: read back as unknown",),
    path_for=lambda stem: stem.with_name(f"{stem.name}-v0"),
    matches=matches,
    read=read,
    write=write,
)
