"""The study ``car``: dynamics of a 1/10 car, the mean of the losses against their tail (CVaR).

Source: windows of trajectories. Score: the item's own loss. Weighting: ``tail(alpha)``. Felt
through: losses.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.envs.car.scene import require_mujoco
from steelyard.files import remove_leftovers
from steelyard.reports import Record, StudyReport
from steelyard.studies.car.config import PRESETS, CarConfig, check_arms, configure
from steelyard.studies.car.execute import execute
from steelyard.studies.car.plan import plan_cells
from steelyard.studies.car.report import study_records
from steelyard.studies.car.sources import data_folder, pinned, simulated_parts, simulated_source
from steelyard.studies.cells import Cell, Store, share_of_a_core
from steelyard.training.group import Ticker
from steelyard.training.holds import Hold
from steelyard.training.metrics import SinkOptions


class CarStudy:
    """Mean against CVaR over model families, data and seeds; an ``engine.Study``."""

    name = "car"
    summary = "dynamics models of a 1/10 car; the mean of the losses against their tail (CVaR)"
    config_type: type[Any] = CarConfig
    presets: Mapping[str, str] = PRESETS
    executor = "process"

    def configure(self, preset: str, env: str | None = None) -> CarConfig:
        """The config of a preset."""
        return configure(preset, env)

    def check(self, config: CarConfig, store: Store) -> None:
        """Refuse bad input before any work starts."""
        check_arms((*config.arms, *config.real.arms))
        if not config.seeds or len(set(config.seeds)) < len(config.seeds):
            raise ValueError(f"Seeds must be distinct and at least one, got {config.seeds}.")
        if min(config.seeds) < 0:
            raise ValueError(f"Seeds must be at least 0, got {config.seeds}.")
        if config.simulated.simulator == "car-mujoco":
            require_mujoco()

    def pin(self, config: CarConfig, store: Store) -> CarConfig:
        """The config with the content of the real recordings written in."""
        return dataclasses.replace(config, real=pinned(config.real))

    def prepare(self, config: CarConfig, store: Store, make_progress: Any) -> None:
        """Simulate the data once, before runs read them."""
        if config.real.arms and config.real.sha256 is None:
            print("the DART recordings are not here: the real car's part is left out")
        total = sum(count for _, _, count, _ in simulated_parts(config.simulated))
        folder = data_folder(store)
        with Hold([folder], print), make_progress("trajectories", total) as tick:
            remove_leftovers(folder)
            simulated_source(config.simulated, store, tick)

    def plan(self, config: CarConfig, store: Store) -> list[Cell]:
        """All cells."""
        return plan_cells(config)

    def group_size(self, cells: Sequence[Cell]) -> int:
        """Runs of one program, shared out to the cores, since each core takes one at a time."""
        return share_of_a_core(cells)

    def execute(
        self,
        cells: Sequence[Cell],
        config: CarConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        """Run a group of cells to the end and write their results."""
        execute(cells, config, store, tick, sinks)

    def records(
        self, config: CarConfig, store: Store, preset: str, command: str
    ) -> tuple[list[Record], StudyReport]:
        """What the finished cells measured, and how to report it."""
        return study_records(config, store, preset, command)


STUDY = CarStudy()
