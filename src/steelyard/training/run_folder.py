"""A run's folder: its config, status, metrics, checkpoints; the only memory a run has."""

import dataclasses
import datetime
import hashlib
import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from steelyard.files import FileError, field, read_json, replacing, write_text
from steelyard.types import LATE

_STATUS = {
    "state": str,
    "step": int,
    "generation": int,
    "seconds": (int, float, NoneType),
    "checkpoint": (str, NoneType),
    "error": (str, NoneType),
}
"""Fields of ``status.json`` that programs read, and their types."""
RECORDED_PACKAGES = ("steelyard", "jax", "jaxlib", "equinox", "optax", "envpool", "numpy")


def to_plain(value: Any) -> Any:
    """Reduce a config to JSON types: dataclasses to dicts, tuples to lists, inf to ``"inf"``.

    A field that was added later (``late``) is left out while it is at its default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (f.metadata.get(LATE) and getattr(value, f.name) == f.default)
        }
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    return value


def run_id(config: Any) -> str:
    """Name of a run: a hash of its resolved config (12 hexadecimal digits)."""
    canonical = json.dumps(to_plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; numbers that are not finite become ``null``."""
    write_text(path, json.dumps(to_plain(finite(value)), indent=2) + "\n")


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name to an ``.npz`` file, atomically."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]


def finite(value: Any) -> Any:
    """Replace numbers that are not finite by ``None``, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


class RunFolder:
    """One run on disk.

    ``config.json``, ``status.json``, ``versions.json``, ``metrics.jsonl``, ``checkpoints/``,
    ``eval/``, ``plots/``, ``videos/``.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """Append-only metrics, one JSON object per line."""
        return self.path / "metrics.jsonl"

    def open(self, config: Any, parent: str | None = None) -> "RunFolder":
        """Create the folder, or check that it holds the same config.

        Raises:
            ValueError: The folder holds a run of another config.
        """
        plain = to_plain(config)
        existing = self.read("config.json")
        if existing is not None and existing != finite(plain):
            raise ValueError(
                f"{self.path} holds a run of another config. Choose another folder, or delete it."
            )
        if existing is None:
            write_json(self.path / "config.json", plain)
        if self.status()["state"] != "done":
            write_json(self.path / "versions.json", versions())
        if self.read("status.json") is None:
            self.set_status("pending", parent=parent)
        return self

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the folder, or none where it is missing.

        Raises:
            FileError: It is damaged, or holds something other than an object; names it.
        """
        path = self.path / name
        return read_json(path) if path.exists() else None

    def status(self) -> dict[str, Any]:
        """``state`` (see docs/logging.md), ``step``, ``seconds`` and more.

        Raises:
            FileError: ``status.json`` is damaged; names it and the field.
        """
        status = self.read("status.json")
        if status is None:
            return {"state": "missing"}
        place = self.path / "status.json"
        for name, kind in _STATUS.items():
            if name in status or name == "state":
                field(status, name, kind=kind, place=place)
        kept = status.get("checkpoint")
        if kept is not None and kept != Path(kept).name:
            raise FileError(f"{place}: `checkpoint` must be the name of a file, got {kept!r}")
        return status

    def set_status(self, state: str, **fields: Any) -> None:
        """Merge fields into ``status.json``; an ``error`` goes with the state it came with."""
        before = {k: v for k, v in self.status().items() if k != "error"}
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        merged = {**before, **fields, "state": state, "updated": stamp}
        write_json(self.path / "status.json", merged)
