"""``steelyard data generate metaworld``: demonstrations of scripted experts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted import TIERS, ScriptedExpert, scripted_policies
from steelyard.evaluation.rollouts import record_episodes
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.imitation.sources import MOST_SEED, start_seeds
from steelyard.training.progress import progress
from steelyard.training.run_folder import versions

AT_ONCE = 32
"""Episodes played together; a simulated arm takes some 30 MB."""

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
    starts = start_seeds(options.seed, options.episodes)
    out = options.out or Path("expert_data") / expert.env_id / expert.tier / f"seed{options.seed}"
    if out.exists() and not options.overwrite:
        raise FileExistsError(f"{out} exists. Choose another --out, or pass --overwrite.")
    episodes = _recorded(expert, options.seed, starts)
    print(_summary(expert, episodes))
    kept = [e for e in episodes if e.terminated] if options.successes_only else episodes
    if not kept:
        raise ValueError(
            f"none of {len(episodes)} episodes succeeded, so --successes-only keeps none"
        )
    data = Demonstrations.from_episodes(
        kept, env_spec(expert.env_id), provenance(expert, options.seed, len(kept), episodes)
    )
    path = data.save(out, overwrite=options.overwrite)
    print(f"written: {path}  ({len(data)} episodes, {data.num_steps:,} steps)")


def provenance(expert: ScriptedExpert, seed: int, kept: int, played: list[Episode]) -> Provenance:
    """Say which expert acted, how it was made worse, and what was kept of its episodes."""
    tier, won = expert.settings, sum(episode.terminated for episode in played)
    flaws = f"noise {tier.noise:g}, bias {tier.bias_mm:g} mm, stalling {tier.stalling}"
    notes = (
        f"scripted expert of {expert.task}, tier {expert.tier}: {flaws}",
        f"{won} of {len(played)} episodes played succeeded, {kept} kept",
    )
    return Provenance(
        task=expert.env_id,
        algorithm=f"scripted/{expert.tier}",
        seed=seed,
        frames=0,
        deterministic=tier.noise == 0,
        versions=versions(),
        notes=notes,
    )


def _recorded(expert: ScriptedExpert, seed: int, starts: list[int]) -> list[Episode]:
    """Play one episode a start, some at once, and show how far that is."""
    limit, episodes = env_spec(expert.env_id).max_episode_steps, []
    parts = range(0, len(starts), AT_ONCE)
    with progress(f"{expert.task}, {expert.tier}", limit * len(parts)) as tick:
        for number, first in enumerate(parts):
            own = starts[first : first + AT_ONCE]
            policies = scripted_policies(expert.task, expert.tier, seed, len(own), first)
            shown = _counted(policies, lambda step, before=limit * number: tick(before + step))
            episodes += record_episodes(shown, expert.env_id, own, 1)[0]
            tick(limit * (number + 1), f"{len(episodes)} episodes")
    return episodes


def _counted(
    policies: Callable[[np.ndarray], np.ndarray], tick: Callable[[int], None]
) -> Callable[[np.ndarray], np.ndarray]:
    """Wrap policies so that each of their steps is counted."""
    steps = 0

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal steps
        steps += 1
        tick(steps)
        return policies(observation)

    return act


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
