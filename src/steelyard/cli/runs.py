"""``steelyard evaluate RUN`` and ``steelyard render RUN``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from steelyard.cli import dynamics_runs, judged_runs, off_on_runs, residual_runs
from steelyard.envs.performance import Performance
from steelyard.envs.robopianist_songs import PREFIX as PIANO
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.music import MusicEvaluator, make_evaluator, music_metrics
from steelyard.evaluation.rollouts import record_episodes
from steelyard.evaluation.video import film_episode
from steelyard.studies.imitation.policies import Policy, load_policy


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a finished run on the fixed start states; writes nothing but what it prints.

    A dynamics model is scored on its test trajectories instead, with `--num-eval-trajs N`,
    `--random`, `--seed S`, `--data DATA`, `--held-out-steps N`, `--figures N`; metrics and figures
    go into the run's `eval`.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, e.g. runs/imitation/0123456789ab."""
    episodes: int | None = None
    """Start states, one episode each; none takes 100, or 1 of a song, which always starts alike."""


@dataclasses.dataclass(frozen=True)
class Render:
    """Film a finished run's deterministic policy."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, e.g. runs/imitation/0123456789ab."""
    episodes: int = 1
    """How many episodes to film, from the first evaluation starts on."""
    out: Path | None = None
    """Folder for the films; none takes the run's `videos`."""
    format: str = "gif"
    """`gif`, `webp` or `png` (animated)."""


def main(arguments: list[str]) -> None:
    """Dispatch the two commands."""
    if arguments[0] == "evaluate" and dynamics_runs.is_dynamics_run(arguments[1:]):
        dynamics_runs.evaluate(arguments[1:])
    elif off_on_runs.is_off_on_run(arguments[1:]):
        {"evaluate": off_on_runs.evaluate, "render": off_on_runs.render}[arguments[0]](
            arguments[1:]
        )
    elif judged_runs.is_judged_run(arguments[1:]):
        {"evaluate": judged_runs.evaluate, "render": judged_runs.render}[arguments[0]](
            arguments[1:]
        )
    elif residual_runs.is_residual_run(arguments[1:]):
        {"evaluate": residual_runs.evaluate, "render": residual_runs.render}[arguments[0]](
            arguments[1:]
        )
    elif arguments[0] == "evaluate":
        _evaluate(tyro.cli(Evaluate, args=arguments[1:], prog="steelyard evaluate"))
    else:
        _render(tyro.cli(Render, args=arguments[1:], prog="steelyard render"))


def _evaluate(options: Evaluate) -> None:
    policy = load_policy(options.run)
    song = policy.env.startswith(PIANO)
    episodes = (1 if song else 100) if options.episodes is None else options.episodes
    evaluator = make_evaluator(policy.env, 1, episodes)
    played: list[Performance] = []
    if isinstance(evaluator, MusicEvaluator):
        (returns,), (played,) = evaluator.performances(_stacked(policy))
    else:
        returns = evaluator.returns(_stacked(policy))[0]
    error = returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else float("nan")
    print(f"{policy.arm}, seed {policy.seed}, {policy.env}: {len(returns)} fixed start states")
    print(f"return {returns.mean():.2f} ± {error:.2f} (standard error)")
    print(f"worst {returns.min():.2f}, median {np.median(returns):.2f}, best {returns.max():.2f}")
    scores = [music_metrics(performance) for performance in played]
    for name in scores[0] if scores else ():
        print(f"{name} {np.mean([own[name] for own in scores]):.3f}")


def _render(options: Render) -> None:
    policy = load_policy(options.run)
    evaluator = Evaluator(policy.env, 1, options.episodes)
    policies = evaluator.policies(_stacked(policy))
    folder = options.out or policy.folder.path / "videos"
    for episode in record_episodes(policies, policy.env, evaluator.starts, 1)[0]:
        path = folder / f"{policy.arm}_start{episode.start_seed}.{options.format}"
        film_episode(policy.env, episode, path)
        total = 0.0 if episode.rewards is None else float(episode.rewards.sum())
        print(f"{path}  return {total:.1f}, {len(episode.actions)} steps")


def _stacked(policy: Policy) -> object:
    return jax.tree.map(lambda x: x[None], policy.agent)
