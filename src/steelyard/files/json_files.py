"""JSON files, whole or one object a line, and fields of what they hold."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steelyard.files.reading import FileError, clipped, read_text, reading


def read_json(path: str | Path, error: type[ValueError] = FileError) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: it is no JSON, or something other than an object.
    """
    text = read_text(path, error)
    with reading(path, "must be JSON", error):
        value = json.loads(text)
    return _object(value, str(path), error)


def read_json_lines(
    path: str | Path, error: type[ValueError] = FileError
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line, from 1, and the JSON object on it; blank lines are skipped.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Of the type ``error``: a line is no JSON object; names file and line.
    """
    # Not splitlines(): a line separator of Unicode may stand inside a JSON string.
    for number, line in enumerate(read_text(path, error).split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            with reading(place, "must be one JSON object a line", error):
                value = json.loads(line)
            yield number, _object(value, place, error)


def field(
    content: Any,
    *names: str,
    kind: type | tuple[type, ...] = object,
    place: str | Path,
    error: type[ValueError] = FileError,
) -> Any:
    """Return a field of a JSON object, or of an object inside it.

    Args:
        content: The object.
        names: Names of the field, from the outermost object inwards.
        kind: What its value must be; a truth value is no number.
        place: The file, named in errors.
        error: Type of the error.

    Raises:
        ValueError: Of the type ``error``: it is missing or of another kind; names file and field.
    """
    for depth, name in enumerate(names, 1):
        if not isinstance(content, dict) or name not in content:
            there = sorted(map(str, content))[:12] if isinstance(content, dict) else "no object"
            raise error(f"{place}: needs the field {'.'.join(names[:depth])!r}; found {there}")
        content = content[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    truth = isinstance(content, bool) and not {bool, object} & set(kinds)
    if truth or not isinstance(content, kinds):
        legal = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        name = ".".join(names)
        raise error(f"{place}: `{name}` must be {legal}, got {clipped(repr(content))}")
    return content


def _object(value: Any, place: str, error: type[ValueError]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise error(f"{place}: must be a JSON object, got {type(value).__name__}")
