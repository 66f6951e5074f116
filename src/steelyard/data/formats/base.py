"""What a file format is, and the safe ways to write files that all of them share."""

import contextlib
import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.raw import RawDataset

SPEC_KEY = "steelyard_env_spec"
"""Where a format has room for a free attribute, the task is written under this name, as JSON."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to keep demonstrations in files.

    Attributes:
        name: Its name in the registry and on the command line.
        looks_for: What makes a path one of its datasets, as a phrase for error messages.
        loses: The fields it cannot hold, with what is read back instead; empty if none.
        path_for: Maps a path without suffix to the one that this format would write.
        matches: Whether an existing path holds a dataset of this format; opens files read-only.
        read: Read a path that matches.
        write: Write demonstrations to a path; the flag allows replacing what lies there.
    """

    name: str
    looks_for: str
    loses: tuple[str, ...]
    path_for: Callable[[Path], Path]
    matches: Callable[[Path], bool]
    read: Callable[[Path], RawDataset]
    write: Callable[[Demonstrations, Path, bool], None]


@contextlib.contextmanager
def atomic_path(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` on success.

    A reader sees the old content or the new, never a part: a kill leaves at most a hidden
    ``.<name>.<hex>.tmp`` beside it.

    Args:
        path: The file or directory to write.
        overwrite: Whether something there may be replaced.

    Raises:
        FileExistsError: Something lies there and ``overwrite`` is false.
    """
    occupied = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if occupied and not overwrite:
        raise FileExistsError(
            f"{path}: a dataset is never replaced unasked; pass `overwrite=True` or another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        yield draft
        if path.is_dir() and occupied:
            # A directory that is not empty cannot be replaced in one step: move it aside first.
            old = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
            path.rename(old)
            draft.rename(path)
            shutil.rmtree(old)
        else:
            os.replace(draft, path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)
