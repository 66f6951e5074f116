"""What to say where no dataset lies: the pickle rule, the nearest dataset, the command."""

import difflib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.formats.base import Format

PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt")

_SCANNED_ENTRIES = 2000
_SCANNED_DEPTH = 4
_TASK = re.compile(r"[A-Za-z][\w.]*-v\d+")


def refuse_pickle(path: Path) -> None:
    """Refuse files that are pickles by their suffix, and directories that hold only such.

    Raises:
        DatasetError: The path is one; the message points to the export recipe.
    """
    pickles = [path] if path.suffix.lower() in PICKLE_SUFFIXES and not path.is_dir() else []
    if path.is_dir():
        entries = sorted(path.iterdir())
        datasets = {".safetensors", ".npz", ".hdf5", ".h5"}
        if not any(entry.is_dir() or entry.suffix in datasets for entry in entries):
            pickles = [entry for entry in entries if entry.suffix.lower() in PICKLE_SUFFIXES]
    if pickles:
        raise DatasetError(
            f"{pickles[0]}: a {pickles[0].suffix} file is a pickle, and opening one runs the code "
            "inside, so Steelyard never does. Export it to .npz once, in the environment that "
            "wrote it (the recipe is in docs/coming-from.md), and load that"
        )


def not_found(path: Path, formats: Iterable[Format]) -> DatasetNotFoundError:
    """Describe a missing dataset.

    Args:
        path: What was asked for.
        formats: What was looked for.

    Returns:
        An error with the path, what was looked for, the nearest dataset and the command that makes
        one.
    """
    formats = list(formats)
    looked_for = "".join(f"\n  {format.name}: {format.looks_for}" for format in formats)
    near = nearest_dataset(path, formats)
    found = re.findall(_TASK, str(path))
    task = found[-1] if found else "Pendulum-v1"
    command = f"steelyard train sac --env {task} --num-episodes 100 --save-dir expert_data"
    return DatasetNotFoundError(
        f"{path}: no demonstrations found; looked for{looked_for}\n"
        f"nearest dataset: {near or 'none nearby'}\n"
        f"to make one: {command}"
    )


def nearest_dataset(path: Path, formats: Iterable[Format]) -> Path | None:
    """Find the dataset of the most similar path under the closest directory that exists.

    The search is bounded (four levels, 2,000 entries), so it ends soon anywhere.

    Args:
        path: A path where no dataset lies.
        formats: The formats that count.

    Returns:
        Its path, or ``None``.
    """
    start = path.absolute()
    while not start.is_dir():
        start = start.parent
    if start == path.absolute().parent or start == path.absolute():
        roots = [start, start.parent]
    else:
        roots = [start]
    formats = list(formats)
    for root in roots:
        candidates = list(_datasets_under(root, formats))
        if candidates:
            wanted = str(path.absolute())
            return max(
                candidates,
                key=lambda c: difflib.SequenceMatcher(None, str(c), wanted).ratio(),
            )
    return None


def _datasets_under(root: Path, formats: list[Format]) -> Iterator[Path]:
    """Yield datasets breadth first, without going into one."""
    queue, seen = deque([(root, 0)]), 0
    while queue:
        place, depth = queue.popleft()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > _SCANNED_ENTRIES:
                return
            candidate = Path(entry.path)
            if entry.name.startswith(".") or entry.is_symlink():
                continue
            if (entry.is_dir() or candidate.suffix in (".npz", ".hdf5", ".h5")) and any(
                _matches(format, candidate) for format in formats
            ):
                yield candidate
            elif entry.is_dir() and depth < _SCANNED_DEPTH:
                queue.append((candidate, depth + 1))


def _matches(format: Format, candidate: Path) -> bool:
    """Whether a bystander is a dataset; a damaged file is none, and no error of this search."""
    try:
        return format.matches(candidate)
    except (DatasetError, OSError):
        return False
