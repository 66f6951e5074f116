"""Makes OGBench data with its own oracles, an episode at a time, so that it can be interrupted.

Episodes are kept as parts beside the file until all are there; each follows from the seed and its
number alone, so neither interruptions nor the number of processes change the data.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from steelyard.data.ogbench_files import write_ogbench
from steelyard.envs.ogbench import COLLECT_STEPS, base_name, play_episode
from steelyard.files import read_arrays
from steelyard.training.group import Ticker
from steelyard.training.run_folder import save_arrays

VALIDATION_SHARE = 0.1
SEED_BLOCK = 1_000_000
MOST_UNHEALTHY = 20
"""Attempts at an episode in which nothing falls out of reach."""


def generate_ogbench(
    name: str,
    kind: str,
    steps: int,
    seed: int,
    out: Path,
    workers: int = 1,
    overwrite: bool = False,
    tick: Ticker = lambda step, note="": None,
) -> tuple[Path, Path]:
    """Record play data of a task.

    Args:
        name: Task, e.g. ``cube-double``.
        kind: ``play`` or ``noisy``.
        steps: Rows of the training file; rounded up to whole episodes.
        seed: Of everything.
        out: Folder of ``<name>-<kind>-v0.npz`` and, with a tenth as many, ``…-val.npz``.
        workers: Processes.
        overwrite: Whether to replace files that are there.
        tick: Progress display, in rows.

    Returns:
        Both files.

    Raises:
        FileExistsError: A file is there.
    """
    name = base_name(name)
    train = -(-steps // COLLECT_STEPS)
    count = train + max(1, round(train * VALIDATION_SHARE))
    files = tuple(out / f"{name}-{kind}-v0{end}.npz" for end in ("", "-val"))
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists. Choose another --out, or pass --overwrite.")
    parts = out / f".{name}-{kind}-seed{seed}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    helpers = [_helper(name, kind, seed, parts, count, k, workers) for k in range(1, workers)]
    try:
        for number in range(0, count, workers):
            record_part(name, kind, seed, parts, number)
            tick(len(list(parts.glob("*.npz"))) * COLLECT_STEPS)
        while any(helper.poll() is None for helper in helpers):
            time.sleep(0.5)
            tick(len(list(parts.glob("*.npz"))) * COLLECT_STEPS)
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()
    missing = [k for k in range(count) if not _part(parts, k).exists()]
    if missing:
        raise RuntimeError(f"{len(missing)} of {count} episodes are missing; run it again to go on")
    episodes = [read_arrays(_part(parts, k)) for k in range(count)]
    write_ogbench(files[0], episodes[:train], overwrite)
    write_ogbench(files[1], episodes[train:], overwrite)
    shutil.rmtree(parts)
    return files[0], files[1]


def record_part(name: str, kind: str, seed: int, parts: Path, number: int) -> None:
    """Record one episode into its part, unless it is there."""
    path = _part(parts, number)
    if path.exists():
        return
    for attempt in range(MOST_UNHEALTHY):
        own = (seed * SEED_BLOCK + number * MOST_UNHEALTHY + attempt) % 2**31
        episode = play_episode(name, kind, own)
        if episode.healthy:
            break
    else:
        raise RuntimeError(f"{name}: no healthy episode in {MOST_UNHEALTHY} attempts")
    save_arrays(path, episode.columns)


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npz"


def _helper(
    name: str, kind: str, seed: int, parts: Path, count: int, first: int, workers: int
) -> subprocess.Popen:
    words = [name, kind, str(seed), str(parts), str(count), str(first), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "steelyard.training.ogbench_data", *words]
    return subprocess.Popen(command, env=environment)


def _main(
    name: str, kind: str, seed: str, parts: str, count: str, first: str, workers: str
) -> None:
    for number in range(int(first), int(count), int(workers)):
        record_part(name, kind, int(seed), Path(parts), number)


if __name__ == "__main__":
    _main(*sys.argv[1:])
