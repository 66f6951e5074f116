"""Arrays from ``.npz`` archives: nothing is unpickled, nothing unpacks to more than it may.

NumPy's own reader makes room for whatever an array's header claims before it looks at the data, and
unpacks as much as the archive promises. Here both claims are checked first.
"""

import io
import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.files.reading import FileError, allowance, reading, regular_file

_SUFFIX = ".npy"


def read_arrays(
    path: str | Path,
    names: Collection[str] | None = None,
    error: type[ValueError] = FileError,
) -> dict[str, np.ndarray]:
    """Read arrays of an archive by name.

    Args:
        path: The file.
        names: Which to read, where they are there; none reads all.
        error: Type of the error.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it is no archive, damaged, holds pickled objects, or
            claims to unpack to more than :func:`steelyard.files.allowance`.
    """
    path = regular_file(path, error)
    with reading(path, "not a readable .npz archive", error), zipfile.ZipFile(path) as archive:
        members = {
            info.filename.removesuffix(_SUFFIX): info
            for info in archive.infolist()
            if info.filename.endswith(_SUFFIX)
        }
        chosen = [name for name in members if names is None or name in names]
        claimed, most = sum(members[name].file_size for name in chosen), allowance(path)
        if claimed > most:
            raise error(
                f"{path}: its arrays claim {claimed:,} bytes unpacked, {most:,} are the most for a "
                "file of its size"
            )
        arrays = {}
        for name in chosen:
            with archive.open(members[name]) as member:
                arrays[name] = _array(member, members[name].file_size, f"{path}: `{name}`", error)
    return arrays


def names_in(path: str | Path) -> set[str]:
    """Names of the arrays of an archive; none where it is no archive."""
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            found = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return set()
    return {name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)}


def _array(member: Any, size: int, place: str, error: type[ValueError]) -> np.ndarray:
    """Read one array of which so many bytes were promised, header included."""
    head = io.BytesIO(member.read(min(size, 2**16)))
    version = np.lib.format.read_magic(head)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read_header:
        raise error(f"{place}: version {version} of .npy; (1, 0) and (2, 0) are read")
    shape, fortran, kind = read_header[version](head)
    if kind.hasobject:
        raise error(f"{place} must hold numbers; pickled objects are never opened")
    wanted, there = math.prod(shape) * kind.itemsize, size - head.tell()
    if wanted != there:
        raise error(f"{place}: {kind}{list(shape)} takes {wanted} bytes; there are {there}")
    data = bytearray(head.read())
    data += member.read()
    if len(data) != there:
        raise error(f"{place}: is cut off after {len(data)} of {there} bytes")
    flat = np.frombuffer(data, kind, count=math.prod(shape)) if there else np.zeros(0, kind)
    return flat.reshape(shape, order="F" if fortran else "C")
