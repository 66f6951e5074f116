"""The study ``piano``: a policy, judgements of segments, contrastive preference learning.

Source: pairs of judged segments. Score: strength of a judgement. Weighting: uniform, or
proportional with a floor. Felt through: batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.reports import Record, StudyReport
from steelyard.studies.cells import Cell, Store
from steelyard.studies.piano.config import PRESETS, PianoConfig, configure
from steelyard.studies.piano.execute import execute
from steelyard.studies.piano.plan import Played, plan_cells
from steelyard.studies.piano.report import study_records
from steelyard.studies.piano.rules import check
from steelyard.training.group import Ticker
from steelyard.training.metrics import SinkOptions

MOST_TOGETHER = 5
"""Runs whose simulated arms are evaluated at once."""


class PianoStudy:
    """Arms over tasks and seeds; an ``engine.Study``."""

    name = "piano"
    summary = "learning from judgements of segments: CPL against SFT, %BC and P-IQL"
    config_type: type[Any] = PianoConfig
    presets: Mapping[str, str] = PRESETS
    executor = "process"

    def configure(self, preset: str, env: str | None = None) -> PianoConfig:
        """The config of a preset, for all tasks or one."""
        return configure(preset, env)

    def check(self, config: PianoConfig, store: Store) -> None:
        """Refuse bad input before any work starts."""
        check(config)

    def pin(self, config: PianoConfig, store: Store) -> PianoConfig:
        """The config as it is: it leaves nothing to the moment."""
        return config

    def prepare(self, config: PianoConfig, store: Store, make_progress: Any) -> None:
        """Nothing: segments are cells of their own."""

    def plan(self, config: PianoConfig, store: Store) -> list[Cell]:
        """All cells, each after its parent."""
        return plan_cells(config)

    def group_size(self, cells: Sequence[Cell]) -> int:
        """Seeds share a program; segments are played seed by seed, with all cores."""
        if isinstance(cells[0].config, Played):
            return 1
        return min(len(cells), MOST_TOGETHER)

    def execute(
        self,
        cells: Sequence[Cell],
        config: PianoConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        execute(cells, config, store, tick, sinks)

    def records(
        self, config: PianoConfig, store: Store, preset: str, command: str
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        return study_records(config, store, preset, command)


STUDY = PianoStudy()
