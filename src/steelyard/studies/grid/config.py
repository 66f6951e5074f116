"""What the study is made of: a task, its operators, two learners, sizes and presets."""

import dataclasses
from typing import Literal

from steelyard.agents.acfql import ACFQLConfig
from steelyard.agents.bc import BCConfig
from steelyard.envs.registry import env_spec
from steelyard.studies.grid.arms import ALL, FEW, OFFLINE
from steelyard.studies.offline2online.config import QUICK_AGENT
from steelyard.studies.parts import each_part, running

PRESETS = {
    "smoke": "a point that passes gates, five arms, two seeds: a minute",
    "quick": "pressing a handle: 15 arms of cloning over 10 seeds, 11 of ACFQL over 6; minutes",
}
TUNING_SEEDS = (100, 101, 102)
"""Seeds on which settings were chosen; never reported."""
TEN, SIX = tuple(range(10)), tuple(range(6))
PRESS, FORK = "sparse/HandlePress-v3", "sparse/Fork-v0"
COMPETENT = ("better", "okay", "through-a")
"""Operators whose way leads to the goal."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One learner on the episodes of a seed."""

    env: str
    """Task, of the family `sparse/`."""
    regime: str
    """Who plays how many episodes."""
    learner: Literal["bc", "acfql"]
    """Who learns."""
    arms: tuple[str, ...] = ()
    """Arms to run; none leaves the part out."""
    seeds: tuple[int, ...] = TEN
    """One whole pipeline each: episodes, scores, learning."""
    reference_episodes: int = 4
    """Good episodes, for influence; no arm but `reference` is trained on them."""
    clone: BCConfig = BCConfig(hidden=(64, 64), batch_size=128)
    """Cloning, which also makes scores for the other learner."""
    clone_steps: int = 2_000
    """Its gradient steps."""
    agent: ACFQLConfig = QUICK_AGENT
    """Flow Q-learning, as in the study `offline2online`."""
    agent_steps: int = 1_000
    """Its gradient steps."""
    eval_episodes: int = 50
    """Fixed start states, one episode each."""


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """Scores and weightings against uniform data, on demonstrations of uneven operators."""

    clone: Part
    """Behaviour cloning."""
    offline: Part
    """Flow Q-learning on the same episodes."""
    arms: tuple[str, ...] | None = None
    """Arms of every part that runs; none takes each part's own."""
    seeds: tuple[int, ...] | None = None
    """Seeds of every part that runs; none takes each part's own."""

    def parts(self) -> dict[str, Part]:
        """The parts that run, by task and learner."""
        parts = (self.clone, self.offline)
        return running({task_name(part): part for part in parts}, self.arms, self.seeds)


LEARNERS = {"bc": "BC", "acfql": "ACFQL"}


def task_name(part: Part, learner: str | None = None) -> str:
    """Name of a part in results; of another learner's on the same task, where one is named."""
    short = part.env.rpartition("/")[2].rpartition("-")[0]
    return f"{short}, {LEARNERS[learner or part.learner]}"


def configure(preset: str, env: str | None = None) -> GridConfig:
    """The config of a preset, on its own task or another that has operators.

    Raises:
        ValueError: There is no such preset or task.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; there are {sorted(PRESETS)}.")
    config = {"smoke": _smoke, "quick": _quick}[preset]()
    if env is None:
        return config
    env_spec(env)  # refuses an unknown task, with the nearest ones
    regime = "fork" if env == FORK else "conflict"
    return each_part(config, Part, lambda p: dataclasses.replace(p, env=env, regime=regime))


def _quick() -> GridConfig:
    return GridConfig(
        Part(PRESS, "conflict", "bc", ALL), Part(PRESS, "conflict", "acfql", OFFLINE, SIX)
    )


def _smoke() -> GridConfig:
    part = Part(
        FORK,
        "fork-small",
        "bc",
        FEW,
        (0, 1),
        reference_episodes=2,
        clone=BCConfig(hidden=(32, 32), batch_size=64),
        clone_steps=500,
        agent=ACFQLConfig(hidden=(32, 32), batch_size=32, num_qs=2, flow_steps=2),
        agent_steps=100,
        eval_episodes=8,
    )
    offline = dataclasses.replace(part, learner="acfql", arms=("uniform", "return_rank"))
    return GridConfig(part, offline)
