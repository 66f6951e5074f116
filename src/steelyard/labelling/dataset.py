"""A folder of segments and films, as the labelling app sees it.

Reads ``segment_info.json`` only; the recorded numbers in ``segments.h5`` stay closed until an
export asks for them.
"""

import dataclasses
import functools
import hashlib
import math
import os
import struct
from pathlib import Path

from steelyard.files import read_json, reading
from steelyard.labelling.records import Clip, LabellingError

INFO = "segment_info.json"
SCHEMA = 1
_HEAD = 8192
"""Bytes of a film that hold its description; ours are within the first 1 kB."""


@dataclasses.dataclass(frozen=True)
class LabelDataset:
    """What can be judged.

    Attributes:
        folder: The data set, resolved.
        sha256: Hash of ``segments.h5``.
        clips: All segments, whether filmed or not.
    """

    folder: Path
    sha256: str
    clips: tuple[Clip, ...]

    def filmed(self) -> tuple[Clip, ...]:
        """Return the segments that have a film now; others cannot be asked about."""
        there: set[str] = set()
        for folder in {os.path.dirname(clip.clip) for clip in self.clips}:
            place = _inside(self.folder, folder)
            if place is not None and place.is_dir():
                there.update(os.path.join(folder, name) for name in _films(self.folder, place))
        return tuple(clip for clip in self.clips if clip.clip in there)


@dataclasses.dataclass(frozen=True)
class Film:
    """What the head of a WebM file says.

    Attributes:
        frame_s: Time between frames, s; 1/20 where the file does not say.
        sound: Whether it has a sound track.
    """

    frame_s: float
    sound: bool


def open_dataset(folder: Path) -> LabelDataset:
    """Read the description of a data set.

    Raises:
        LabellingError: No data set, an unknown schema, or a broken entry; says which.
    """
    path = folder / INFO
    if not path.is_file():
        raise LabellingError(
            f"{folder} is no data set of segments: it has no {INFO}. "
            "`steelyard data segments` makes one."
        )
    info = read_json(path, LabellingError)
    with reading(path, "not the description of a data set of segments", LabellingError):
        if info["schema"] != SCHEMA:
            raise LabellingError(
                f"{path} has schema {info['schema']!r}, this version reads {SCHEMA}"
            )
        clips = tuple(_clip(entry) for entry in info["segments"])
        if len({clip.id for clip in clips}) < len(clips):
            raise LabellingError("two segments have the same number")
        return LabelDataset(folder.resolve(), str(info["sha256"]), clips)


def _clip(entry: dict) -> Clip:
    clip = Clip(
        int(entry["id"]),
        int(entry["episode"]),
        int(entry["window"]),
        float(entry["start_time"]),
        float(entry["duration"]),
        str(entry["video_path"]),
    )
    if not all(0 <= number < 2**63 for number in (clip.id, clip.episode, clip.window)):
        raise LabellingError(f"segment {clip.id}: numbers lie in [0, 2⁶³)")
    if not (math.isfinite(clip.duration_s) and math.isfinite(clip.start_s)):
        raise LabellingError(f"segment {clip.id}: start and duration are finite")
    return clip


def _films(root: Path, place: Path) -> list[str]:
    """Names of the films in a folder; links are followed, and stay inside the data set."""
    with os.scandir(place) as entries:
        return [
            entry.name
            for entry in entries
            if entry.is_file(follow_symlinks=False)
            or film_path(root, os.path.relpath(entry.path, root)) is not None
        ]


def film_path(folder: Path, clip: str) -> Path | None:
    """Return the file of a film, none unless it is a regular file inside the data set.

    Links are followed before the place is judged, so a link that leads outside is refused.
    """
    path = _inside(folder, clip)
    return path if path is not None and path.is_file() else None


def _inside(root: Path, name: str) -> Path | None:
    """Resolve a name that a file gave; none where it leads outside, or no file can have it."""
    if os.path.isabs(name):
        return None
    try:
        top = os.path.realpath(root)
        path = os.path.realpath(os.path.join(top, name))
    except (OSError, ValueError):
        return None
    inside = path == top or path.startswith(top + os.sep)
    return Path(path) if inside and os.path.lexists(path) else None


def file_sha256(path: Path) -> str:
    """Hash a file's content."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.lru_cache(maxsize=100_000)
def _sha256(path: Path, *_state: int) -> str:
    # The state in the key makes a file that was written anew a new entry.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=100_000)
def describe_film(path: Path) -> Film:
    """Read frame time and the presence of sound from a WebM file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    frame_s = 0.05
    # DefaultDuration of the first video track: id 23 E3 83, size 0x80 | n, n bytes of ns.
    place = head.find(b"\x23\xe3\x83")
    if place >= 0 and place + 4 < len(head):
        size = head[place + 3] & 0x7F
        value = head[place + 4 : place + 4 + size]
        if 1 <= size <= 8 and len(value) == size:
            nanoseconds = struct.unpack(">Q", value.rjust(8, b"\0"))[0]
            frame_s = nanoseconds * 1e-9 if 1e5 <= nanoseconds <= 1e10 else frame_s
    return Film(frame_s, b"A_OPUS" in head or b"A_VORBIS" in head)
