"""OGBench's NPZ files: play data without rewards, relabelled for a single task when they are read.

A file holds rows end to end: ``observations``, ``actions`` float32, ``terminals`` true in the last
row of an episode, ``qpos``, ``qvel``, and ``button_states`` where a task has buttons. The last row
of an episode has no successor, so its action is dropped.

A single task's reward is minus the number of sub-goals that are not met in a row, and the task ends
in the row in which all are. Play goes on after that; here the episode ends there, rows in which the
goal is held are dropped, and what follows is an episode of its own. That leaves every return and
every target as it is with OGBench's masks.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.findings import DatasetError
from steelyard.data.formats.base import atomic_path
from steelyard.data.provenance import Provenance
from steelyard.envs.ogbench import base_name, make_ogbench, ogbench_spec, sparse_reward
from steelyard.envs.spaces import without_precision_remarks
from steelyard.files import read_arrays
from steelyard.files.npz import names_in

COLUMNS = ("observations", "actions", "terminals", "qpos", "qvel")
BUTTONS = "button_states"
LEAST_EPISODE = 2


def write_ogbench(
    path: Path, episodes: Sequence[Mapping[str, np.ndarray]], overwrite: bool
) -> Path:
    """Write episodes as OGBench does.

    Args:
        path: Target file, ``<name>.npz``.
        episodes: Columns of each, ``terminals`` apart.
        overwrite: Whether to replace what is there.
    """
    names = [name for name in (*COLUMNS, BUTTONS) if name in episodes[0]]
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in names}
    lengths = [len(episode["actions"]) for episode in episodes]
    terminals = np.zeros(sum(lengths), bool)
    terminals[np.cumsum(lengths) - 1] = True
    with atomic_path(path, overwrite) as draft, draft.open("wb") as file:
        arrays = {**columns, "terminals": terminals}
        np.savez(file, allow_pickle=False, **arrays)
    return path


def read_columns(path: Path, buttons: bool) -> dict[str, np.ndarray]:
    """Read a file's columns; nothing is unpickled.

    Args:
        path: The file.
        buttons: Whether the task needs ``button_states``.

    Raises:
        DatasetError: It is no such file, or a column is missing; says which and what it is for.
    """
    needed = [*COLUMNS, BUTTONS] if buttons else list(COLUMNS)
    why = {"qpos": "places of the objects", BUTTONS: "states of the buttons"}
    columns = read_arrays(path, needed, DatasetError)
    for name in needed:
        if name not in columns:
            raise DatasetError(
                f"{path} has no array `{name}`, which a single task's rewards are made of"
                f" ({why.get(name, 'a column of every OGBench file')}); it has "
                f"{', '.join(sorted(names_in(path)))}"
            )
        axes, kind = 1 if name == "terminals" else 2, columns[name].dtype.kind
        if columns[name].ndim != axes or kind not in "biuf":
            raise DatasetError(
                f"{path}: `{name}` holds numbers in {axes} axes; got {columns[name].dtype}"
                f"{list(columns[name].shape)}"
            )
    rows = len(columns["actions"])
    for name, values in columns.items():
        if len(values) != rows:
            raise DatasetError(f"{path}: `actions` has {rows} rows, `{name}` {len(values)}")
    if rows and not columns["terminals"][-1]:
        raise DatasetError(f"{path}: terminals must be set in the last row, {rows - 1}")
    for name in ("observations", "actions"):
        bad = ~np.isfinite(columns[name]).all(axis=1)
        if bad.any():
            raise DatasetError(f"{path}: `{name}` is not finite in row {int(np.argmax(bad))}")
    return columns


def load_ogbench(path: Path, env: str, sparse: bool = False) -> Demonstrations:
    """Read play data as data of a single task.

    Args:
        path: An OGBench file.
        env: The task, ``ogbench/<name>-singletask[-taskN]-v0``.
        sparse: Whether rewards that are not 0 become -1.

    Raises:
        DatasetError: The file breaks a rule.
        ImportError: The package, which knows the task's goal, is missing.
    """
    name = env.removeprefix("ogbench/")
    task = base_name(name)
    columns = read_columns(path, buttons=not task.startswith("cube"))
    spec = ogbench_spec(name)
    if columns["observations"].shape[1] != spec.observation_size:
        raise DatasetError(
            f"{path} holds observations of {columns['observations'].shape[1]} numbers, {env} has "
            f"{spec.observation_size}: it is data of another task"
        )
    rewards, masks = relabel(name, columns)
    if sparse:
        rewards = sparse_reward(rewards)
    episodes = []
    ends = np.flatnonzero(columns["terminals"]) + 1
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        episodes += _single_task_episodes(
            columns["observations"][first:last],
            columns["actions"][first:last],
            rewards[first:last],
            masks[first:last] == 0,
        )
    limit = max(spec.max_episode_steps, max(len(e.actions) for e in episodes))
    spec = dataclasses.replace(spec, max_episode_steps=limit, can_terminate=True)
    won = sum(episode.terminated for episode in episodes)
    notes = (f"{path.name}, relabelled: {won} of {len(episodes)} pieces reach the goal",)
    provenance = Provenance(task=env, algorithm="ogbench", notes=notes)
    return Demonstrations.from_episodes(episodes, spec, provenance)


def relabel(name: str, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and masks of a single task, by OGBench's own rules.

    Args:
        name: One of ``steelyard.envs.ogbench.TASKS``.
        columns: Of a file; ``qpos``, and ``button_states`` where there are buttons.

    Returns:
        Reward of each row, and 0 where the goal is met in it.
    """
    env = make_ogbench(name)
    from ogbench.relabel_utils import relabel_dataset

    labelled = dict(columns)
    with without_precision_remarks():
        relabel_dataset(name, env, labelled)
    env.close()
    return np.asarray(labelled["rewards"]), np.asarray(labelled["masks"])


def _single_task_episodes(
    observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, met: np.ndarray
) -> list[Episode]:
    """Cut a play episode where the goal is met; its last row is the final observation alone."""
    found: list[Episode] = []
    steps, first = len(actions) - 1, 0
    while first < steps:
        if met[first] and first > 0 and met[first - 1]:
            first += 1
            continue
        hits = np.flatnonzero(met[first:steps])
        last = first + int(hits[0]) + 1 if len(hits) else steps
        over = bool(len(hits))
        found.append(
            Episode(
                observations=np.asarray(observations[first : last + 1], np.float32),
                actions=np.clip(actions[first:last], -1.0, 1.0).astype(np.float32),
                rewards=np.asarray(rewards[first:last], np.float32),
                terminated=over,
                truncated=not over,
            )
        )
        first = last
    return found
