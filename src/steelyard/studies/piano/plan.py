"""The cells of the study: pretraining and segments of a seed, then what learns from judgements."""

import dataclasses

from steelyard.agents.cpl import CPLConfig
from steelyard.agents.piql import PIQLConfig, RewardConfig
from steelyard.data.judges import JudgeConfig
from steelyard.data.preferences import PairConfig
from steelyard.studies.cells import Cell
from steelyard.studies.piano.arms import ARMS, PianoArm
from steelyard.studies.piano.config import Part, PianoConfig
from steelyard.training.preferences import CPLRun
from steelyard.training.run_folder import run_id
from steelyard.training.segment_generation import GenerationConfig, generation_players

STUDY = "piano"
SAC, SEGMENTS, PRETRAINED, REWARD = "sac", "segments", "pretrained", "reward"


@dataclasses.dataclass(frozen=True)
class Played:
    """Config of a seed's segments."""

    env: str
    generation: GenerationConfig


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a learner is told of the segments."""

    ratings: int
    judge: JudgeConfig
    pair: PairConfig
    held_out: int


@dataclasses.dataclass(frozen=True)
class Base:
    """Config of the policy that every arm starts from: the last of SAC's, or a clone of it all."""

    env: str
    clone: CPLRun | None
    eval_episodes: int
    eval_steps: int


@dataclasses.dataclass(frozen=True)
class Reward:
    """Config of a reward learned from comparisons."""

    env: str
    judged: Judged
    reward: RewardConfig
    steps: int


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Config of an arm."""

    env: str
    judged: Judged
    learner: str
    cloned: str
    weighting: str | None
    cpl: CPLRun
    piql: PIQLConfig
    piql_steps: int
    eval_episodes: int
    eval_steps: int


def plan_cells(config: PianoConfig) -> list[Cell]:
    """All cells of a config, each after its parent; arms share what is the same."""
    cells: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.parent is not None:
            add(cell.parent)
        cells.setdefault(cell.id, cell)

    for task, part in config.parts().items():
        for seed in part.seeds:
            add(base_cell(part, task, seed))
        for name in part.arms:
            for seed in part.seeds:
                add(arm_cell(part, task, seed, name))
    return list(cells.values())


def sac_cell(part: Part, task: str, seed: int) -> Cell:
    """The cell of a seed's SAC pretraining."""
    assert part.sac is not None, "this part is pretrained by SAC"
    return Cell(STUDY, SAC, seed, part.sac, {"task": task}, size=part.sac.loop.frames)


def played_cell(part: Part, task: str, seed: int) -> Cell:
    """The cell of a seed's segments."""
    settings = Played(part.env, part.generation)
    parent = None if part.sac is None else sac_cell(part, task, seed)
    size = generation_players(part.generation) * part.generation.episode_steps
    return Cell(STUDY, SEGMENTS, seed, settings, {"task": task}, parent, size)


def base_cell(part: Part, task: str, seed: int) -> Cell:
    """The cell of the pretrained policy, which is an arm as well."""
    clone = None
    if part.sac is None:
        clone = CPLRun(cloning(part, part.base_learning_rate), steps=part.base_steps)
    settings = Base(part.env, clone, part.eval_episodes, part.eval_steps)
    parent = played_cell(part, task, seed)
    return Cell(STUDY, PRETRAINED, seed, settings, {"task": task}, parent, part.base_steps)


def reward_cell(part: Part, task: str, seed: int) -> Cell:
    """The cell of a reward learned from comparisons."""
    settings = Reward(part.env, judged_of(part), part.reward, part.reward_steps)
    parent = base_cell(part, task, seed)
    return Cell(STUDY, REWARD, seed, settings, {"task": task}, parent, part.reward_steps)


def arm_cell(part: Part, task: str, seed: int, name: str) -> Cell:
    """The cell of an arm."""
    arm = ARMS[name]
    if arm.learner == "none":
        return base_cell(part, task, seed)
    steps = part.cpl.steps if arm.steps is None else min(arm.steps, part.cpl.steps)
    cpl = dataclasses.replace(part.cpl, agent=agent_of(part, arm), steps=steps)
    settings = Tuned(
        part.env,
        judged_of(part),
        arm.learner,
        arm.cloned,
        arm.weighting,
        cpl,
        part.piql,
        part.piql_steps,
        part.eval_episodes,
        part.eval_steps,
    )
    if arm.learner == "piql":
        parent, size = reward_cell(part, task, seed), part.piql_steps
    else:
        parent, size = arm_cell(part, task, seed, arm.start), steps
    pack = f"{name} {task} {run_id(settings)}"
    return Cell(STUDY, name, seed, settings, {"task": task}, parent, size, pack)


def judged_of(part: Part) -> Judged:
    """What the learners of a part are told."""
    return Judged(part.ratings, part.judge, part.pair, part.held_out)


def agent_of(part: Part, arm: PianoArm) -> CPLConfig:
    """A part's learner with what an arm changes in it."""
    if arm.learner == "clone":
        return cloning(part, part.clone_learning_rate)
    return dataclasses.replace(part.cpl.agent, **arm.agent)


def cloning(part: Part, learning_rate: float) -> CPLConfig:
    """The same learner, which only clones, on batches of segments."""
    return dataclasses.replace(
        part.cpl.agent,
        hidden=part.hidden,
        preference_weight=0.0,
        conservative_weight=0.0,
        bc_coeff=1.0,
        pairs="in_batch",
        learning_rate=learning_rate,
    )


def chain(cell: Cell) -> list[Cell]:
    """A cell, its parent, the parent's, and so on."""
    return [cell] if cell.parent is None else [cell, *chain(cell.parent)]


def played_of(cell: Cell) -> Cell:
    """The cell of the segments that a cell learns from."""
    return next(c for c in chain(cell) if isinstance(c.config, Played))


def base_of(cell: Cell) -> Cell:
    """The cell of the policy that every arm starts from."""
    return next(c for c in chain(cell) if isinstance(c.config, Base))


def start_of(cell: Cell) -> Cell:
    """The cell of the policy that an arm starts from."""
    own = chain(cell)[1:]
    return next(c for c in own if isinstance(c.config, (Base, Tuned)))
