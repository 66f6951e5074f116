"""robomimic HDF5 files, read and written with h5py alone.

Layout: group ``data`` (attributes ``total``, ``env_args`` = JSON ``{env_name, type: 2,
env_kwargs}``) with one group ``demo_i`` an episode (attribute ``num_samples``): ``obs/flat``,
``next_obs/flat``, ``actions`` normalised to ``[-1, 1]``, ``rewards``, ``dones`` (terminations, so
that bootstrapping stops where it should); ``mask/train`` and ``mask/valid`` (every tenth episode).
Beside robomimic's own columns stand ``actions_env`` (environment units, which a float32 cannot
always recover from normalised ones) and ``truncations``; robomimic leaves them alone.

Lost: start seeds (read back as -1) and the provenance. Reward-free demonstrations get NaN rewards,
read back as none. In files of others: ``dones`` are read as terminations, and only the last of an
episode counts. Where the four columns that robomimic's own low-dimensional configs read are there
(hand, its quaternion, fingers, object), they are the observation, in that order; else all vector
observations are joined in the order of their names.
"""

import json
import re
from pathlib import Path

import h5py
import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import DatasetError, Finding
from steelyard.data.formats.base import SPEC_KEY, Format, atomic_path
from steelyard.data.formats.hdf5 import (
    SUFFIXES,
    attribute,
    column,
    holds,
    json_attribute,
    open_hdf5,
)
from steelyard.data.raw import RawDataset, RawEpisode
from steelyard.data.specs import UNKNOWN_TASK, spec_from_json, spec_to_json

_GYM_TYPE = 2
_OBSERVATION = "flat"
LOW_DIM = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""What robomimic's low-dimensional configs read, in their order."""


def matches(path: Path) -> bool:
    """Whether ``path`` is an HDF5 file whose group ``data`` holds ``demo_…`` groups."""
    if not holds(path, "data"):
        return False
    with open_hdf5(path) as file:
        data = file["data"]
        return isinstance(data, h5py.Group) and bool(_demo_names(data))


