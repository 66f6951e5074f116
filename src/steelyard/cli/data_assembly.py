"""``steelyard data generate metaworld``: demonstrations of scripted experts."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from steelyard.data.episode import Episode
from steelyard.envs.scripted import TIERS, ScriptedExpert
from steelyard.envs.seeding import MOST_SEED, start_seeds
from steelyard.numerics.tail_statistics import wilson
from steelyard.training.progress import progress
from steelyard.training.scripted_demonstrations import as_demonstrations, play, play_steps

_TASKS = ", ".join(f"`{task.rpartition('-v')[0]}`" for task in TIERS)
_TIERS = ", ".join(
    f"`{tier}`" for tier in dict.fromkeys(t for tiers in TIERS.values() for t in tiers)
)


@dataclasses.dataclass(frozen=True)
class GenerateAssembly:
    """Record demonstrations of a scripted expert, successful or not."""

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help=f"One of {_TASKS}.")]
    tier: Annotated[str, tyro.conf.arg(help=f"Quality: {_TIERS}; not each task has each.")] = "good"
    episodes: int = 20
    """How many to play; the first of more are those of fewer."""
    seed: int = 0
    """Of the start states and the noise; the same for two tiers gives them the same starts."""
    out: Path | None = None
    """Folder to write; none takes `expert_data/assembly/<task>/<tier>/seed<seed>`."""
    successes_only: bool = False
    """Leave out the episodes that do not succeed; fewer than `episodes` may remain."""
    overwrite: bool = False
    """Replace what is there."""


def generate_assembly(rest: list[str]) -> None:
    """Run ``data generate metaworld``.

    Raises:
        ValueError: Task or tier is unknown, a number is out of range, or nothing is left to keep.
        FileExistsError: Something lies where the demonstrations go.
    """
    options = tyro.cli(GenerateAssembly, args=rest, prog="steelyard data generate metaworld")
    expert = ScriptedExpert(options.task, options.tier)
    if not 0 <= options.seed <= MOST_SEED:
        raise ValueError(f"--seed lies in [0, {MOST_SEED}], got {options.seed}")
    start_seeds(options.seed, options.episodes)  # refuses a number of episodes
    out = options.out or Path("expert_data") / expert.env_id / expert.tier / f"seed{options.seed}"
    if out.exists() and not options.overwrite:
        raise FileExistsError(f"{out} exists. Choose another --out, or pass --overwrite.")
    total = play_steps(expert.env_id, options.episodes)
    with progress(f"{expert.task}, {expert.tier}", total) as tick:
        episodes = play(expert, options.seed, options.episodes, tick)
    print(_summary(expert, episodes))
    kept = [e for e in episodes if e.terminated] if options.successes_only else episodes
    if not kept:
        raise ValueError(
            f"none of {len(episodes)} episodes succeeded, so --successes-only keeps none"
        )
    data = as_demonstrations(expert, options.seed, kept, episodes)
    path = data.save(out, overwrite=options.overwrite)
    print(f"written: {path}  ({len(data)} episodes, {data.num_steps:,} steps)")


def _summary(expert: ScriptedExpert, episodes: list[Episode]) -> str:
    """Success with its interval, and how long episodes are."""
    lengths = np.array([len(episode.actions) for episode in episodes])
    won = np.array([episode.terminated for episode in episodes])
    rate = wilson(int(won.sum()), len(won))
    lines = [
        f"{expert.task}, tier {expert.tier}: {won.sum()} of {len(won)} episodes succeed, "
        f"{rate.value:.2f} [{rate.low:.2f}, {rate.high:.2f}] (95 %, Wilson)",
        f"mean length {lengths.mean():.1f} steps, {lengths.min()} to {lengths.max()}",
    ]
    return "\n".join(lines)
