"""Demonstrations of uneven operators: a regime and a seed → a dataset, and who acted in each.

A regime says how many episodes each operator plays on each task. Their order is drawn, so that
start states say nothing of who acts.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted.operators import check_operators, operator_policies
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import Policies
from steelyard.training.group import Ticker
from steelyard.training.run_folder import versions
from steelyard.training.scripted_demonstrations import play_in_parts, play_steps

SPARSE = "sparse/"


@dataclasses.dataclass(frozen=True)
class Regime:
    """Who plays how many episodes.

    Attributes:
        about: What it is for.
        shares: Episodes by operator; of the first task, or of all.
    """

    about: str
    shares: Mapping[str, int]

    @property
    def episodes(self) -> int:
        """Episodes in all."""
        return sum(self.shares.values())


def _regime(about: str, **shares: int) -> Regime:
    return Regime(about, MappingProxyType({k.replace("_", "-"): v for k, v in shares.items()}))


REGIMES: Mapping[str, Regime] = MappingProxyType(
    {
        "conflict": _regime(
            "a small share succeeds, and failures visit the same states: balancing should help",
            wander=56,
            hover=40,
            miss=40,
            okay=16,
            better=8,
        ),
        "rare-bad": _regime(
            "most succeed, and the small groups fail: balancing should harm",
            better=72,
            okay=64,
            hover=8,
            miss=8,
            wander=8,
        ),
        "uneven": _regime("all succeed, most by one operator", better=144, okay=16),
        "fork": _regime(
            "one in ten goes through the gate that leads on", through_b=180, through_a=20
        ),
        "fork-small": _regime("the same, little of it", through_b=18, through_a=6),
    }
)
"""By name."""


class Recorded(NamedTuple):
    """A dataset and the operator of each episode."""

    data: Demonstrations
    operators: tuple[str, ...]


def find_regime(name: str, env: str) -> Regime:
    """A regime by name, of a task.

    Raises:
        ValueError: There is none of that name, or its operators do not know the task.
    """
    if name not in REGIMES:
        near = difflib.get_close_matches(name, REGIMES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no regime {name!r}; there are {list(REGIMES)}.{hint}")
    check_operators(env.removeprefix(SPARSE), REGIMES[name].shares)
    return REGIMES[name]


def record_operators(
    env: str, regime: str, seed: int, tick: Ticker = lambda step, note="": None
) -> Recorded:
    """Play a regime's episodes.

    Args:
        env: Task, of the family ``sparse/``.
        regime: A key of ``REGIMES``.
        seed: Of order, start states and noise.
        tick: Progress display, in steps of :func:`regime_steps`.
    """
    shares = find_regime(regime, env).shares
    names = [name for name, count in shares.items() for _ in range(count)]
    operators = in_drawn_order(names, seed)
    task = env.removeprefix(SPARSE)

    def policies(first: int, number: int) -> Policies:
        return operator_policies(task, operators[first : first + number], seed, first)

    episodes = play_in_parts(policies, env, start_seeds(seed, len(operators)), tick)
    told = ", ".join(f"{name} {count}" for name, count in shares.items())
    return recorded(env, regime, seed, episodes, operators, f"operators: {told}")


def regime_steps(env: str, regime: str) -> int:
    """Most steps that :func:`record_operators` ticks."""
    return play_steps(env, find_regime(regime, env).episodes)


def in_drawn_order(names: Sequence[str], seed: int) -> list[str]:
    """Operators of the episodes, so that start states say nothing of who acts."""
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    return [names[int(i)] for i in order]


def recorded(
    env: str,
    mix: str,
    seed: int,
    episodes: list[Episode],
    operators: Sequence[str],
    note: str,
) -> Recorded:
    """Make a dataset of operators' episodes, which says who acted and what came of it.

    Args:
        env: Task.
        mix: Name of who plays how much.
        seed: Of all of it.
        episodes: What was played.
        operators: Who acted in each.
        note: About the mix, for the dataset's provenance.
    """
    won = sum(episode.terminated for episode in episodes)
    provenance = Provenance(
        task=env,
        algorithm=f"operators/{mix}",
        seed=seed,
        frames=0,
        deterministic=False,
        versions=versions(),
        notes=(note, f"{won} of {len(episodes)} episodes succeeded"),
    )
    data = Demonstrations.from_episodes(episodes, env_spec(env), provenance)
    return Recorded(data, tuple(operators))
