"""Demonstrations of scripted experts: expert, seed and number of episodes → a dataset."""

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted import ScriptedExpert, scripted_policies
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import Policies, record_episodes
from steelyard.training.group import Ticker
from steelyard.training.run_folder import versions

AT_ONCE = 32
"""Episodes played together; a simulated arm takes some 30 MB."""


def play(
    expert: ScriptedExpert,
    seed: int,
    count: int,
    tick: Ticker = lambda step, note="": None,
) -> list[Episode]:
    """Play episodes of an expert, successful or not; the first of more are those of fewer.

    Args:
        expert: Task and tier.
        seed: Of the start states and the noise.
        count: How many to play.
        tick: Progress display, in steps of :func:`play_steps`.
    """

    def policies(first: int, number: int) -> Policies:
        return scripted_policies(expert.task, expert.tier, seed, number, first)

    return play_in_parts(policies, expert.env_id, start_seeds(seed, count), tick)


def play_in_parts(
    policies: Callable[[int, int], Policies],
    env: str,
    starts: Sequence[int],
    tick: Ticker = lambda step, note="": None,
    at_once: int = AT_ONCE,
) -> list[Episode]:
    """Play an episode from every start, not more at once than fit in memory.

    Args:
        policies: Place of the first episode of a part, and its number of them, to their policies.
        env: Task.
        starts: Start seeds.
        tick: Progress display, in steps of :func:`play_steps`.
        at_once: Episodes of a part.
    """
    limit, episodes = env_spec(env).max_episode_steps, []
    for number, first in enumerate(range(0, len(starts), at_once)):
        own = starts[first : first + at_once]
        playing = policies(first, len(own))
        shown = _counted(playing, lambda step, before=limit * number: tick(before + step))
        episodes += record_episodes(shown, env, own, 1)[0]
        tick(limit * (number + 1), f"{len(episodes)} episodes")
    return episodes


def play_steps(env: str, count: int, at_once: int = AT_ONCE) -> int:
    """Most steps that :func:`play_in_parts` ticks."""
    return env_spec(env).max_episode_steps * -(-count // at_once)


def as_demonstrations(
    expert: ScriptedExpert, seed: int, kept: Sequence[Episode], played: Sequence[Episode]
) -> Demonstrations:
    """Make a dataset of some episodes, which says who acted and what was kept."""
    return Demonstrations.from_episodes(
        list(kept), env_spec(expert.env_id), provenance(expert, seed, len(kept), played)
    )


def provenance(
    expert: ScriptedExpert, seed: int, kept: int, played: Sequence[Episode]
) -> Provenance:
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


def _counted(policies: Policies, tick: Callable[[int], None]) -> Policies:
    """Wrap policies so that each of their steps is counted."""
    steps = 0

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal steps
        steps += 1
        tick(steps)
        return policies(observation)

    return act
