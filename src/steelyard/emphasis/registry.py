"""Build a member of a family (weightings, samplers, reductions) from its name and options."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def _nearest(name: str, legal: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(legal), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def build(registry: Mapping[str, type[T]], kind: str, name: str, options: Mapping[str, Any]) -> T:
    """Return ``registry[name](**options)``, or one clear error.

    Args:
        registry: Name to class; every class is a dataclass.
        kind: What the family is called in the error, e.g. ``"weighting"``.
        name: Which member.
        options: Its fields by name.

    Returns:
        The member.

    Raises:
        ValueError: The name or an option is unknown, or a required option is missing. The message
            lists the legal values and the nearest match.
    """
    if name not in registry:
        raise ValueError(
            f"{kind} must be one of {sorted(registry)}, got {name!r}.{_nearest(name, registry)}"
        )
    fields = {field.name: field for field in dataclasses.fields(registry[name]) if field.init}  # pyright: ignore[reportArgumentType]
    for option in options:
        if option not in fields:
            raise ValueError(
                f"{kind} {name!r} has the options {list(fields)}, got {option!r}."
                f"{_nearest(option, fields)}"
            )
    absent = (dataclasses.MISSING, dataclasses.MISSING)
    required = [k for k, f in fields.items() if (f.default, f.default_factory) == absent]
    missing = [option for option in required if option not in options]
    if missing:
        raise ValueError(f"{kind} {name!r} needs the options {required}, missing: {missing}.")
    return registry[name](**options)
