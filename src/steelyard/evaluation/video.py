"""Film a policy: record what it does, then replay it before a camera in a process of its own.

These are animations for pages and reports; films with sound, for a browser, are made by
:mod:`steelyard.evaluation.clips`.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageSequence

from steelyard.data.episode import Episode
from steelyard.evaluation.camera import Camera
from steelyard.evaluation.scenes import TABLE_TASKS

SIZE = (320, 240)
FORMATS = (".gif", ".webp", ".png")
"""Animations that need no other package than the ones installed."""


def film_episode(env_id: str, episode: Episode, path: Path, frames_per_s: int = 25) -> Path:
    """Replay a recorded episode and write an animation of it.

    Args:
        env_id: EnvPool task it was recorded in; also those of ``assembly/``, ``dense/`` and
            ``sparse/`` that are EnvPool's.
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
    every = max(1, round(_steps_per_s(env_id) / frames_per_s))
    whole = [(0, len(episode.actions) + 1)]  # and where the episode ended
    with Camera(env_id, {}, *SIZE) as camera:
        (images,) = (
            [Image.fromarray(picture) for picture in shot.pictures]
            for shot in camera.play(
                episode.start_seed, episode.actions, whole, every, env_units=True
            )
        )
    first, *rest = images
    duration = round(1000 / frames_per_s)
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)
    return path


def _steps_per_s(env_id: str) -> int:
    """Control steps per second of simulated time."""
    if env_id.startswith((*TABLE_TASKS, "MetaWorld/")):
        return 80
    return 125 if "Hopper" in env_id or "Walker" in env_id else 20


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
