"""The study ``assembly``: residual PPO on a frozen base policy, and which of its items count.

Source: on-policy rollouts. Score: importance, gradient norm, influence. Weighting: proportional,
softmax, drop. Felt through: batches, with what a draw owes, or losses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.reports import Record, StudyReport
from steelyard.studies.assembly.config import PRESETS, AssemblyConfig, configure
from steelyard.studies.assembly.execute import execute
from steelyard.studies.assembly.plan import Residual, plan_cells
from steelyard.studies.assembly.report import study_records
from steelyard.studies.assembly.rules import check
from steelyard.studies.cells import Cell, Store, share_of_a_core
from steelyard.training.group import Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.residual import PLANE


class AssemblyStudy:
    """Bases, and residuals that weigh their items, over tasks and seeds; an ``engine.Study``."""

    name = "assembly"
    summary = "residual PPO on frozen policies; uniform items against importance, influence, IIF"
    config_type: type[Any] = AssemblyConfig
    presets: Mapping[str, str] = PRESETS
    executor = "process"

    def configure(self, preset: str, env: str | None = None) -> AssemblyConfig:
        """The config of a preset, for all tasks or one."""
        return configure(preset, env)

    def check(self, config: AssemblyConfig, store: Store) -> None:
        """Refuse bad input before any work starts."""
        check(config)

    def pin(self, config: AssemblyConfig, store: Store) -> AssemblyConfig:
        """The config as it is: nothing is left to the moment."""
        return config

    def prepare(self, config: AssemblyConfig, store: Store, make_progress: Any) -> None:
        """Nothing: every base makes its own demonstrations."""

    def plan(self, config: AssemblyConfig, store: Store) -> list[Cell]:
        """All cells, each after its base."""
        return plan_cells(config)

    def group_size(self, cells: Sequence[Cell]) -> int:
        """Small networks share a program; where simulation takes the time, each runs alone."""
        settings = cells[0].config
        if isinstance(settings, Residual) and settings.run.env != PLANE:
            return 1
        return share_of_a_core(cells)

    def execute(
        self,
        cells: Sequence[Cell],
        config: AssemblyConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        execute(cells, config, store, tick, sinks)

    def records(
        self, config: AssemblyConfig, store: Store, preset: str, command: str
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        return study_records(config, store, preset, command)


STUDY = AssemblyStudy()
