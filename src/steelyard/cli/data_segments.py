"""``steelyard data segments``: segments to judge, from checkpoints or scripted players."""

import dataclasses
import datetime
from pathlib import Path
from typing import Literal

import tyro

from steelyard.data.segments import Segments, save_segments
from steelyard.envs.timing import control_timestep
from steelyard.training.progress import progress
from steelyard.training.sac_policies import load_sac_policies, sac_task
from steelyard.training.segment_generation import (
    GenerationConfig,
    check_scripted,
    generation_players,
    generation_steps,
    record_checkpoints,
    record_scripted,
)


@dataclasses.dataclass(frozen=True)
class MakeSegments:
    """Play episodes of several policies at several noises, and cut them for people to judge."""

    checkpoints: Path | None = None
    """Run folder of `train sac`, or its `checkpoints`: all policies it has kept play."""
    env: str | None = None
    """Task of scripted players instead, e.g. `dense/SweepInto-v3`."""
    generator: Literal["graded", "mixture"] = "graded"
    """Which scripted players."""
    last: int | None = 5
    """How many of the checkpoints play, spread evenly; none takes all."""
    noise_scales: tuple[float, ...] = (0.0, 0.1)
    """Standard deviations of the noise on actions."""
    episodes_per_config: int = 1
    """Episodes of each policy and noise."""
    segment_length: float = 5.0
    """Seconds of a segment."""
    episode_length: float = 15.0
    """Seconds played of an episode at most."""
    control_timestep: float | None = None
    """Seconds of a step, where the task is not one whose length is known."""
    seed: int = 0
    """Of start states and noise."""
    out: Path = Path("preference_data")
    """Where data sets lie; this one is named after the time."""


def segments(rest: list[str]) -> None:
    """Run ``data segments``.

    Raises:
        ValueError: The options do not go together, or a rule is broken.
        FileNotFoundError: There is no run, or it has kept no policies.
    """
    options = tyro.cli(MakeSegments, args=rest, prog="steelyard data segments")
    made = record(options)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
    folder = save_segments(options.out / stamp, made)
    print(
        f"{len(made)} segments of {len(made.played.seed)} episodes by {len(made.checkpoints)} "
        f"policies: {folder}"
    )
    print(f"next: steelyard data film {folder}, then steelyard label serve {folder}")


def record(options: MakeSegments) -> Segments:
    """Play what the options say."""
    if (options.checkpoints is None) == (options.env is None):
        raise ValueError(
            "who plays? Give --checkpoints RUN, or --env TASK for scripted players, one of the two"
        )
    run = options.checkpoints
    if run is not None and run.name == "checkpoints":
        run = run.parent
    env = sac_task(run) if run is not None else str(options.env)
    timestep = control_timestep(env, options.control_timestep)
    steps = max(1, round(options.segment_length / timestep))
    config = GenerationConfig(
        "checkpoints" if run is not None else options.generator,
        options.episodes_per_config,
        max(steps, round(options.episode_length / timestep)),
        steps,
        options.noise_scales,
    )
    if run is None:
        check_scripted(env)
        steps = generation_steps(generation_players(config), config)
        with progress(f"segments of {env}", steps) as tick:
            return record_scripted(env, config, options.seed, tick)
    policies = spread(load_sac_policies(run), options.last)
    steps = generation_steps(generation_players(config, len(policies)), config)
    with progress(f"segments of {env}", steps) as tick:
        return record_checkpoints(env, policies, config, options.seed, timestep, tick)


def spread(policies: list, most: int | None) -> list:
    """Some of the policies, evenly spread, the last among them."""
    if most is None or most >= len(policies):
        return policies
    if most < 1:
        raise ValueError(f"--last is at least 1: got {most}")
    step = len(policies) / most
    return [policies[round((k + 1) * step) - 1] for k in range(most)]
