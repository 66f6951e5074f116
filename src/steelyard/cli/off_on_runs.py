"""``steelyard evaluate`` and ``render`` of ACFQL's runs, of either phase."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from steelyard.agents.acfql import ACFQL
from steelyard.cli.residual_runs import kind_of
from steelyard.evaluation.rollouts import record_episodes
from steelyard.evaluation.video import film_episode
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.offline2online.policies import load_agent
from steelyard.training.chunk_evaluation import ChunkEvaluator
from steelyard.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a run on fixed start states; writes nothing but what it prints."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episodes: int = 50
    """Start states, one episode each."""


@dataclasses.dataclass(frozen=True)
class Render:
    """Film a run's policy."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episodes: int = 1
    """How many episodes to film, from the first evaluation start on."""
    out: Path | None = None
    """Folder for the films; none takes the run's `videos`."""
    format: str = "gif"
    """`gif`, `webp` or `png` (animated)."""


def is_off_on_run(rest: Sequence[str]) -> bool:
    """Whether an argument names the run folder of an offline or online phase."""
    return any(kind_of(Path(word)) in ("Offline", "Online") for word in rest)


def evaluate(rest: Sequence[str]) -> None:
    """Run ``evaluate``."""
    options = tyro.cli(Evaluate, args=list(rest), prog="steelyard evaluate")
    evaluator, agent, name = _opened(options.run, options.episodes)
    outcome = evaluator.outcome(agent)
    won, length = outcome.success[0], outcome.length[0]
    rate = wilson(int(won.sum()), len(won))
    print(f"{name} on {evaluator.env}: {len(won)} fixed start states")
    print(
        f"success {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] (95 %, Wilson), "
        f"{length[won].mean() if won.any() else float('nan'):.1f} steps to it"
    )


def render(rest: Sequence[str]) -> None:
    """Run ``render``."""
    options = tyro.cli(Render, args=list(rest), prog="steelyard render")
    film(options.run, options.episodes, options.out, options.format)


def film(
    run: Path, episodes: int, out: Path | None = None, ending: str = "gif", frames_per_s: int = 25
) -> None:
    """Film a policy from the first evaluation starts on.

    Args:
        run: Run folder.
        episodes: How many.
        out: Folder; none takes the run's `videos`.
        ending: Of the files.
        frames_per_s: Pictures of a second.
    """
    evaluator, agent, name = _opened(run, episodes)
    folder = out or run / "videos"
    played = record_episodes(evaluator.policies(agent), evaluator.env, evaluator.starts, 1)[0]
    for episode in played:
        path = folder / f"{name.replace(' ', '_')}_start{episode.start_seed}.{ending}"
        film_episode(evaluator.env, episode, path, frames_per_s)
        told = "succeeds" if episode.terminated else "fails"
        print(f"{path}  {told}, {len(episode.actions)} steps")


def _opened(run: Path, episodes: int) -> tuple[ChunkEvaluator, ACFQL, str]:
    identity = RunFolder(run).read("config.json") or {}
    agent = load_agent(run)
    stacked = jax.tree.map(lambda x: np.asarray(x)[None], agent)
    evaluator = ChunkEvaluator(identity["config"]["env"], 1, episodes)
    return evaluator, stacked, identity["arm"]
