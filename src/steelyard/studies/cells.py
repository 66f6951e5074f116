"""What a study is made of: cells, the store of their runs, and what is saved to run them again."""

import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from steelyard.files import field, read_json
from steelyard.reports import Record, StudyReport
from steelyard.reports.files import write_atomic
from steelyard.reports.schema import SchemaError, parse
from steelyard.training.group import Ticker, common_steps
from steelyard.training.metrics import SinkOptions
from steelyard.training.run_folder import RunFolder, run_id

Config = TypeVar("Config")
MOST_TOGETHER = 10


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study: an arm, a seed, a resolved config, and what it continues.

    Attributes:
        study: Name of the study.
        arm: Name of the arm.
        seed: Seed of the whole pipeline.
        config: Resolved config, a frozen dataclass or plain values; part of the identity.
        axes: Values on the study's axes.
        parent: The cell whose outcome this one starts from.
        size: Steps of work, for progress.
        pack: Which cells can train in one program, where configs may differ; none: those that
            differ in seed and data only.
    """

    study: str
    arm: str
    seed: int
    config: Any
    axes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    parent: "Cell | None" = None
    size: int = 1
    pack: str | None = None

    @functools.cached_property
    def id(self) -> str:
        """Hash of all that decides the outcome; how cells are grouped is no part of it."""
        return run_id(self.identity())

    def identity(self) -> dict[str, Any]:
        """What the hash is taken of."""
        return {
            "study": self.study,
            "arm": self.arm,
            "seed": self.seed,
            "axes": dict(self.axes),
            "config": self.config,
            "parent": None if self.parent is None else self.parent.id,
        }

    @functools.cached_property
    def program(self) -> str:
        """Cells of equal program can train together; see ``pack``."""
        if self.pack is not None:
            return self.pack
        parts = {"arm": self.arm, "axes": dict(self.axes), "config": self.config}
        return run_id(parts)

    @property
    def label(self) -> str:
        """Arm and axis values, for people."""
        axes = ", ".join(f"{k} {v}" for k, v in self.axes.items())
        return f"{self.arm} ({axes})" if axes else self.arm


class Store:
    """Where the runs of a study live: ``<root>/<study>/<run_id>/``."""

    def __init__(self, root: Path, study: str):
        self.path = Path(root) / study

    def folder(self, cell: Cell) -> RunFolder:
        """A cell's run folder, whether or not it exists yet."""
        return RunFolder(self.path / cell.id)

    def has_ended(self, cell: Cell) -> bool:
        """Whether the cell has come to an end of its own: finished, or diverged."""
        return self.folder(cell).status()["state"] in ("done", "diverged")

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell has finished."""
        return self.folder(cell).status()["state"] == "done"


@runtime_checkable
class Study(Protocol):
    """What a study offers to the engine and the command line."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def summary(self) -> str:
        """What it compares, one line."""
        ...

    @property
    def config_type(self) -> type[Any]:
        """Type of its configs."""
        ...

    @property
    def presets(self) -> Mapping[str, str]:
        """What each preset is for, by name."""
        ...

    @property
    def executor(self) -> str:
        """The executor it prefers."""
        ...

    def configure(self, preset: str, env: str | None = None) -> Any:
        """The config of a preset, for a task."""
        ...

    def check(self, config: Any, store: Store) -> None:
        """Refuse bad input before any work starts."""
        ...

    def pin(self, config: Any, store: Store, /) -> Any:
        """The config with what it leaves to the moment, such as `latest`, written out."""
        ...

    def prepare(self, config: Any, store: Store, make_progress: Callable[[str, int], Any]) -> None:
        """Make what all runs read, once, before any of them starts."""
        ...

    def plan(self, config: Any, store: Store) -> list[Cell]:
        """All cells, each after its parent."""
        ...

    def group_size(self, cells: Sequence[Cell], /) -> int:
        """How many of these cells pay to train together."""
        ...

    def execute(
        self,
        cells: Sequence[Cell],
        config: Any,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        ...

    def records(
        self, config: Any, store: Store, preset: str, command: str, /
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        ...


def open_folders(cells: Sequence[Cell], store: Store) -> list[RunFolder]:
    """Create the cells' folders, each naming its parent."""
    return [
        store.folder(cell).open(cell.identity(), None if cell.parent is None else cell.parent.id)
        for cell in cells
    ]


def logged(tick: Ticker, folders: Sequence[RunFolder]) -> Ticker:
    """A progress display that is also kept in the ``run.log`` of every run."""

    def tell(step: int, note: str = "") -> None:
        tick(step, note)
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for folder in folders:
            with (folder.path / "run.log").open("a") as log:
                log.write(f"{stamp} step {step} {note}\n")

    return tell


def share_of_a_core(cells: Sequence[Cell], most: int = MOST_TOGETHER) -> int:
    """Cells that train together where each core takes one program: shared out, but not too many."""
    return min(-(-len(cells) // (os.cpu_count() or 1)), most)


def ready(group: Sequence[Cell], store: Store) -> list[Cell]:
    """The cells of a group whose parents have finished; the others are marked as skipped."""
    able = []
    for cell in group:
        if cell.parent is None or store.is_done(cell.parent):
            able.append(cell)
        else:
            state = store.folder(cell.parent).status()["state"]
            folder = open_folders([cell], store)[0]
            folder.set_status("skipped", error=f"its parent {cell.parent.id} is {state}")
    return able


def in_lockstep(cells: Sequence[Cell], store: Store) -> list[list[Cell]]:
    """The unfinished cells of one program, apart where they do not stand at the same step."""
    cells = [cell for cell in cells if not store.has_ended(cell)]
    steps = common_steps([store.folder(cell) for cell in cells])
    apart: dict[int, list[Cell]] = {}
    for cell, step in zip(cells, steps, strict=True):
        apart.setdefault(step, []).append(cell)
    return list(apart.values())


@dataclasses.dataclass(frozen=True)
class Saved(Generic[Config]):
    """What ``study.json`` holds: all that a worker process, or a later report, needs to know."""

    study: str
    preset: str
    command: str
    sinks: SinkOptions
    config: Config


def save(path: Path, saved: Saved) -> None:
    """Write ``study.json``."""
    path.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(saved), indent=2)
    write_atomic(path / "study.json", text + "\n")


def load(path: Path, config_type: type[Config]) -> Saved[Config]:
    """Read ``study.json`` of a study folder.

    Raises:
        FileNotFoundError: There is none.
        SchemaError: It is damaged; names file and field.
    """
    place = path / "study.json"
    content = read_json(place, SchemaError)
    told = {
        name: field(content, name, kind=str, place=place, error=SchemaError)
        for name in ("study", "preset", "command")
    }
    read = {
        name: parse(kind, field(content, name, place=place, error=SchemaError), str(place))
        for name, kind in (("config", config_type), ("sinks", SinkOptions))
    }
    return Saved(**told, **read)
