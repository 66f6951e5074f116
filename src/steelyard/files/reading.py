"""What all readers share: the one error, which files are opened, and how large they may be."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

LEAST_ALLOWANCE = 256 * 2**20
MOST_EXPANSION = 100
_LONGEST, _LONGEST_MESSAGE = 300, 2_000


class FileError(ValueError):
    """A file cannot be used; the message names it and says why."""


@contextlib.contextmanager
def reading(path: str | Path, what: str, error: type[ValueError] = FileError) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one error that names it.

    A damaged file can make any line that looks into it fail in any way, so the body should hold
    those lines and nothing else.

    Args:
        path: Named in the error.
        what: What the file is not, e.g. ``"not a split"``.
        error: Type of the error. One of this type that the body raises keeps its message, behind
            the file's name where that is not in it.

    Raises:
        FileNotFoundError: The body raised one; it names its file.
        ValueError: Of the type ``error``.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except error as found:
        said = clipped(str(found), _LONGEST_MESSAGE)
        if str(path) in said:
            if said == str(found):
                raise
            raise error(said) from found
        raise error(f"{path}: {said}") from found
    except Exception as found:
        raise error(f"{path}: {what}: {clipped(repr(found))}") from found


def clipped(text: str, longest: int = _LONGEST) -> str:
    """A text short enough for a message, or for a part of one."""
    return text if len(text) <= longest else f"{text[:longest]} …"


def regular_file(path: str | Path, error: type[ValueError] = FileError) -> Path:
    """Return the path of a file with a beginning and an end.

    A folder holds no bytes; a pipe or a device may never end.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: Of the type ``error``: it is something else, or must not be looked at.
    """
    path = Path(path)
    with reading(path, "cannot be opened", error):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise error(f"{path}: must be a regular file; it is a folder, a pipe or a device")
    return path


def allowance(path: str | Path) -> int:
    """Bytes that a file's content may take once unpacked: 256 MiB and a hundred times its size.

    A few kilobytes can claim to be terabytes; arrays of recordings are packed ten times at most.
    """
    return LEAST_ALLOWANCE + MOST_EXPANSION * Path(path).stat().st_size


def read_bytes(path: str | Path, error: type[ValueError] = FileError) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it cannot be read.
    """
    path = regular_file(path, error)
    with reading(path, "cannot be read", error):
        return path.read_bytes()


def read_text(path: str | Path, error: type[ValueError] = FileError) -> str:
    """Read a text in UTF-8.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it cannot be read, or is no such text.
    """
    data = read_bytes(path, error)
    with reading(path, "must be a text in UTF-8", error):
        return data.decode("utf-8")
