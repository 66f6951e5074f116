"""Files that appear whole or not at all: whoever reads sees the old content or the new one."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it takes the place of ``path`` on success.

    The folder is made. An error, a full disk for one, leaves the old file and nothing beside it; a
    kill leaves at most a ``<name>.<process>.tmp``, see :func:`remove_leftovers`.

    Args:
        path: The file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text as it is, whole or not at all, and return its path."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")
    return path


def remove_leftovers(folder: Path) -> None:
    """Remove what kills left half written, here and below; call it only where nobody writes."""
    for leftover in list(folder.rglob("*.tmp")):
        with contextlib.suppress(OSError):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
