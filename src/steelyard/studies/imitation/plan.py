"""The cells of the imitation study: a seed is one whole pipeline."""

import dataclasses
from itertools import product

from steelyard.envs.registry import env_spec
from steelyard.studies.cells import Cell
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.training.recipes import held_out_episodes


@dataclasses.dataclass(frozen=True)
class Anchor:
    """Config of the random policy's cell."""

    env: str
    episodes: int


@dataclasses.dataclass(frozen=True)
class Expert:
    """Config of an expert's cell: its training and how many episodes it records."""

    run: object
    num_episodes: int
    eval_episodes: int


@dataclasses.dataclass(frozen=True)
class Learner:
    """Config of any other learner's cell; ``dataset`` is its sha-256 where it is shared."""

    run: object
    eval_episodes: int
    dataset: str | None = None


def anchor_cell(env: str, episodes: int, seed: int) -> Cell:
    """The random policy's cell."""
    return Cell("imitation", "random", seed, Anchor(env, episodes))


def plan_cells(config: ImitationConfig, dataset: str | None) -> list[Cell]:
    """All cells of a resolved config, each after its parent.

    Args:
        config: Resolved config.
        dataset: sha-256 of the shared dataset; none where experts are trained.
    """
    loop = config.ipmd.loop
    budget = dataclasses.replace(
        config.sac, loop=dataclasses.replace(config.sac.loop, frames=loop.frames)
    )
    frozen = dataclasses.replace(
        config.ipmd, agent=dataclasses.replace(config.ipmd.agent, reward_lr=0.0)
    )
    imitators = {"bc", "ipmd", "ipmd_frozen_reward"} & set(config.arms)
    axes = [
        {"demonstrations": count, "quality": quality}
        for quality, count in product(config.quality, config.demonstrations)
        if quality == "expert" or count > 1  # half of one episode is none
    ]

    def cells_of(arm: str, settings: object, size: int, axes: dict, parents: dict) -> list[Cell]:
        return [
            Cell("imitation", arm, seed, settings, axes, parents.get(seed), size)
            for seed in config.seeds
        ]

    cells: list[Cell] = []
    experts: dict[int, Cell] = {}
    if config.arms:  # every score needs it, and it costs a second
        cells += [anchor_cell(config.env, config.eval_episodes, seed) for seed in config.seeds]
    if dataset is None and ("expert" in config.arms or imitators):
        expert = Expert(config.sac, config.num_episodes, config.eval_episodes)
        made = cells_of("expert", expert, config.sac.loop.frames, {}, {})
        experts = {cell.seed: cell for cell in made}
        cells += made
    learner = Learner(config.bc, config.eval_episodes, dataset)
    for point in axes if "bc" in config.arms else ():
        cells += cells_of("bc", learner, _clone_steps(config, point), point, experts)
    for arm, settings, points in (
        ("ipmd", config.ipmd, axes),
        ("ipmd_frozen_reward", frozen, axes[:1]),
    ):
        learner = Learner(settings, config.eval_episodes, dataset)
        for point in points if arm in config.arms else ():
            cells += cells_of(arm, learner, loop.frames, point, experts)
    if "sac_same_budget" in config.arms:
        cells += cells_of(
            "sac_same_budget", Learner(budget, config.eval_episodes), loop.frames, {}, {}
        )
    return cells


def _clone_steps(config: ImitationConfig, point: dict[str, int | str]) -> int:
    """Gradient steps of a clone; the most it can be where episodes may end early."""
    count = int(point["demonstrations"])
    episodes = count - held_out_episodes(config.bc, count)
    return config.bc.steps(episodes * env_spec(config.env).max_episode_steps)
