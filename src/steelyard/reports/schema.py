"""Reads JSON into frozen dataclasses by their annotations, with errors that name the field."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping

from steelyard.files import clipped, reading


class SchemaError(ValueError):
    """A file does not have the documented form; the message says where and what is legal."""


def parse(annotation: typing.Any, value: typing.Any, where: str) -> typing.Any:
    """Check a decoded JSON value against an annotation and return it as that type.

    Handles dataclasses (from objects), ``tuple[X, ...]`` (from arrays), ``dict[str, X]``, unions,
    ``Literal`` and the JSON scalars. A ``bool`` is no number.

    Args:
        annotation: The wanted type.
        value: What ``json.loads`` returned.
        where: Place named in errors, e.g. ``"raw.jsonl:3"``.

    Raises:
        SchemaError: If the value does not fit.
    """
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _parse_dataclass(annotation, value, where)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise SchemaError(f"{where}: must be one of {list(arguments)}, got {clipped(repr(value))}")
    if origin is tuple:
        items = _require(list, value, where)
        return tuple(parse(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if origin is dict:
        items = _require(dict, value, where)
        return {key: parse(arguments[1], item, f"{where}.{key}") for key, item in items.items()}
    return _require(annotation, value, where)


def _parse_dataclass(cls: typing.Any, value: typing.Any, where: str) -> typing.Any:
    """Build a dataclass from an object that names its fields."""
    if isinstance(value, cls):
        return value
    value = _require(dict, value, where)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in value.keys() - fields.keys():
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"legal fields: {', '.join(fields)}"
        raise SchemaError(f"{where}: unknown field {name!r}; {hint}")
    missing = [
        name
        for name, field in fields.items()
        if name not in value
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SchemaError(f"{where}: missing {', '.join(map(repr, missing))}")
    hints = typing.get_type_hints(cls)
    read = {k: parse(hints[k], item, f"{where}: {k}") for k, item in value.items()}
    with reading(where, f"no legal {cls.__name__}", SchemaError):
        return cls(**read)


def _parse_union(options: tuple, value: typing.Any, where: str) -> typing.Any:
    """Return the value as the first option that it fits."""
    for option in options:
        try:
            return parse(option, value, where)
        except SchemaError:
            continue
    legal = " or ".join(getattr(o, "__name__", str(o)) for o in options).replace("NoneType", "null")
    raise SchemaError(f"{where}: must be {legal}, got {clipped(repr(value))}")


def _require(cls: typing.Any, value: typing.Any, where: str) -> typing.Any:
    """Return the value if it is an instance of a plain type; ``bool`` is no ``int``."""
    if isinstance(value, cls) and not (isinstance(value, bool) and cls in (int, float)):
        return value
    raise SchemaError(f"{where}: must be {cls.__name__}, got {clipped(repr(value))}")


def as_json(value: typing.Any) -> typing.Any:
    """Turn a dataclass, or what contains some, into what ``json.dumps`` accepts.

    Numbers that are not finite become None, since JSON has no word for them.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value
