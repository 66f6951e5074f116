"""One record per finished run, and the JSON-lines files ``raw*.jsonl`` that keep them."""

import collections
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from steelyard.files import read_text, reading
from steelyard.reports.files import write_atomic
from steelyard.reports.schema import SchemaError, as_json, parse

MOST_BYTES = 900_000
"""Of one file of records, so that it is no large file in a repository."""

Number = int | float
AxisValue = int | float | str


@dataclasses.dataclass(frozen=True)
class Record:
    """What one run of one arm and seed measured, and how to repeat it.

    Attributes:
        study: Name of the study, e.g. ``"imitation"``.
        preset: Size at which it ran, e.g. ``"quick"``.
        arm: Name of the arm, e.g. ``"ipmd"``.
        seed: Seed of the whole pipeline; the same seed in two arms makes a pair.
        axes: Value on each axis that applies to the arm, e.g. ``{"demonstrations": 10}``.
        metrics: Final numbers; None (or NaN) where a number does not exist.
        per_start_returns: Return from every evaluation start, in the fixed order of starts; in a
            study that compares tails the error >= 0 of every test item, None where it diverged.
        curve: Evaluations during training: ``seconds``, ``frames`` where the arm has any, metrics.
        seconds: Wall time of the run.
        frames: Environment steps the run took; None for a learner without an environment.
        epochs: Passes over the dataset; None where there is no such thing.
        hardware: Machine in words.
        command: The command that repeats the run.
        version: Version of the library.
        versions: Versions of what it stands on.
        run_id: Identity of the run.
        parent: Identity of the run it continues, or None.
        status: ``"done"``, or ``"diverged"`` where training stopped at a number that is not finite.
        notes: Remarks a reader of the report must see.
    """

    study: str
    preset: str
    arm: str
    seed: int
    axes: dict[str, AxisValue]
    metrics: dict[str, Number | None]
    per_start_returns: tuple[Number | None, ...]
    curve: tuple[dict[str, Number | None], ...]
    seconds: Number
    frames: int | None
    epochs: int | None
    hardware: str
    command: str
    version: str
    versions: dict[str, str]
    run_id: str
    parent: str | None
    status: Literal["done", "diverged"]
    notes: tuple[str, ...] = ()

    def metric(self, name: str) -> float | None:
        """Return a metric as a finite float; None if it is absent, null or not finite."""
        return finite(self.metrics.get(name))


def finite(value: Number | None) -> float | None:
    """Return a number as a float, and None for None, NaN and infinities."""
    return None if value is None or not math.isfinite(value) else float(value)


def label(record: Record, primary_axes: Mapping[str, AxisValue]) -> str:
    """Name the arm of a record, with its axis values where they are not the primary ones.

    Args:
        record: The run.
        primary_axes: The axis values at which an arm goes by its bare name.

    Returns:
        E.g. ``"ipmd"`` at the primary values and ``"ipmd[demonstrations=1]"`` elsewhere.
    """
    return record.arm + axes_suffix(record.axes, primary_axes)


def axes_suffix(axes: Mapping[str, AxisValue], primary_axes: Mapping[str, AxisValue]) -> str:
    """Write the axis values that differ from the primary ones, ``""`` where none does."""
    other = [f"{k}={v}" for k, v in sorted(axes.items()) if primary_axes.get(k) != v]
    return f"[{','.join(other)}]" if other else ""


def validate(records: Sequence[Record]) -> None:
    """Refuse records that do not make one comparison.

    Raises:
        ValueError: If there is no record, studies or presets are mixed, an arm has a seed twice at
            the same axis values, or an axis name cannot name a file.
    """
    if not records:
        raise ValueError("a report needs at least one record, got none")
    for field in ("study", "preset"):
        found = sorted({getattr(record, field) for record in records})
        if len(found) > 1:
            raise ValueError(f"all records of a report must share one {field}, got {found}")
    runs = collections.Counter((label(record, {}), record.seed) for record in records)
    twice = [f"{name} seed {seed}" for (name, seed), count in runs.items() if count > 1]
    if twice:
        raise ValueError(f"each arm may have each seed once, got twice: {', '.join(twice)}")
    for axis in {axis for record in records for axis in record.axes}:
        if not axis.isidentifier():
            raise ValueError(f"an axis name must be an identifier, got {axis!r}")


def load_records(path: Path) -> list[Record]:
    """Read ``raw.jsonl``, with ``raw-2.jsonl`` and so on beside it, and validate them.

    Blank lines are skipped.

    Raises:
        SchemaError: If a line is no JSON object or a field is missing, unknown or of another type.
        ValueError: See ``validate``.
    """
    records = [record for part in (path, *_parts(path)) for record in _read(part)]
    try:
        validate(records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return records


def dump_records(records: Iterable[Record], path: Path) -> Path:
    """Write records as JSON lines and return the path.

    What would make the file larger than ``MOST_BYTES`` goes on in ``raw-2.jsonl`` and so on. Each
    file is written in one step.
    """
    parts, size = [""], 0
    for record in records:
        line = json.dumps(as_json(record), allow_nan=False) + "\n"
        if parts[-1] and size + len(line) > MOST_BYTES:
            parts.append("")
            size = 0
        parts[-1] += line
        size += len(line)
    kept = [path, *(_part(path, number) for number in range(2, len(parts) + 1))]
    for place, text in zip(kept, parts, strict=True):
        write_atomic(place, text)
    for old in _parts(path):
        if old not in kept:
            old.unlink()
    return path


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _parts(path: Path) -> list[Path]:
    """The files that continue one, in order."""
    parts, number = [], 2
    while _part(path, number).exists():
        parts.append(_part(path, number))
        number += 1
    return parts


def _read(path: Path) -> list[Record]:
    """Read one file of records."""
    records = []
    for number, line in enumerate(read_text(path, SchemaError).split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        with reading(where, "must be one JSON object a line", SchemaError):
            # Python writes NaN and Infinity, which JSON does not know: both mean "no number".
            value = json.loads(line, parse_constant=lambda _: None)
        records.append(parse(Record, value, where))
    return records
