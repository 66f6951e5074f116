"""Films of recorded episodes: played again, drawn, with sound where the task has any.

A film shows what was seen *before* each of its steps, one picture a step. Tasks of up to 30 steps a
second are shown in real time; faster ones, as MetaWorld's 80, at 20 pictures a second, which is
slower than they were: 64 steps are 0.8 s and are shown for 3.2 s.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from steelyard.evaluation.camera import Camera, Shot
from steelyard.evaluation.media import ffmpeg, write_webm
from steelyard.evaluation.scenes import PIANO
from steelyard.evaluation.sound import SAMPLE_RATE, Instrument, clip_sound, synthesiser, tone

SIZE = (480, 360)
SLOW_MOTION = 20.0
"""Pictures a second of what is too fast to be shown in real time."""
_MOST_IN_REAL_TIME = 30.0
_TONE = "Pendulum-v1"
Player = Callable[[Shot, float], Float32[np.ndarray, " sample"]]
"""Makes the sound of a shot whose pictures are taken, given the length of a step."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """An episode that can be played again: the first one of an environment of its own.

    Attributes:
        seed: Of the environment.
        action: What was done, in ``[-1, 1]``.
    """

    seed: int
    action: Float32[np.ndarray, "step act"]


def frames_per_s(control_timestep: float) -> float:
    """Pictures a second at which a task is shown, one a control step."""
    real_time = 1 / control_timestep
    return real_time if real_time <= _MOST_IN_REAL_TIME else SLOW_MOTION


def has_sound(env: str) -> bool:
    """Whether a task can be heard: notes of RoboPianist, a tone of the pendulum."""
    return env.startswith(PIANO) or env == _TONE


def film_recorded(
    env: str,
    env_options: dict[str, Any],
    control_timestep: float,
    recordings: dict[Path, Recording],
    sound: bool | None = None,
    size: tuple[int, int] = SIZE,
    instrument: Instrument = "auto",
) -> list[Path]:
    """Film whole recorded episodes of one task.

    Args:
        env: Task, a name that ``make_env`` knows.
        env_options: What it was built with.
        control_timestep: Seconds of a step.
        recordings: Episodes by the ``.webm`` to write, which is replaced.
        sound: Make them sound; none does so where the task can.
        size: Width and height, pixels.
        instrument: Who plays notes.

    Returns:
        The paths.

    Raises:
        ValueError: The task cannot be drawn or heard; says what is missing.
        ImportError: Something that draws, encodes or sounds is missing; says how to install it.
    """
    ffmpeg()
    play = player(env, has_sound(env) if sound is None else sound, instrument)
    with Camera(env, env_options, *size) as camera:
        for path, recording in recordings.items():
            whole = [(0, len(recording.action))]
            for shot in camera.play(recording.seed, recording.action, whole):
                write_film(path, shot, shot.pictures, control_timestep, play)
    return list(recordings)


def film_before_after(
    env: str,
    env_options: dict[str, Any],
    control_timestep: float,
    before: Recording,
    after: Recording,
    folder: Path,
    **how: Any,
) -> tuple[Path, Path]:
    """Film a policy's episode before and after tuning: ``videos/before.webm``, ``after.webm``.

    Args:
        env: Task, a name that ``make_env`` knows.
        env_options: What it was built with.
        control_timestep: Seconds of a step.
        before: An episode of the policy as it was.
        after: One of the tuned policy, of the same seed where they shall be compared.
        folder: In which ``videos`` is made.
        **how: As :func:`film_recorded` takes it.

    Returns:
        The two paths.
    """
    paths = folder / "videos" / "before.webm", folder / "videos" / "after.webm"
    recordings = dict(zip(paths, (before, after), strict=True))
    film_recorded(env, env_options, control_timestep, recordings, **how)
    return paths


def player(env: str, sound: bool, instrument: Instrument) -> Player | None:
    """Choose who makes a task's sound; nobody where there shall be none.

    Raises:
        ValueError: The task makes none.
        ImportError: What plays is missing; says how to install it.
    """
    if not sound:
        return None
    if not has_sound(env):
        raise ValueError(
            f"{env} makes no sound; {PIANO}... and {_TONE} do. Film it without --sound"
        )
    if env == _TONE:
        return lambda shot, dt: tone(
            np.array([seen[0] for seen in shot.seen]),  # cosine of the angle: 1 is upright
            np.array([abs(seen[2]) / 8.0 for seen in shot.seen]),  # of at most 8 rad/s
            dt,
        )
    synthesise = synthesiser(instrument)
    return lambda shot, dt: clip_sound(
        shot.notes, shot.span[0], shot.span[1] - shot.span[0], dt, synthesise
    )


def write_film(
    path: Path,
    shot: Shot,
    pictures: Iterator[np.ndarray],
    control_timestep: float,
    play: Player | None,
) -> None:
    """Write a shot as a film, while its pictures are taken.

    Args:
        path: The ``.webm`` to write; it appears whole.
        shot: What was played.
        pictures: The shot's, perhaps looked at on their way.
        control_timestep: Seconds of a step.
        play: Who makes its sound; see :func:`player`.
    """
    audio = None if play is None else lambda: play(shot, control_timestep)
    write_webm(path, pictures, frames_per_s(control_timestep), audio, SAMPLE_RATE)
