"""A study whose data are cells of its own, made of the functions that its modules hold."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steelyard.reports import Record, StudyReport
from steelyard.studies.cells import Cell, Store


def as_it_is(config: Any, store: Store) -> Any:
    """The config of a study that leaves nothing to the moment."""
    return config


@dataclasses.dataclass(frozen=True)
class PartedStudy:
    """A study of several tasks; an ``engine.Study``.

    Attributes:
        name: Of the study.
        summary: What it compares, one line.
        config_type: Of its configs.
        presets: What each is for, by name.
        configure: The config of a preset, for all tasks or one.
        check_config: Refuses bad input before any work starts.
        plan_cells: All cells of a config, each after its parent.
        group_size: How many of these cells pay to train together.
        execute: Runs a group of cells to the end and writes their results.
        records: What the finished cells measured, and how to report it.
        pin: The config with what it leaves to the moment written out.
        executor: What it prefers.
    """

    name: str
    summary: str
    config_type: type[Any]
    presets: Mapping[str, str]
    configure: Callable[..., Any]
    check_config: Callable[[Any], None]
    plan_cells: Callable[[Any], list[Cell]]
    group_size: Callable[[Sequence[Cell]], int]
    execute: Callable[..., None]
    records: Callable[[Any, Store, str, str], tuple[list[Record], StudyReport]]
    pin: Callable[[Any, Store], Any] = as_it_is
    executor: str = "process"

    def check(self, config: Any, store: Store) -> None:
        """Refuse bad input before any work starts."""
        self.check_config(config)

    def prepare(self, config: Any, store: Store, make_progress: Any) -> None:
        """Nothing: what runs read are cells of their own."""

    def plan(self, config: Any, store: Store) -> list[Cell]:
        """All cells, each after its parent."""
        return self.plan_cells(config)
