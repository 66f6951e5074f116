"""All file formats of demonstrations: the registry, detection, loading and saving."""

import dataclasses
from pathlib import Path

from steelyard.data.assembly import assemble
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.findings import CheckReport, DatasetError, worst_first
from steelyard.data.formats import d4rl, minari, native, robomimic
from steelyard.data.formats.base import Format
from steelyard.data.formats.locate import not_found, refuse_pickle
from steelyard.data.inspection import summary_line
from steelyard.data.raw import ActionUnits
from steelyard.types import EnvSpec

FORMATS: dict[str, Format] = {
    format.name: format for format in (native.FORMAT, minari.FORMAT, robomimic.FORMAT, d4rl.FORMAT)
}
"""Every known format by name, in the order in which they are tried."""


def load_demonstrations(
    path: str | Path,
    env_spec: EnvSpec | None = None,
    action_units: ActionUnits | None = None,
    other_name: str | None = None,
) -> Demonstrations:
    """Read demonstrations in any known format, checked on the way in.

    The files are opened read-only, so several readers may share one dataset.

    Args:
        path: A dataset; a path that does not exist is also looked for under Minari's root.
        env_spec: The task, where the caller knows it. Needed for files without action bounds whose
            actions leave ``[-1, 1]``; must agree with the file where that says it.
        action_units: Units of the actions in the file, ``"env"`` or ``"normalised"``; by default
            what the format prescribes (robomimic: normalised; the others: environment units).
        other_name: What files of others call the task of ``env_spec``.

    Returns:
        The demonstrations. Repairs and assumptions stand in ``provenance.notes``; use
        :func:`load_with_report` to get them as findings.

    Raises:
        DatasetNotFoundError: Nothing lies there; the message says what was looked for, the nearest
            dataset and the command that makes one.
        DatasetError: The path is a pickle file, no known format, or breaks a rule.
    """
    demonstrations, report = load_with_report(path, env_spec, action_units, other_name)
    report.raise_if_failed()
    assert demonstrations is not None
    return demonstrations


def load_with_report(
    path: str | Path,
    env_spec: EnvSpec | None = None,
    action_units: ActionUnits | None = None,
    other_name: str | None = None,
) -> tuple[Demonstrations | None, CheckReport]:
    """Read demonstrations as :func:`load_demonstrations` does, with what the checks found.

    Returns:
        The demonstrations, ``None`` if they break a rule, and the report.

    Raises:
        DatasetNotFoundError: Nothing lies there.
        DatasetError: The files cannot be read at all.
    """
    place = resolve(path)
    format = detect_format(place)
    raw = format.read(place)
    if env_spec is not None and raw.env_spec is None and raw.task == other_name:
        raw = dataclasses.replace(raw, task=env_spec.id)
    demonstrations, findings = assemble(raw, env_spec, action_units)
    summary = "" if demonstrations is None else summary_line(demonstrations)
    return demonstrations, CheckReport(str(path), format.name, worst_first(findings), summary)


def save_demonstrations(
    demonstrations: Demonstrations,
    path: str | Path,
    format: str = "native",
    overwrite: bool = False,
) -> Path:
    """Write demonstrations, atomically.

    Args:
        demonstrations: What to write.
        path: Where; a file or a directory, as the format has it.
        format: Name of a known format. Only ``"native"`` loses nothing; ``FORMATS[name].loses``
            lists what another one cannot hold, and what is read back instead.
        overwrite: Whether what lies there may be replaced.

    Returns:
        The path that was written.

    Raises:
        DatasetError: The format is unknown, or the path does not suit it.
        FileExistsError: Something lies there and ``overwrite`` is false.
    """
    if format not in FORMATS:
        raise DatasetError(f"unknown format {format!r}; legal: {', '.join(FORMATS)}")
    FORMATS[format].write(demonstrations, Path(path), overwrite)
    return Path(path)


def resolve(path: str | Path) -> Path:
    """Return where a dataset lies: the path itself, or the Minari dataset of this id.

    Raises:
        DatasetError: It is a pickle file.
        DatasetNotFoundError: Neither exists.
    """
    place = Path(path)
    refuse_pickle(place)
    if place.exists():
        return place
    in_minari = minari.minari_root() / place
    if minari.matches(in_minari):
        return in_minari
    raise not_found(place, FORMATS.values())


def detect_format(path: Path) -> Format:
    """Return the format of an existing path.

    Raises:
        DatasetError: No format knows it; the message says what each looks for.
        DatasetNotFoundError: It is a directory without any dataset.
    """
    refuse_pickle(path)
    for format in FORMATS.values():
        if format.matches(path):
            return format
    if path.is_dir():
        raise not_found(path, FORMATS.values())
    known = "".join(f"\n  {format.name}: {format.looks_for}" for format in FORMATS.values())
    raise DatasetError(f"{path}: no known format of demonstrations; known are:{known}")
