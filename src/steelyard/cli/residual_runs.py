"""``steelyard evaluate`` and ``render`` of base policies and residuals."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from steelyard.envs.seeding import evaluation_seeds
from steelyard.numerics.tail_statistics import wilson
from steelyard.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a base or a residual on fixed start states; writes nothing but what it prints."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    episodes: int = 200
    """Start states, one episode each."""
    checkpoint: Literal["last", "best_success_rate"] = "last"
    """Which of a residual's policies."""


@dataclasses.dataclass(frozen=True)
class Render:
    """Film a residual beside its base, from the same start states."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder of a residual."""
    episodes: int = 1
    """How many start states, from the first evaluation start on."""
    out: Path | None = None
    """Folder for the films; none takes the run's `videos`."""
    format: Literal["gif", "webp", "png"] = "gif"
    """`gif`, `webp` or `png` (animated)."""
    checkpoint: Literal["last", "best_success_rate"] = "last"
    """Which of its policies."""


def is_residual_run(rest: Sequence[str]) -> bool:
    """Whether an argument names the run folder of a base or a residual."""
    return any(kind_of(Path(word)) in ("Cloned", "Residual") for word in rest)


def kind_of(path: Path) -> str | None:
    """What a run folder's config is of, or none where it is no run folder."""
    identity = RunFolder(path).read("config.json") if (path / "config.json").exists() else None
    config = identity.get("config") if isinstance(identity, dict) else None
    return config.get("kind") if isinstance(config, dict) else None


def evaluate(rest: Sequence[str]) -> None:
    """Run ``evaluate`` on a base or a residual."""
    from steelyard.studies.assembly.policies import load_base, load_residual
    from steelyard.training.residual import (
        ResidualRun,
        SuccessEvaluator,
        base_of,
        create_agent,
    )

    options = tyro.cli(Evaluate, args=list(rest), prog="steelyard evaluate")
    if kind_of(options.run) == "Cloned":
        identity = RunFolder(options.run).read("config.json") or {}
        run, base = ResidualRun(identity["config"]["env"]), load_base(options.run)
        agent, name = create_agent(run, base)(jax.random.key(0), 0), "base"
    else:
        policy = load_residual(options.run, options.checkpoint)
        run, base, agent, name = policy.run, policy.base, policy.agent, policy.arm
    below = base_of(run.env, base)
    evaluator = SuccessEvaluator(run.env, below, 1, options.episodes)
    outcome = evaluator.outcome(jax.tree.map(lambda x: np.asarray(x)[None], agent))
    won, length = outcome.success[0], outcome.length[0]
    rate = wilson(int(won.sum()), len(won))
    print(f"{name} on {run.env}: {len(won)} fixed start states")
    print(
        f"success {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] (95 %, Wilson), "
        f"{length[won].mean() if won.any() else float('nan'):.1f} steps to it"
    )


def render(rest: Sequence[str]) -> None:
    """Run ``render`` on a residual.

    Raises:
        ValueError: It is a base, which is filmed with a residual on it.
    """
    from steelyard.studies.assembly.films import film_pairs
    from steelyard.studies.assembly.policies import load_residual

    options = tyro.cli(Render, args=list(rest), prog="steelyard render")
    if kind_of(options.run) == "Cloned":
        raise ValueError(f"{options.run} is a base; render a residual on it, which shows both")
    policy = load_residual(options.run, options.checkpoint)
    folder = options.out or options.run / "videos"
    starts = evaluation_seeds(options.episodes)
    for path, left, right in film_pairs(policy, starts, folder, options.format):
        told = ["succeeds" if episode.terminated else "fails" for episode in (left, right)]
        print(f"{path}  left: base, {told[0]}; right: {policy.arm}, {told[1]}")
