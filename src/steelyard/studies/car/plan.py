"""The cells of the car study: one per arm, seed and source of data."""

import dataclasses

from steelyard.studies.car.arms import ARMS, ArmSpec, pairs
from steelyard.studies.car.config import CarConfig, RealData, SimulatedData
from steelyard.studies.car.sources import Fold
from steelyard.studies.cells import Cell
from steelyard.training.dynamics import DynamicsRun, program_of
from steelyard.training.run_folder import run_id

CONTEXT_STEPS = 20  # of 0.05 s
DART_HISTORY = 5  # past commands that a network sees on the real car, whose actuators lag


@dataclasses.dataclass(frozen=True)
class Training:
    """Config of a cell: what is trained on which data."""

    run: DynamicsRun
    data: SimulatedData | Fold
    members: int = 1


@dataclasses.dataclass(frozen=True)
class Constant:
    """Config of the cell of the constant twist, which is not trained."""

    data: SimulatedData | Fold


@dataclasses.dataclass(frozen=True)
class InContext:
    """Config of a cell that plays its parent's model with the recent past as a correction."""

    data: Fold
    steps: int = CONTEXT_STEPS
    """Steps of the past."""


def plan_cells(config: CarConfig) -> list[Cell]:
    """All cells of a config whose real data are pinned."""
    cells = []
    for name in config.arms:
        spec = ARMS[name]
        seeds = config.seeds if spec.sweep or config.sweep_all else (config.single_seed,)
        seeds = seeds[:1] if spec.alike else seeds
        settings = _settings(name, spec, config.learner, config.simulated)
        cells += [_cell(name, seed, settings, {"data": config.simulated.set}) for seed in seeds]
    if config.real.sha256 is not None:
        cells += _real_cells(config)
    return cells


def _settings(
    name: str, spec: ArmSpec, learner: DynamicsRun, data: SimulatedData | Fold
) -> Training | Constant:
    if name == "naive":
        return Constant(data)
    run = dataclasses.replace(learner, agent=spec.change(learner.agent))
    return Training(run, data, spec.members)


def _real_cells(config: CarConfig) -> list[Cell]:
    real: RealData = config.real
    assert real.sha256 is not None
    learner = dart_learner(config.learner, real.steps)
    cells = []
    names = (*real.arms, *(["naive"] if real.arms else []))
    paired = {arm for pair in pairs(real.arms) for arm in pair}
    for name in names:
        for seed in range(real.folds if name in paired else min(real.folds, real.peer_folds)):
            fold = Fold(seed % 4, real.sha256)
            cell = _cell(name, seed, _settings(name, ARMS[name], learner, fold), {"data": "dart"})
            cells.append(cell)
            if f"{name}_context" in real.contexts:
                within = InContext(fold)
                axes = {"data": "dart"}
                cells.append(Cell("car", f"{name}_context", seed, within, axes, cell))
    return cells


def dart_learner(learner: DynamicsRun, steps: int) -> DynamicsRun:
    """The common settings on the real car: 1 s at 0.05 s, past commands, blocks of 5 s."""
    agent = learner.agent
    rollout = dataclasses.replace(agent.loss.rollout_mse, horizon=20)
    loss = dataclasses.replace(agent.loss, rollout_mse=rollout)
    model = dataclasses.replace(agent.model, history=DART_HISTORY)
    return dataclasses.replace(
        learner,
        agent=dataclasses.replace(agent, loss=loss, model=model),
        steps=steps,
        vehicle="dart",
        stride=4,
        block=100,
        min_speed=0.1,
    )


def _cell(name: str, seed: int, settings: Training | Constant, axes: dict[str, str]) -> Cell:
    if isinstance(settings, Constant):
        return Cell("car", name, seed, settings, axes, size=1)
    bare = dataclasses.replace(settings.run, agent=program_of(settings.run.agent))
    pack = run_id({"run": bare, "data": settings.data, "members": settings.members})
    return Cell("car", name, seed, settings, axes, size=settings.run.steps, pack=pack)
