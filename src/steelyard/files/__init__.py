"""Files: read safely, damaged or a stranger's as they may be, and written whole or not at all.

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
from steelyard.files.replacing import remove_leftovers, replacing, write_text
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
    "remove_leftovers",
    "replacing",
    "write_text",
]
