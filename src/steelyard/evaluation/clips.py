"""Clips of a data set's segments: played again, drawn, with sound; see ``films`` for how."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from steelyard.data.segments import Segments, clip_path, load_segments
from steelyard.evaluation.camera import Camera, Shot, Span
from steelyard.evaluation.films import SIZE, player, write_film
from steelyard.evaluation.media import ffmpeg, probe_webm
from steelyard.evaluation.sound import Instrument

_SAME = 1e-2
"""How far a number that is seen may lie from the recorded one, absolutely and relative to it."""


@dataclasses.dataclass(frozen=True)
class Filmed:
    """What :func:`film_segments` did: films that it made, and whole ones that it found."""

    made: int
    found: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Clip:
    """A film to make, or to find: which steps of an episode, and what was seen in them."""

    name: str
    path: Path
    episode: int
    span: Span
    seen: np.ndarray | None


def film_segments(
    folder: Path,
    only: Sequence[int] = (),
    sound: bool = False,
    episodes: bool = False,
    size: tuple[int, int] = SIZE,
    instrument: Instrument = "auto",
    overwrite: bool = False,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Filmed:
    """Film the segments of a data set, each to ``videos/segment_<id>.webm``.

    Films that are there and whole are left alone, so the same call goes on after an interruption.

    Args:
        folder: The data set.
        only: Segments to film; none takes all.
        sound: Make them sound.
        episodes: Film the whole episodes of these segments, too, to
            ``videos/episode_<number>_noise_<scale>.webm``.
        size: Width and height, pixels.
        instrument: Who plays notes; see :func:`steelyard.evaluation.sound.synthesiser`.
        overwrite: Make them anew where they are whole.
        tick: Called with the pictures taken so far and those in all.

    Returns:
        How many films were made and found.

    Raises:
        FileNotFoundError: There is no data set.
        ValueError: There is no such segment, the task cannot be drawn or heard, or playing it again
            led to something else than what was recorded.
        ImportError: Something that draws, encodes or sounds is missing; says how to install it.
    """
    ffmpeg()
    folder = Path(folder)
    segments = load_segments(folder)
    play = player(segments.env, sound, instrument)
    clips = _clips(folder, segments, only)
    if episodes:
        clips += _whole_episodes(folder, segments, {clip.episode for clip in clips})
    wanted = [c for c in clips if overwrite or not is_whole(c.path, c.span, size, sound)]
    total, done = sum(end - first for first, end in (c.span for c in wanted)), 0
    tick(0, total)
    if not wanted:
        return Filmed(0, len(clips))
    with Camera(segments.env, segments.env_options, *size) as camera:
        for clip, shot in _shots(camera, segments, wanted):
            write_film(clip.path, shot, _as_recorded(clip, shot), segments.control_timestep, play)
            done += clip.span[1] - clip.span[0]
            tick(done, total)
    return Filmed(len(wanted), len(clips) - len(wanted))


def is_whole(path: Path, span: Span, size: tuple[int, int], sound: bool) -> bool:
    """Whether a film is there, complete, of that size and, where it shall be heard, with sound."""
    if not path.exists():
        return False
    with contextlib.suppress(ValueError):
        film = probe_webm(path)
        found = (film.frames, film.width, film.height)
        return found == (span[1] - span[0], *size) and (film.has_audio or not sound)
    return False


def _clips(folder: Path, segments: Segments, only: Sequence[int]) -> list[_Clip]:
    """The segments' clips."""
    unknown = [item for item in only if not 0 <= item < len(segments)]
    if unknown:
        raise ValueError(f"segments are 0 … {len(segments) - 1}, there is no {unknown[0]}")
    clips = []
    for item in sorted(set(only)) if only else range(len(segments)):
        count = int(segments.valid[item].sum())
        first = int(segments.start[item])
        span, seen = (first, first + count), segments.observation[item, :count]
        episode = int(segments.episode[item])
        clips.append(_Clip(f"segment {item}", folder / clip_path(item), episode, span, seen))
    return clips


def _whole_episodes(folder: Path, segments: Segments, episodes: set[int]) -> list[_Clip]:
    """Films of whole episodes."""
    clips = []
    for episode in sorted(episodes):
        noise = segments.noise[segments.episode == episode][0]
        path = folder / "videos" / f"episode_{episode:03d}_noise_{noise:.2f}.webm"
        span = (0, int(segments.played.length[episode]))
        clips.append(_Clip(f"episode {episode}", path, episode, span, None))
    return clips


def _shots(
    camera: Camera, segments: Segments, clips: Sequence[_Clip]
) -> Iterator[tuple[_Clip, Shot]]:
    """Play each episode as often as clips of it overlap, and pass on their shots."""
    left = sorted(clips, key=lambda clip: (clip.episode, clip.span))
    played = segments.played
    while left:
        episode, together, reached = left[0].episode, [], 0
        for clip in left:
            if clip.episode == episode and clip.span[0] >= reached:
                together.append(clip)
                reached = clip.span[1]
        left = [clip for clip in left if clip not in together]
        actions = played.action[episode, : played.length[episode]]
        shots = camera.play(int(played.seed[episode]), actions, [clip.span for clip in together])
        yield from zip(together, shots, strict=True)


def _as_recorded(clip: _Clip, shot: Shot) -> Iterator[np.ndarray]:
    """Pass pictures on while what is seen at them is what was recorded."""
    for step, picture in enumerate(shot.pictures):
        if clip.seen is not None:
            apart = np.abs(shot.seen[step] - clip.seen[step]) - _SAME * np.abs(clip.seen[step])
            if apart.max() > _SAME:
                part = int(apart.argmax())
                raise ValueError(
                    f"{clip.name}: played again, step {step} is not what was recorded: component "
                    f"{part} is {shot.seen[step][part]:g}, not {clip.seen[step][part]:g}. Film "
                    "with the versions that recorded it (constraints.txt)"
                )
        yield picture