def write(demonstrations: Demonstrations, path: Path, overwrite: bool) -> None:
    """Write one HDF5 file, atomically."""
    spec = demonstrations.env_spec
    with atomic_path(path, overwrite) as draft, h5py.File(draft, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = demonstrations.num_steps
        data.attrs["env_args"] = json.dumps(
            {"env_name": spec.id, "type": _GYM_TYPE, "env_kwargs": {}}, sort_keys=True
        )
        data.attrs[SPEC_KEY] = spec_to_json(spec)
        for index, episode in enumerate(demonstrations.episodes()):
            steps = len(episode.actions)
            last = np.arange(steps) == steps - 1
            demo = data.create_group(f"demo_{index}")
            demo.attrs["num_samples"] = steps
            demo[f"obs/{_OBSERVATION}"] = episode.observations[:-1]
            demo[f"next_obs/{_OBSERVATION}"] = episode.observations[1:]
            demo["actions"] = np.clip(spec.to_learner_units(episode.actions), -1, 1)
            demo["actions_env"] = episode.actions
            unknown = np.full(steps, np.nan, np.float32)
            demo["rewards"] = unknown if episode.rewards is None else episode.rewards
            demo["dones"] = (last & episode.terminated).astype(np.int64)
            demo["truncations"] = last & episode.truncated
        names = np.array([f"demo_{index}" for index in range(len(demonstrations))], "S")
        valid = np.arange(len(names)) % 10 == 9
        file["mask/train"], file["mask/valid"] = names[~valid], names[valid]


def read(path: Path) -> RawDataset:
    """Read a robomimic file.

    Raises:
        DatasetError: A column is missing or is not made of numbers.
    """
    with open_hdf5(path) as file:
        data = _group(file, "data", str(path))
        names = _demo_names(data)
        if not names:
            raise DatasetError(f"{path}: needs the group `data/demo_0`; found {sorted(data)[:12]}")
        demos = [_group(data, name, f"{path}: data") for name in names]
        keys, findings = _observation_keys(demos[0], str(path))
        in_env_units = "actions_env" in demos[0]
        episodes = tuple(
            _read_demo(demo, keys, in_env_units, f"{path}: data/{name}")
            for name, demo in zip(names, demos, strict=True)
        )
        dones = [column(demo, "dones", str(path)) for demo in demos if "dones" in demo]
        early = [i for i, flags in enumerate(dones) if np.any(flags[:-1])]
        text, env_args = attribute(data, SPEC_KEY), attribute(data, "env_args")
        told = json_attribute(data, "env_args", dict, str(path)) if env_args else {}
    if early:
        message = (
            f"`dones` before the last row are ignored ({len(early)} of {len(demos)} episodes, "
            f"first: episode {early[0]}): an episode ends once"
        )
        findings.append(Finding("warning", "episode end", message, early[0]))
    spec = spec_from_json(text, str(path)) if text else None
    task = told.get("env_name", UNKNOWN_TASK)
    return RawDataset(
        episodes,
        framed=False,
        env_spec=spec,
        task=spec.id if spec else str(task),
        action_units="env" if in_env_units else "normalised",
        units_stated=in_env_units,
        findings=tuple(findings),
    )


def _group(parent: h5py.Group, name: str, place: str) -> h5py.Group:
    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise DatasetError(f"{place}: needs the group `{name}`; found {sorted(parent)[:12]}")
    return found


def _demo_names(data: h5py.Group) -> list[str]:
    """List the episodes by their number: ``demo_10`` after ``demo_9``."""
    names = [str(name) for name in data if re.fullmatch(r"demo_\d+", str(name))]
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _observation_keys(demo: h5py.Group, place: str) -> tuple[list[str], list[Finding]]:
    """Choose the columns: ``flat``, robomimic's own four, or all of vectors or scalars."""
    observations = demo.get("obs")
    if not isinstance(observations, h5py.Group) or not len(observations):
        raise DatasetError(f"{place}: {demo.name} needs the group `obs`; found {sorted(demo)}")
    if _OBSERVATION in observations:
        return [_OBSERVATION], []
    if set(LOW_DIM) <= set(observations):
        message = f"the observation is the join of {list(LOW_DIM)}, as robomimic reads it"
        return list(LOW_DIM), [Finding("note", "observations", message)]
    keys = sorted(name for name, item in observations.items() if len(item.shape) <= 2)
    left_out = sorted(set(observations) - set(keys))
    if not keys:
        raise DatasetError(
            f"{place}: needs observations that are vectors; {demo.name}/obs holds only {left_out}"
        )
    rest = f"; left out, since they are no vectors: {left_out}" if left_out else ""
    message = f"the observation is the join of {keys}{rest}"
    return keys, [Finding("warning" if left_out else "note", "observations", message)]


def _read_demo(demo: h5py.Group, keys: list[str], in_env_units: bool, place: str) -> RawEpisode:
    actions = column(demo, "actions_env" if in_env_units else "actions", place)
    dones = np.zeros(len(actions), bool)
    if "dones" in demo:
        dones[-1:] = column(demo, "dones", place)[-1:] != 0
    truncations = np.zeros(len(actions), bool)
    if "truncations" in demo:
        truncations = column(demo, "truncations", place)
    elif len(actions):
        truncations[-1] = not dones[-1]
    return RawEpisode(
        observations=_joined(demo, "obs", keys, place),
        actions=actions,
        rewards=column(demo, "rewards", place) if "rewards" in demo else None,
        terminations=dones,
        truncations=truncations,
        next_observations=_joined(demo, "next_obs", keys, place) if "next_obs" in demo else None,
    )


def _joined(demo: h5py.Group, group: str, keys: list[str], place: str) -> np.ndarray:
    parts = [column(demo, f"{group}/{key}", place) for key in keys]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


FORMAT = Format(
    name="robomimic",
    looks_for="an HDF5 file with data/demo_0",
    loses=("start_seeds: read back as -1", "provenance: read back as unknown"),
    path_for=lambda stem: stem.with_name(f"{stem.name}{SUFFIXES[0]}"),
    matches=matches,
    read=read,
    write=write,
)
