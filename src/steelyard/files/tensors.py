"""Arrays from safetensors files, and the notes beside them."""

from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from steelyard.files.reading import FileError, reading, regular_file


def read_tensors(path: str | Path, error: type[ValueError] = FileError) -> dict[str, np.ndarray]:
    """Read all arrays of a file by name.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it is no such file, or damaged.
    """
    path = regular_file(path, error)
    with reading(path, "not a readable safetensors file", error):
        return load_file(path)


def read_notes(path: str | Path, error: type[ValueError] = FileError) -> dict[str, str]:
    """Read the texts that a file keeps beside its arrays; empty where there are none.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it is no such file, or damaged.
    """
    path = regular_file(path, error)
    with (
        reading(path, "not a readable safetensors file", error),
        safe_open(str(path), "numpy") as file,
    ):
        return dict(file.metadata() or {})
