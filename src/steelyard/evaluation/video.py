"""Film a policy: record what it does, then replay it with a camera in a process of its own.

A simulator that renders without a current OpenGL context ends its process, so filming never happens
in the process that trains.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from steelyard.data.episode import Episode

FORMATS = (".gif", ".webp", ".png")
"""Animations that need no other package than the ones installed."""


def film_episode(env_id: str, episode: Episode, path: Path, frames_per_s: int = 25) -> Path:
    """Replay a recorded episode and write an animation of it.

    Args:
        env_id: EnvPool task it was recorded in; also those of ``assembly/`` and ``sparse/`` that
            are EnvPool's.
        episode: Start seed and actions, environment units.
        path: Where to write: ``.gif``, ``.webp`` or ``.png`` (animated).
        frames_per_s: Speed of the animation.

    Returns:
        The path.

    Raises:
        ValueError: Another ending, or the task cannot be drawn here; says what is missing.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"a video ends in one of {FORMATS}, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        actions = Path(folder) / "actions.npy"
        np.save(actions, episode.actions, allow_pickle=False)
        command = [sys.executable, "-m", "steelyard.evaluation.camera", env_id]
        command += [str(episode.start_seed), str(actions), str(path), str(frames_per_s)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise ValueError(f"{env_id} could not be filmed: {last}")
    return path


def side_by_side(films: Sequence[Path], path: Path) -> Path:
    """Put films of equal height beside each other; one that is over shows its last picture.

    Args:
        films: Animations that :func:`film_episode` wrote, left to right.
        path: Where to write, of the same endings.

    Returns:
        The path.
    """
    parts, duration = [], 40
    for film in films:
        with Image.open(film) as opened:
            parts.append([frame.convert("RGB") for frame in ImageSequence.Iterator(opened)])
            duration = int(opened.info.get("duration", duration))
    width, height = sum(part[0].width for part in parts), parts[0][0].height
    pictures = []
    for moment in range(max(map(len, parts))):
        picture, left = Image.new("RGB", (width, height)), 0
        for part in parts:
            picture.paste(part[min(moment, len(part) - 1)], (left, 0))
            left += part[0].width
        pictures.append(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)
    return path
