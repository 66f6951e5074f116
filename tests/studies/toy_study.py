"""A study without learning: walkers that add their seed at each step; some fall.

``start`` walks 30 steps from 0, ``go_on`` walks 20 from where its parent ended, ``alone`` has no
parent. It has everything the engine needs: checkpoints, divergence, resume, records.
"""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np

from steelyard.studies.cells import Cell, Store, open_folders
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.run_folder import write_json

LENGTH = {"start": 30, "go_on": 20, "alone": 10}


@dataclasses.dataclass(frozen=True)
class ToyConfig:
    seeds: tuple[int, ...] = (1, 2, 3)
    falls: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    interleaved: bool = False
    seconds_per_step: float = 0.0
    wind: str = "none"


class ToyStudy:
    name = "toy"
    summary = "walkers"
    config_type = ToyConfig
    presets: Mapping[str, str] = MappingProxyType({"only": "walkers"})
    executor = "inline"

    def configure(self, preset: str, env: str | None = None) -> ToyConfig:
        return ToyConfig()

    def check(self, config: ToyConfig, store: Store) -> None:
        if not config.seeds:
            raise ValueError("walkers need seeds")

    def pin(self, config: ToyConfig, store: Store) -> ToyConfig:
        if config.wind != "of today":
            return config
        return dataclasses.replace(config, wind=(store.path.parent / "wind").read_text())

    def prepare(self, config: ToyConfig, store: Store, make_progress: object) -> None:
        pass

    def plan(self, config: ToyConfig, store: Store) -> list[Cell]:
        pairs = []
        for seed in config.seeds:
            parent = Cell("toy", "start", seed, {"steps": 30}, size=30)
            pairs.append((parent, Cell("toy", "go_on", seed, {"steps": 20}, {}, parent, 20)))
        if config.interleaved:
            return [cell for pair in pairs for cell in pair]
        alone = [Cell("toy", "alone", seed, {"steps": 10}, size=10) for seed in config.seeds]
        return [parent for parent, _ in pairs] + [child for _, child in pairs] + alone

    def group_size(self, cells: Sequence[Cell]) -> int:
        return 10

    def execute(
        self,
        cells: Sequence[Cell],
        config: ToyConfig,
        store: Store,
        tick: Ticker,
        sinks: SinkOptions = SinkOptions(),
    ) -> None:
        group = RunGroup([c.seed for c in cells], open_folders(cells, store), cells[0].arm, sinks)
        state, step, generation = group.restore({"total": jnp.zeros(())})
        if state is None:
            begins = [_result(store, cell.parent) if cell.parent else 0.0 for cell in cells]
            state = {"total": jnp.asarray(begins)}
        seeds = np.asarray(group.seeds)
        while step < LENGTH[cells[0].arm]:
            step += 1
            time.sleep(config.seconds_per_step)
            total = np.asarray(state["total"]) + seeds
            if cells[0].arm == "start" and step > 15:
                total = np.where(np.isin(seeds, config.falls), np.nan, total)
                if step > 16 and set(group.seeds) & set(config.raises):
                    raise RuntimeError("a walker stumbled")
            state = {"total": jnp.asarray(total, jnp.float32)}
            group.freeze_non_finite(step, {"total": total})
            group.log(step, {"total": total})
            if step % 10 == 0:
                generation += 1
                group.save(state, step, generation)
            tick(step)
        for i in group.alive:
            value = {"total": float(state["total"][i])}
            write_json(group.folders[i].path / "result.json", value)
            write_json(group.folders[i].path / "device.json", str(state["total"].device))
            write_json(group.folders[i].path / "given.json", _given())
            group.finish(i)
        group.close()

    def records(self, config, store, preset, command):
        raise NotImplementedError("walkers are not reported")


def _given() -> dict[str, object]:
    """What the process may use, as whoever started it has said."""
    names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    cores = sorted(os.sched_getaffinity(0))
    return {name: os.environ.get(name) for name in names} | {"cores": cores, "process": os.getpid()}


def _result(store: Store, cell: Cell) -> float:
    return store.folder(cell).read("result.json")["total"]


STUDY = ToyStudy()
