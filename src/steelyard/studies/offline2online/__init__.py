"""The study ``offline2online``: ACFQL, clusters drawn alike, priorities of trajectories.

Source: offline and online trajectories. Score: TD error, return, success; cluster. Weighting: rank,
balanced. Felt through: batches, critic's and policy's each its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.reports import Record, StudyReport
from steelyard.studies.cells import Cell, Store, share_of_a_core
from steelyard.studies.offline2online.config import PRESETS, Offline2OnlineConfig, configure
from steelyard.studies.offline2online.datasets import content_hash
from steelyard.studies.offline2online.execute import execute
from steelyard.studies.offline2online.plan import plan_cells
from steelyard.studies.offline2online.report import study_records
from steelyard.studies.offline2online.rules import check
from steelyard.training.group import Ticker
from steelyard.training.metrics import SinkOptions

MOST_TOGETHER = 40
"""Small networks: what a program costs to compile weighs more than what it holds."""
LITTLE_WORK = 3_000
"""Updates of all runs that take less time than to compile their program once more."""


class Offline2OnlineStudy:
    """Arms over tasks and seeds, three cells deep; an ``engine.Study``."""

    name = "offline2online"
    summary = "flow Q-learning from uneven demonstrations; uniform draws, clusters, T-PER"
    config_type: type[Any] = Offline2OnlineConfig
    presets: Mapping[str, str] = PRESETS
    executor = "process"

    def configure(self, preset: str, env: str | None = None) -> Offline2OnlineConfig:
        """The config of a preset, for all tasks or one."""
        return configure(preset, env)

    def check(self, config: Offline2OnlineConfig, store: Store) -> None:
        """Refuse bad input before any work starts."""
        check(config)

    def pin(self, config: Offline2OnlineConfig, store: Store) -> Offline2OnlineConfig:
        """The config with the content of its dataset written out."""
        part = config.custom
        if part.dataset is None or not part.arms or not Path(part.dataset).exists():
            return config
        hashed = dataclasses.replace(part, sha256=content_hash(Path(part.dataset)))
        return dataclasses.replace(config, custom=hashed)

    def prepare(self, config: Offline2OnlineConfig, store: Store, make_progress: Any) -> None:
        """Nothing: data are cells of their own."""

    def plan(self, config: Offline2OnlineConfig, store: Store) -> list[Cell]:
        """All cells, each after its parent."""
        return plan_cells(config)

    def group_size(self, cells: Sequence[Cell]) -> int:
        """Runs of one phase share a program; each core takes one, where that pays for compiling."""
        if sum(cell.size for cell in cells) <= LITTLE_WORK:
            return len(cells)
        return share_of_a_core(cells, MOST_TOGETHER)

    def execute(
        self,
        cells: Sequence[Cell],
        config: Offline2OnlineConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        execute(cells, config, store, tick, sinks)

    def records(
        self, config: Offline2OnlineConfig, store: Store, preset: str, command: str
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        return study_records(config, store, preset, command)


STUDY = Offline2OnlineStudy()
