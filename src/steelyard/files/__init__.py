"""Reading files that may be damaged, or a stranger's.

Every reader of the library goes through these functions, so that a file can do three things only:
be read, be missing, or be refused with one error that names it. None can run code, use memory out
of proportion to its size, or make the reader wait.
"""

from steelyard.files.json_files import field, read_json, read_json_lines
from steelyard.files.npz import read_arrays
from steelyard.files.reading import (
    FileError,
    allowance,
    clipped,
    read_bytes,
    read_text,
    reading,
    regular_file,
)
from steelyard.files.tensors import read_notes, read_tensors

__all__ = [
    "FileError",
    "allowance",
    "clipped",
    "field",
    "read_arrays",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_notes",
    "read_tensors",
    "read_text",
    "reading",
    "regular_file",
]
