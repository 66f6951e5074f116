"""The cells of the study: a seed's episodes, a clone of all of them, and what arms make of both."""

import dataclasses

from steelyard.agents.acfql import ACFQLConfig
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.studies.cells import Cell
from steelyard.studies.grid.arms import ARMS, Episodes, GridArm, Maker
from steelyard.studies.grid.config import GridConfig, Part, task_name
from steelyard.training.recipes import BCRun
from steelyard.training.run_folder import run_id

STUDY, DATA, UNIFORM = "grid", "data", "uniform"


@dataclasses.dataclass(frozen=True)
class Data:
    """Config of a seed's episodes."""

    env: str
    regime: str
    reference_episodes: int


@dataclasses.dataclass(frozen=True)
class Cloned:
    """Config of an arm of behaviour cloning."""

    env: str
    run: BCRun
    emphasis: EmphasisConfig
    by: Maker | None
    episodes: Episodes
    eval_episodes: int


@dataclasses.dataclass(frozen=True)
class Offline:
    """Config of an arm of flow Q-learning."""

    env: str
    agent: ACFQLConfig
    steps: int
    emphasis: EmphasisConfig
    by: Maker | None
    episodes: Episodes
    eval_episodes: int


def plan_cells(config: GridConfig) -> list[Cell]:
    """All cells of a config, each after its parent; arms share what is the same."""
    cells: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.parent is not None:
            add(cell.parent)
        cells.setdefault(cell.id, cell)

    for part in config.parts().values():
        for name in part.arms:
            for seed in part.seeds:
                add(arm_cell(part, seed, name))
    return list(cells.values())


def data_cell(part: Part, seed: int) -> Cell:
    """The cell of a seed's episodes, which every learner and arm shares."""
    settings = Data(part.env, part.regime, part.reference_episodes)
    return Cell(STUDY, DATA, seed, settings, {"env": part.env})


def arm_cell(part: Part, seed: int, name: str) -> Cell:
    """The cell of an arm."""
    return clone_cell(part, seed, name) if part.learner == "bc" else offline_cell(part, seed, name)


def clone_cell(part: Part, seed: int, name: str) -> Cell:
    """The cell of an arm of cloning."""
    arm = ARMS[name]
    run = BCRun(
        part.env,
        dataclasses.replace(part.clone, **({"reduction": "weighted_mean"} | _tail(arm))),
        epochs=1,
        min_steps=part.clone_steps,
        validation_share=0.0,  # what is held out would be uniform, and choose against the others
    )
    settings = Cloned(part.env, run, arm.emphasis, arm.by, arm.episodes, part.eval_episodes)
    return _cell(part, seed, name, settings, task_name(part, "bc"), part.clone_steps)


def offline_cell(part: Part, seed: int, name: str) -> Cell:
    """The cell of an arm of flow Q-learning."""
    arm = ARMS[name]
    settings = Offline(
        part.env,
        dataclasses.replace(part.agent, **_tail(arm)),
        part.agent_steps,
        arm.emphasis,
        arm.by,
        arm.episodes,
        part.eval_episodes,
    )
    return _cell(part, seed, name, settings, task_name(part, "acfql"), part.agent_steps)


def _cell(
    part: Part, seed: int, name: str, settings: Cloned | Offline, task: str, size: int
) -> Cell:
    """An arm's cell; where a clone makes its scores, that of uniform data is its parent."""
    scored = settings.by is not None and settings.by != "random"
    parent = clone_cell(part, seed, UNIFORM) if scored else data_cell(part, seed)
    # Arms that differ in their emphasis alone are one program; what has a parent comes after it.
    alike = dataclasses.replace(settings, emphasis=EmphasisConfig(), by=None)
    if isinstance(alike, Cloned):
        alike = dataclasses.replace(alike, episodes="all")  # rows of fewer episodes are padded
    pack = f"{type(settings).__name__} {scored} {run_id(alike)}"
    return Cell(STUDY, name, seed, settings, {"task": task}, parent, size, pack)


def _tail(arm: GridArm) -> dict[str, object]:
    if arm.cvar_alpha == 1.0:
        return {}
    return {"reduction": "cvar", "cvar_alpha": arm.cvar_alpha}


def data_of(cell: Cell) -> Cell:
    """The cell of the episodes that a cell learns from."""
    while not isinstance(cell.config, Data):
        assert cell.parent is not None, "every arm has episodes"
        cell = cell.parent
    return cell
