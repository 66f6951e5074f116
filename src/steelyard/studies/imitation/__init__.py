"""The study ``imitation``: a SAC expert, inverse RL (IPMD) and behaviour cloning (BC).

Sources: replay and demonstrations. Score: none. Weighting: uniform. Felt through: batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.reports import Record, StudyReport
from steelyard.studies.cells import Cell, Store
from steelyard.studies.imitation.config import PRESETS, ImitationConfig, configure
from steelyard.studies.imitation.execute import execute
from steelyard.studies.imitation.plan import plan_cells
from steelyard.studies.imitation.report import study_records
from steelyard.studies.imitation.rules import check
from steelyard.studies.imitation.sources import pin, shared_dataset
from steelyard.training.group import Ticker
from steelyard.training.metrics import SinkOptions

WIDE = 128  # on a CPU, stacking seeds pays below this width and buys nothing above


class ImitationStudy:
    """SAC expert → demonstrations → BC and IPMD, over paired seeds; an ``engine.Study``."""

    name = "imitation"
    summary = "SAC expert; behaviour cloning against inverse RL (IPMD) on its demonstrations"
    config_type: type[Any] = ImitationConfig
    presets: Mapping[str, str] = PRESETS
    executor = "inline"

    def configure(self, preset: str, env: str | None = None) -> ImitationConfig:
        """The config of a preset, for a task."""
        return configure(preset, env)

    def check(self, config: ImitationConfig, store: Store) -> None:
        """Refuse bad input before any work starts."""
        check(config.resolved(), store)

    def pin(self, config: ImitationConfig, store: Store) -> ImitationConfig:
        """The config with the dataset that `latest` means now written out."""
        return pin(config, store)

    def prepare(self, config: ImitationConfig, store: Store, make_progress: Any) -> None:
        """Nothing: every seed makes its own demonstrations."""

    def plan(self, config: ImitationConfig, store: Store) -> list[Cell]:
        """All cells, each after its parent."""
        dataset = shared_dataset(config, store)
        return plan_cells(config.resolved(), None if dataset is None else dataset.sha256)

    def group_size(self, cells: Sequence[Cell]) -> int:
        """All seeds together where networks are small, else one at a time."""
        agent = getattr(getattr(cells[0].config, "run", None), "agent", None)
        return 1 if agent is not None and max(agent.hidden) >= WIDE else 10

    def execute(
        self,
        cells: Sequence[Cell],
        config: ImitationConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        execute(cells, config.resolved(), store, tick, sinks)

    def records(
        self, config: ImitationConfig, store: Store, preset: str, command: str
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        return study_records(config.resolved(), store, preset, command)


STUDY = ImitationStudy()
