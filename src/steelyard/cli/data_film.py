"""``steelyard data film``: clips of a data set's segments."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from steelyard.evaluation.clips import film_segments
from steelyard.evaluation.films import SIZE
from steelyard.evaluation.sound import Instrument, resolve_instrument
from steelyard.training.progress import progress


@dataclasses.dataclass(frozen=True)
class Film:
    """Film the segments of a data set, to judge them by: `videos/segment_<id>.webm`.

    Run again it goes on: films that are there and whole are kept.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """Folder with `segments.h5`."""
    sound: bool = False
    """Make them sound; RoboPianist and Pendulum-v1 can."""
    only: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ID [ID ...]")] = ()
    """Segments to film; none takes all."""
    episodes: bool = False
    """Film their whole episodes, too: `videos/episode_<number>_noise_<scale>.webm`."""
    size: tuple[int, int] = SIZE
    """Width and height, pixels."""
    instrument: Instrument = "auto"
    """Who plays notes: `soundfont` (FluidSynth), `additive` (no other library), or the first of
    these that is installed."""
    overwrite: bool = False
    """Make films anew that are whole; judgements were given on the old ones."""


def film(rest: list[str]) -> None:
    """Run ``data film``.

    Raises:
        FileNotFoundError: There is no data set.
        ValueError: As :func:`steelyard.evaluation.clips.film_segments`.
        ImportError: Something that draws, encodes or sounds is missing.
    """
    options = tyro.cli(Film, args=rest, prog="steelyard data film")
    if min(options.size) < 16:
        raise ValueError(f"--size is at least 16 x 16 pixels, got {options.size}")
    instrument, remark = resolve_instrument(options.instrument)
    began = time.perf_counter()
    with progress(f"filming {options.dataset.name}", 100) as show:
        done = film_segments(
            options.dataset,
            options.only,
            options.sound,
            options.episodes,
            options.size,
            instrument,
            options.overwrite,
            lambda taken, total: show(
                100 if not total else 100 * taken // total, f"{taken} of {total} pictures"
            ),
        )
    if options.sound and remark:
        print(remark)
    seconds = time.perf_counter() - began
    print(f"{done.made} films made in {seconds:.1f} s, {done.found} were there")
    print(f"in {options.dataset / 'videos'}")
