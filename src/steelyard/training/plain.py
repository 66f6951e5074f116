"""Reads plain JSON values into frozen dataclasses: the inverse of ``run_folder.to_plain``."""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Iterable, Mapping

from steelyard.files import clipped, reading


class ConfigError(ValueError):
    """A file holds no legal settings; the message names file, key, and what is legal."""


def from_plain(wanted: typing.Any, value: typing.Any, file: str, key: str = "") -> typing.Any:
    """Check a decoded JSON value against a type and return it as that type.

    Handles dataclasses (objects; a ``kind`` is passed over), ``tuple[X, ...]``, unions, ``Literal``
    and scalars. A whole number is a float too, as are ``"inf"`` and ``"-inf"``.

    Args:
        wanted: The type.
        value: What ``json.loads`` returned.
        file: Named in errors.
        key: Where in the file, e.g. ``"training.loss"``.

    Raises:
        ConfigError: The value does not fit, or a key is unknown.
    """
    origin, options = typing.get_origin(wanted), typing.get_args(wanted)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        given = {k: v for k, v in _object(value, file, key).items() if k != "kind"}
        fields = {field.name: field for field in dataclasses.fields(wanted)}
        hints = typing.get_type_hints(wanted)
        refuse_unknown(given, fields, file, key)
        read = {k: from_plain(hints[k], v, file, inside(key, k)) for k, v in given.items()}
        with reading(file, f"{key or 'the file'} holds no legal settings", ConfigError):
            try:
                return wanted(**read)
            except ValueError as error:
                raise ConfigError(f"{str(error).rstrip('.')} ({file})") from error
    if origin is typing.Literal:
        if value in options:
            return value
        raise ConfigError(f"{file}: {key} must be one of {_listed(options, value)}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        option = next(o for o in options if o is not type(None))
        return from_plain(option, value, file, key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{file}: {key} must be a list, got {clipped(repr(value))}")
        parts = enumerate(value)
        return tuple(from_plain(options[0], part, file, f"{key}[{i}]") for i, part in parts)
    if wanted is float and value in ("inf", "-inf"):
        return float(value)
    return _scalar(wanted, value, f"{file}: {key}")


def refuse_unknown(
    given: Mapping[str, typing.Any], legal: Iterable[str], file: str, key: str = ""
) -> None:
    """Refuse keys that are not legal.

    Raises:
        ConfigError: One is not; names file, key, the nearest legal one, and all.
    """
    legal = list(legal)
    for name in given:
        if name not in legal:
            raise ConfigError(
                f"{file}: unknown key {inside(key, name)!r}; it must be one of "
                f"{_listed(legal, name)}"
            )


def inside(key: str, name: str) -> str:
    """The dotted name of a key within another."""
    return f"{key}.{name}" if key else name


def _scalar(wanted: typing.Any, value: typing.Any, place: str) -> typing.Any:
    legal = (int, float) if wanted is float else wanted
    if isinstance(value, legal) and not (isinstance(value, bool) and wanted is not bool):
        if wanted is float and abs(value) > sys.float_info.max and value == value:
            raise ConfigError(f"{place} must be a number of 64 bits, got {clipped(str(value))}")
        return wanted(value)
    raise ConfigError(f"{place} must be {wanted.__name__}, got {clipped(repr(value))}")


def _object(value: typing.Any, file: str, key: str) -> dict[str, typing.Any]:
    if isinstance(value, dict):
        return value
    raise ConfigError(
        f"{file}: {key or 'the file'} must be a JSON object, got {clipped(repr(value))}"
    )


def _listed(legal: Iterable[str], got: typing.Any) -> str:
    names = [str(name) for name in legal]
    near = difflib.get_close_matches(str(got), names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{', '.join(names)}, got {clipped(repr(got))}{hint}"
