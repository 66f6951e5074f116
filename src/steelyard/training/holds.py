"""One process a folder: who writes a run or a study holds it, and whoever comes second is told.

A hold is a lock of the operating system on the file ``.hold``, which ends with its process, however
that ends. On file systems that know no locks nothing is held.
"""

import atexit
import datetime
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

HOLD = ".hold"
POLL_S = 0.2
"""How long to wait before looking again whether a folder is free."""
GLANCE_S = 1.0
"""How long a folder may be held by one who only looks whether it is."""
_BUSY = (errno.EACCES, errno.EAGAIN)


class HeldError(RuntimeError):
    """Another process writes the folder; the message says which, where, since when."""


class Hold:
    """Folders that this process alone may write, from construction until :meth:`release`.

    Args:
        folders: Made if need be. They are taken in one order by all, so that nobody waits in turn.
        waiting: Told, once, whom it waits for; none does not wait.
        patience_s: How long before it tells, or gives up.

    Raises:
        HeldError: A folder is held by another process, and ``waiting`` is none.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        waiting: Callable[[str], None] | None = None,
        patience_s: float = GLANCE_S,
    ):
        self._files: list[TextIOWrapper] = []
        self._patience_s = patience_s
        try:
            for folder in sorted({Path(folder).resolve() for folder in folders}):
                self._take(folder, waiting)
        except BaseException:
            self.release()
            raise

    def _take(self, folder: Path, waiting: Callable[[str], None] | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / HOLD).open("a+", encoding="utf-8")
        self._files.append(file)
        since, told = time.monotonic(), False
        while not _locked(file):
            if waiting is None and time.monotonic() - since >= self._patience_s:
                raise HeldError(
                    f"{folder} is written by {holder(folder)}; wait until that ends, or stop it"
                )
            if waiting is not None and not told and time.monotonic() - since >= self._patience_s:
                waiting(f"{folder} is written by {holder(folder)}; waiting for it")
                told = True
            time.sleep(POLL_S)
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "at": stamp}))
        file.flush()

    def release(self) -> None:
        """Let others write the folders."""
        for file in self._files:
            file.close()
        self._files = []

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_KEPT: dict[Path, Hold] = {}


def hold_to_the_end(folder: Path, patience_s: float = GLANCE_S) -> None:
    """Hold a folder until this process ends.

    Raises:
        HeldError: Another process writes it.
    """
    place = Path(folder).resolve()
    if place not in _KEPT:
        hold = _KEPT[place] = Hold([place], patience_s=patience_s)
        atexit.register(hold.release)


def is_held(folder: Path) -> bool:
    """Whether a process, on this machine or another that sees the folder, writes it now."""
    try:
        with (folder / HOLD).open("r", encoding="utf-8") as file:
            return not _locked(file, shared=True)
    except OSError:
        return False


def holder(folder: Path) -> str:
    """Who wrote a folder last, for people: ``process 12 on host, since 2026-01-01T00:00:00``."""
    try:
        told: Any = json.loads((folder / HOLD).read_text(encoding="utf-8"))
        return f"process {told['process']} on {told['host']}, since {told['at']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _locked(file: TextIOWrapper, shared: bool = False) -> bool:
    """Whether the lock could be had at once; true where there are no locks."""
    if fcntl is None:
        return not shared
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY
    return True
