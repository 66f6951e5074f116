"""Reading HDF5 safely: what the four HDF5 layouts share.

A file can point to others (external links, external storage, virtual arrays) and claim arrays of
any size; both are refused.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue]

from steelyard.data.findings import DatasetError
from steelyard.files import allowance, reading, regular_file

SUFFIXES = (".hdf5", ".h5")


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file read-only; any number of readers may hold it at once.

    What the body raises because the file is damaged is one error that names the file.

    Raises:
        FileNotFoundError: It is not there.
        DatasetError: It is not an HDF5 file, it is damaged, or a link in it leads to another file.
    """
    path = regular_file(path, DatasetError)
    with (
        reading(path, "must be an HDF5 file that can be read", DatasetError),
        h5py.File(path, "r") as file,
    ):
        _refuse_outside(file)
        yield file


def holds(path: Path, *members: str) -> bool:
    """Whether ``path`` is an HDF5 file with all of ``members``."""
    if not path.is_file():
        return False
    with reading(path, "cannot be read", DatasetError):
        if not h5py.is_hdf5(path):
            return False
    with open_hdf5(path) as file:
        return all(member in file for member in members)


def column(group: h5py.Group, name: str, place: str) -> np.ndarray:
    """Read one array of a group.

    Raises:
        DatasetError: It is missing (the message lists what is there), not an array of numbers, lies
            in another file, or claims more bytes than a file of this size may.
    """
    item = group.get(name)
    if not isinstance(item, h5py.Dataset):
        raise DatasetError(f"{place}: needs the array `{name}`; found {sorted(group)[:12]}")
    if item.dtype.kind not in "biuf":
        raise DatasetError(f"{place}: `{name}` must hold numbers; its type is {item.dtype}")
    if item.shape is None:
        raise DatasetError(f"{place}: `{name}` must hold numbers; it is empty")
    if item.external or item.is_virtual:
        raise DatasetError(f"{place}: `{name}` lies in another file, which is not opened")
    size, most = math.prod(item.shape) * item.dtype.itemsize, allowance(item.file.filename)
    if size > most:
        raise DatasetError(
            f"{place}: `{name}` claims {size:,} bytes, {most:,} are the most for a file of its size"
        )
    return np.asarray(item[()])


def attribute(group: h5py.Group, name: str) -> str | None:
    """Read a text attribute, ``None`` where it is absent."""
    value = group.attrs.get(name)
    return (
        value.decode("utf-8")
        if isinstance(value, bytes)
        else (None if value is None else str(value))
    )


def json_attribute(group: h5py.Group, name: str, kind: type, place: str) -> Any:
    """Read a JSON value from a text attribute.

    Raises:
        DatasetError: It is missing, no JSON, or of another kind.
    """
    text = attribute(group, name)
    if text is None:
        raise DatasetError(f"{place}: needs the attribute `{name}`; found {sorted(group.attrs)}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: the attribute `{name}` must be JSON: {error}") from error
    if not isinstance(value, kind):
        raise DatasetError(f"{place}: the attribute `{name}` must be a {kind.__name__}")
    return value


def _refuse_outside(file: h5py.File) -> None:
    """Refuse a file with a link to another one."""

    def is_outside(name: bytes, info: Any) -> bytes | None:
        return name if info.type == h5l.TYPE_EXTERNAL else None

    found = file.id.links.visit(is_outside, info=True)
    if found is not None:
        raise DatasetError(f"`{found.decode()}` is a link to another file, which is not followed")
