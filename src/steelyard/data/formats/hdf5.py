"""Reading HDF5 safely: what the three HDF5 layouts share."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from steelyard.data.findings import DatasetError

SUFFIXES = (".hdf5", ".h5")


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file read-only; any number of readers may hold it at once.

    Raises:
        DatasetError: It is not an HDF5 file, or it is damaged.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: must be an HDF5 file that can be opened: {error}") from error
    with file:
        yield file


def holds(path: Path, *members: str) -> bool:
    """Whether ``path`` is an HDF5 file with all of ``members``."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return all(member in file for member in members)


def column(group: h5py.Group, name: str, place: str) -> np.ndarray:
    """Read one array of a group.

    Raises:
        DatasetError: It is missing (the message lists what is there) or not an array of numbers.
    """
    item = group.get(name)
    if not isinstance(item, h5py.Dataset):
        raise DatasetError(f"{place}: needs the array `{name}`; found {sorted(group)}")
    if item.dtype.kind not in "biuf":
        raise DatasetError(f"{place}: `{name}` must hold numbers; its type is {item.dtype}")
    return np.asarray(item[()])


def attribute(group: h5py.Group, name: str) -> str | None:
    """Read a text attribute, ``None`` where it is absent."""
    value = group.attrs.get(name)
    return (
        value.decode("utf-8")
        if isinstance(value, bytes)
        else (None if value is None else str(value))
    )
