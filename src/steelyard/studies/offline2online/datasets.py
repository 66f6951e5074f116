"""Datasets of others as offline data: OGBench play data, robomimic files, or our own format."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.findings import DatasetError
from steelyard.data.formats import load_demonstrations
from steelyard.data.ogbench_files import load_ogbench
from steelyard.envs.ogbench import sparse_reward
from steelyard.envs.registry import env_spec
from steelyard.envs.robosuite import NAMES as ROBOSUITE_CLASSES


def offline_files(path: Path) -> list[Path]:
    """The files of a dataset: itself, or every training file of a folder of OGBench data.

    Raises:
        FileNotFoundError: There is nothing there.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        parts = sorted(p for p in path.glob("*.npz") if not p.name.endswith("-val.npz"))
        if parts:
            return parts
    return [path]


def load_offline_data(
    path: Path, env: str, sparse: bool = False, number: int = 0, proportion: float = 1.0
) -> Demonstrations:
    """Load one file of a dataset, ready for offline reinforcement learning.

    Episodes end where they first succeed; rewards of 0 and 1 become -1 and 0. That is decided by
    the data, never by a name.

    Args:
        path: File or folder.
        env: Task.
        sparse: Whether rewards that are not 0 become -1.
        number: Which file of a folder, counted round.
        proportion: Share of the trajectories to keep, the first ones.

    Raises:
        DatasetError: The data break a rule; says where.
    """
    files = offline_files(path)
    file = files[number % len(files)]
    if env.startswith("ogbench/"):
        data = load_ogbench(file, env, sparse)
    else:
        theirs = ROBOSUITE_CLASSES.get(env.removeprefix("robosuite/"))
        data = as_sparse(load_demonstrations(file, env_spec(env), other_name=theirs), sparse)
    kept = max(1, round(proportion * len(data)))
    return data if kept == len(data) else data.first(kept)


def as_sparse(data: Demonstrations, sparse: bool = False) -> Demonstrations:
    """End every episode at its first success, and say success by rewards of -1 and 0.

    Args:
        data: Rewards in {0, 1}, 1 at success, or at most 0, with 0 at success.
        sparse: Whether rewards that are neither 0 nor -1 become -1.

    Raises:
        DatasetError: There are no rewards, or they are neither; shows value, episode and row.
    """
    if data.rewards is None:
        raise DatasetError("offline reinforcement learning reads rewards; the dataset has none")
    rewards = data.rewards
    shifted = bool((rewards >= 0.0).all() and (rewards > 0.0).any())
    wrong = ~np.isin(rewards, (0.0, 1.0)) if shifted else rewards > 0.0
    if wrong.any():
        row = int(np.argmax(wrong))
        episode = int(data.step_episodes()[row])
        inside = row - int(np.sum(data.lengths[:episode]))
        raise DatasetError(
            "rewards are 0 and 1 (1 at success), or at most 0 with 0 at success; episode "
            f"{episode}, row {inside} has {rewards[row]:g}"
        )
    episodes = []
    for episode in data.episodes():
        assert episode.rewards is not None
        own = episode.rewards - 1.0 if shifted else episode.rewards
        own = sparse_reward(own) if sparse else own
        hits = np.flatnonzero(own == 0.0)
        last = int(hits[0]) + 1 if len(hits) else len(own)
        over = bool(len(hits)) or episode.terminated
        episodes.append(
            Episode(
                observations=episode.observations[: last + 1],
                actions=episode.actions[:last],
                rewards=own[:last].astype(np.float32),
                terminated=over,
                truncated=not over,
                start_seed=episode.start_seed,
            )
        )
    limit = max(data.env_spec.max_episode_steps, max(len(e.actions) for e in episodes))
    spec = data.env_spec
    spec = dataclasses.replace(spec, max_episode_steps=limit, can_terminate=True)
    note = "episodes end at their first success; rewards are -1 a step and 0 at success"
    return Demonstrations.from_episodes(episodes, spec, data.provenance.noting(note))


def content_hash(path: Path) -> tuple[str, ...]:
    """sha-256 of every file of a dataset, so that a resumed study notices another one."""
    found = []
    for file in offline_files(path):
        parts = sorted(p for p in file.rglob("*") if p.is_file()) if file.is_dir() else [file]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.name.encode())
            with part.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
        found.append(digest.hexdigest())
    return tuple(found)
