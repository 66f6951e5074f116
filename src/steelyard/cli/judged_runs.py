"""``steelyard evaluate`` and ``render`` of the study ``piano`` and of ``train cpl``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from steelyard.envs.registry import env_spec
from steelyard.envs.robopianist_songs import PREFIX as PIANO
from steelyard.envs.timing import control_timestep
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.films import Recording, film_recorded
from steelyard.evaluation.music import make_evaluator
from steelyard.evaluation.rollouts import record_episodes
from steelyard.evaluation.success import play
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.piano.policies import NETWORK, load_policy
from steelyard.training.checkpoint import stack_runs
from steelyard.training.sac_policies import Network, SACPolicy


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a policy on fixed start states; writes nothing but what it prints."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episodes: int = 50
    """Start states, one episode each; a song always starts alike, and one is enough."""
    steps: int | None = None
    """Steps of an episode; none takes the task's limit."""


@dataclasses.dataclass(frozen=True)
class Render:
    """Film a policy, with sound where the task has any."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episodes: int = 1
    """How many episodes to film, from the first evaluation start on."""
    out: Path | None = None
    """Folder for the films; none takes the run's `videos`."""


def is_judged_run(rest: Sequence[str]) -> bool:
    """Whether an argument names the folder of a run that keeps such a policy."""
    return any((Path(word) / "checkpoints" / NETWORK).exists() for word in rest)


def evaluate(rest: Sequence[str]) -> None:
    """Run ``evaluate``."""
    options = tyro.cli(Evaluate, args=list(rest), prog="steelyard evaluate")
    network, policy = load_policy(options.run)
    stacked = stack_runs([policy])
    song = network.env.startswith(PIANO)
    evaluator = make_evaluator(network.env, 1, 1 if song else options.episodes)
    if song:
        for name, values in evaluator(stacked).items():
            print(f"{name} {float(values[0]):.3f}")
        return
    modes, starts = evaluator.policies(stacked), evaluator.starts
    outcome = play(modes, network.env, starts, 1, options.steps)
    won = outcome.success[0]
    rate = wilson(int(won.sum()), len(won))
    print(f"{network.env}: {len(won)} fixed start states")
    print(f"success {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] (95 %, Wilson)")
    print(f"return {outcome.returns.mean():.1f}, {outcome.length.mean():.1f} steps")


def render(rest: Sequence[str]) -> None:
    """Run ``render``."""
    options = tyro.cli(Render, args=list(rest), prog="steelyard render")
    network, policy = load_policy(options.run)
    folder = options.out or options.run / "videos"
    films = {
        folder / f"start{recording.seed}.webm": recording
        for recording in recorded(network, policy, options.episodes)
    }
    film_recorded(network.env, {}, control_timestep(network.env), films)
    for path in films:
        print(path)


def recorded(network: Network, policy: SACPolicy, episodes: int) -> list[Recording]:
    """Episodes of a policy's modes from the first evaluation starts, to be played again."""
    spec, evaluator = env_spec(network.env), Evaluator(network.env, 1, episodes)
    starts, modes = evaluator.starts, evaluator.policies(stack_runs([policy]))
    played = record_episodes(modes, network.env, starts, 1)[0]
    return [
        Recording(start, np.clip(spec.to_learner_units(episode.actions), -1.0, 1.0))
        for start, episode in zip(starts, played, strict=True)
    ]
