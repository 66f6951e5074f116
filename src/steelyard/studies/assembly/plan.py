"""The cells of the assembly study: a seed is one base policy and all residuals on it."""

import dataclasses

from steelyard.studies.assembly.arms import ARMS
from steelyard.studies.assembly.config import AssemblyConfig, Part
from steelyard.studies.cells import Cell
from steelyard.training.base_policy import BaseRun
from steelyard.training.residual import PLANE, ResidualRun


@dataclasses.dataclass(frozen=True)
class Cloned:
    """Config of a base's cell; the plane's base is not cloned, and has no ``run``."""

    env: str
    run: BaseRun | None
    tier: str | None
    demonstrations: int
    eval_episodes: int


@dataclasses.dataclass(frozen=True)
class Residual:
    """Config of a residual's cell."""

    run: ResidualRun
    eval_episodes: int


def plan_cells(config: AssemblyConfig) -> list[Cell]:
    """All cells of a config, each after its base."""
    cells: list[Cell] = []
    for task, part in config.parts().items():
        axes = {"task": task}
        bases = {seed: base_cell(part, axes, seed) for seed in part.seeds}
        cells += bases.values()
        for name in part.arms:
            run = run_of(part, name)
            settings = Residual(run, part.eval_episodes)
            cells += [
                Cell("assembly", name, seed, settings, axes, bases[seed], run.loop.frames)
                for seed in part.seeds
            ]
    return cells


def base_cell(part: Part, axes: dict[str, str], seed: int) -> Cell:
    """The cell of a part's base."""
    env = part.run.env
    if env == PLANE:
        return Cell("assembly", "base", seed, Cloned(env, None, None, 0, part.eval_episodes), axes)
    settings = Cloned(env, part.base, part.tier, part.demonstrations, part.eval_episodes)
    return Cell("assembly", "base", seed, settings, axes, size=part.base.min_steps)


def run_of(part: Part, arm: str) -> ResidualRun:
    """A part's run with what an arm chooses."""
    chosen, run = ARMS[arm], part.run
    if chosen.on_success is not None:
        loop = dataclasses.replace(run.loop, on_success=chosen.on_success)
        run = dataclasses.replace(run, loop=loop)
    return dataclasses.replace(run, cupid=chosen.cupid)
