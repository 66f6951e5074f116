"""The cells of the study: data of a seed, offline phases on it, online phases on those."""

import dataclasses

from steelyard.agents.acfql import ACFQLConfig
from steelyard.emphasis.trajectory_clusters import ClusterConfig
from steelyard.emphasis.trajectory_draws import TrajectoryEmphasis
from steelyard.studies.cells import Cell
from steelyard.studies.offline2online.arms import ARMS, ClusterOnline, OffOnArm
from steelyard.studies.offline2online.config import Offline2OnlineConfig, Part
from steelyard.training.online_rl import OnlineRLConfig
from steelyard.training.online_rl_programs import RunEmphasis
from steelyard.training.operator_demonstrations import regime_steps
from steelyard.training.run_folder import run_id

STUDY = "offline2online"
DATA, OFFLINE = "data", "offline"


@dataclasses.dataclass(frozen=True)
class Data:
    """Config of a seed's data and its clusters."""

    env: str
    regime: str | None
    dataset: str | None
    sha256: tuple[str, ...]
    sparse: bool
    cluster: ClusterConfig
    proportion: float


@dataclasses.dataclass(frozen=True)
class Offline:
    """Config of an offline phase."""

    env: str
    agent: ACFQLConfig
    steps: int
    emphasis: TrajectoryEmphasis
    normalise: bool
    eval_episodes: int
    log_interval: int
    save_interval: int
    replace_interval: int


@dataclasses.dataclass(frozen=True)
class Online:
    """Config of an online phase."""

    env: str
    agent: ACFQLConfig
    online: OnlineRLConfig
    emphasis: RunEmphasis
    cluster_online: ClusterOnline
    normalise: bool
    eval_episodes: int
    keep_online: bool


def plan_cells(config: Offline2OnlineConfig) -> list[Cell]:
    """All cells of a config, each after its parent; arms share what is the same."""
    cells: dict[str, Cell] = {}
    for task, part in config.parts().items():
        axes = {"task": task}
        for seed in part.seeds:
            data = data_cell(part, axes, seed)
            cells.setdefault(data.id, data)
        for name in part.arms:
            for seed in part.seeds:
                offline = offline_cell(part, axes, seed, ARMS[name])
                cells.setdefault(offline.id, offline)
        for name in part.arms:
            for seed in part.seeds:
                online = online_cell(part, axes, seed, name, ARMS[name])
                cells[online.id] = online
    return list(cells.values())


def data_cell(part: Part, axes: dict[str, str], seed: int) -> Cell:
    """The cell of a seed's data."""
    settings = Data(
        part.env, part.regime, part.dataset, part.sha256, part.sparse, part.cluster, part.proportion
    )
    size = 1 if part.regime is None else regime_steps(part.env, part.regime)
    return Cell(STUDY, DATA, seed, settings, axes, size=size, pack=f"data {run_id(settings)}")


def offline_cell(part: Part, axes: dict[str, str], seed: int, arm: OffOnArm) -> Cell:
    """The cell of an arm's offline phase; equal ones of several arms are one."""
    agent, emphasis = agent_of(part, arm), arm.offline
    online = part.online
    settings = Offline(
        part.env,
        agent,
        part.offline_steps,
        emphasis,
        part.normalise,
        part.eval_episodes,
        online.log_interval,
        online.save_interval,
        part.replace_interval,
    )
    pack = run_id(dataclasses.replace(settings, emphasis=TrajectoryEmphasis()))
    name = f"{OFFLINE} {emphasis.weighting}"
    data = data_cell(part, axes, seed)
    size = max(part.offline_steps, 1)
    return Cell(STUDY, name, seed, settings, axes, data, size, f"offline {pack} {axes}")


def online_cell(part: Part, axes: dict[str, str], seed: int, name: str, chosen: OffOnArm) -> Cell:
    """The cell of an arm's online phase."""
    online = dataclasses.replace(part.online, draws=chosen.draws)
    settings = Online(
        part.env,
        agent_of(part, chosen),
        online,
        chosen.online,
        chosen.cluster_online,
        part.normalise,
        part.eval_episodes,
        part.keep_online,
    )
    shared = dataclasses.replace(settings, emphasis=RunEmphasis(), cluster_online="own")
    parent = offline_cell(part, axes, seed, chosen)
    size = max(online.online_steps, 1)
    pack = f"online {run_id(shared)} {axes}"
    return Cell(STUDY, name, seed, settings, axes, parent, size, pack)


def agent_of(part: Part, arm: OffOnArm) -> ACFQLConfig:
    """A part's learner with what an arm changes in it."""
    return dataclasses.replace(part.agent, **arm.agent)
