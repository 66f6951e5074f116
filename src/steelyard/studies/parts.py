"""What studies of several parts share: checks, a run's result, and pieces of the report."""

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from steelyard.envs.seeding import MOST_SEED
from steelyard.reports import Metric, Panel
from steelyard.reports.records import axes_suffix
from steelyard.studies.cells import Cell, Store
from steelyard.studies.hardware import hardware
from steelyard.training.group import RunGroup
from steelyard.training.run_folder import RunFolder, write_json


@runtime_checkable
class Part(Protocol):
    """One task of a study."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms to run."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of each."""
        ...


AnyPart = TypeVar("AnyPart", bound=Part)
AnyConfig = TypeVar("AnyConfig")


def with_arms(part: AnyPart, arms: tuple[str, ...]) -> AnyPart:
    """A part with other arms; none leaves it out."""
    return dataclasses.replace(part, arms=arms)  # pyright: ignore


def each_part(config: AnyConfig, kind: type[Any], change: Callable[[Any], Any]) -> AnyConfig:
    """A config with something done to each of its parts, which are of one kind."""
    parts = {name: change(part) for name, part in vars(config).items() if isinstance(part, kind)}
    return dataclasses.replace(config, **parts)  # pyright: ignore


def running(
    parts: Mapping[str, AnyPart], arms: tuple[str, ...] | None, seeds: tuple[int, ...] | None
) -> dict[str, AnyPart]:
    """The parts that have arms, with a study's shortcuts written into them.

    Args:
        parts: All of them, by the name of their task in results.
        arms: Of every part that runs; none takes each part's own.
        seeds: Likewise.
    """
    given = {"arms": arms, "seeds": seeds}
    changes: dict[str, Any] = {name: values for name, values in given.items() if values is not None}
    return {
        name: dataclasses.replace(part, **changes)  # pyright: ignore
        for name, part in parts.items()
        if part.arms
    }


def check_parts(
    parts: Mapping[str, AnyPart], arms: Collection[str], check_part: Callable[[AnyPart], None]
) -> None:
    """Check every part of a study.

    Args:
        parts: By the name of their task.
        arms: All that there are.
        check_part: Checks one.

    Raises:
        ValueError: There is no part, or a rule is broken; the message begins with the task.
    """
    if not parts:
        raise ValueError("no part of the study has any arm: give one of them some, or --arms")
    for task, part in parts.items():
        check_arm_names(part.arms, arms)
        try:
            check_part(part)
        except ValueError as error:
            raise ValueError(f"{task}: {error}") from None


def check_arm_names(names: Iterable[str], legal: Collection[str]) -> None:
    """Refuse what is no arm.

    Raises:
        ValueError: Names the nearest, and all there are.
    """
    for name in names:
        if name not in legal:
            near = difflib.get_close_matches(name, legal, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"There is no arm {name!r}; there are {list(legal)}.{hint}")


def check_runs(part: Part) -> None:
    """Refuse seeds that are out of range, and seeds or arms that come twice.

    Raises:
        ValueError: Names the rule and the values.
    """
    if not part.seeds or len(set(part.seeds)) < len(part.seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {part.seeds}")
    for seed in part.seeds:
        if not 0 <= seed <= MOST_SEED:
            raise ValueError(f"seeds must lie between 0 and {MOST_SEED}, got {seed}")
    if len(set(part.arms)) < len(part.arms):
        raise ValueError(f"arms must be distinct, got {part.arms}")


def expected_seeds(
    parts: Mapping[str, Part],
    seeds: tuple[int, ...],
    used: Sequence[str],
    always: Collection[str] = (),
) -> dict[str, tuple[int, ...]]:
    """Seeds of arms by label, where they are not the study's own; none where an arm is not run.

    Args:
        parts: By the name of their task; the first is the primary one.
        seeds: The study's own.
        used: Arms that any part has.
        always: Arms that every part has without naming them.
    """
    found, primary = {}, {"task": next(iter(parts))}
    for task, part in parts.items():
        suffix = axes_suffix({"task": task}, primary)
        for name in (*always, *used):
            own = part.seeds if name in (*always, *part.arms) else ()
            if own != seeds:
                found[name + suffix] = own
    return found


def many_comparisons(number: int) -> str:
    """What a reader of many p-values must know."""
    return (
        f"p-values are of single comparisons, of which there are {number} on each task and "
        "metric: with so many, one in twenty lies below 0.05 by chance."
    )


def task_panels(
    tasks: Iterable[str], tables: Sequence[tuple[str, tuple[Metric, ...]]]
) -> tuple[Panel, ...]:
    """The same tables for every task; each is a title and its columns."""
    return tuple(
        Panel(f"{title}, {task}", {"task": task}, metrics)
        for task in tasks
        for title, metrics in tables
    )


def write_outcome(
    folder: RunFolder,
    group: RunGroup,
    success: Bool[np.ndarray, " start"],
    length: Int[np.ndarray, " start"],
    more: Mapping[str, Any],
) -> None:
    """Write ``result.json`` of a run that was scored by success on fixed starts."""
    result = {
        **more,
        "seconds": group.seconds,
        "together": len(group.seeds),
        "hardware": hardware(),
        "success": success.astype(int).tolist(),
        "length": length.tolist(),
    }
    write_json(folder.path / "result.json", result)


def run_notes(cell: Cell, store: Store) -> list[str]:
    """What a reader must know of a run: its error, what it says itself, with whom it trained."""
    folder = store.folder(cell)
    status, result = folder.status(), folder.read("result.json") or {}
    notes = [status["error"]] if status.get("error") else []
    notes += result.get("notes", [])
    together = result.get("together", 1)
    if together > 1:
        notes.append(f"{together} runs trained together: seconds are the group's over {together}")
    return notes


def record_origin(cell: Cell, store: Store) -> dict[str, Any]:
    """Fields of a record that say which run it is of, how that ended, where and how long it ran.

    Seconds are a run's share of those of its group.
    """
    folder = store.folder(cell)
    status, result = folder.status(), folder.read("result.json") or {}
    versions = folder.read("versions.json") or {}
    seconds = result.get("seconds", status.get("seconds", 0.0))
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "axes": dict(cell.axes),
        "parent": None if cell.parent is None else cell.parent.id,
        "seconds": round(seconds / result.get("together", 1), 2),
        "version": versions.get("steelyard", metadata.version("steelyard")),
        "hardware": result.get("hardware", hardware()),
        "versions": versions,
        "run_id": cell.id,
        "status": status["state"],
    }
