"""Demonstrations of robosuite's scripted operators: task, mix and seed → a dataset.

`mh` stands in for robomimic's multi-human data: six operators with as many episodes each. It is
made, not human; nothing measured on it may be compared with results on human data.
"""

from collections.abc import Callable

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted.lifters import OPERATORS, lifter_policies
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import record_episodes
from steelyard.training.group import Ticker
from steelyard.training.operator_demonstrations import Recorded
from steelyard.training.run_folder import versions

_TIERS = ("better", "okay", "worse")


def _of(*tiers: str) -> tuple[str, ...]:
    return tuple(name for name, operator in OPERATORS.items() if operator.tier in tiers)


MIXES = {"mh": _of(*_TIERS), "ph": _of("better"), **{tier: _of(tier) for tier in _TIERS}}
"""Operators of a mix, which take turns."""
AT_ONCE = 10


def record_lifters(
    task: str,
    mix: str,
    episodes: int,
    seed: int,
    tick: Ticker = lambda step, note="": None,
) -> Recorded:
    """Record episodes of a mix of operators.

    Args:
        task: ``lift``, ``can`` or ``square``.
        mix: A key of ``MIXES``.
        episodes: How many.
        seed: Of order, start states and noise.
        tick: Progress display, in episodes.

    Raises:
        ValueError: Task or mix is unknown.
    """
    if mix not in MIXES:
        raise ValueError(f"operators are one of {', '.join(MIXES)}, got {mix!r}")
    env = f"robosuite/{task}"
    spec, starts = env_spec(env), start_seeds(seed, episodes)
    names = [MIXES[mix][i % len(MIXES[mix])] for i in range(episodes)]
    order = np.random.default_rng([seed, episodes]).permutation(episodes)
    operators = [names[i] for i in order]
    played = []
    for first in range(0, episodes, AT_ONCE):
        own = operators[first : first + AT_ONCE]
        policies: Callable[[np.ndarray], np.ndarray] = lifter_policies(task, own, seed, first)
        played += record_episodes(policies, env, starts[first : first + AT_ONCE], 1)[0]
        tick(len(played), f"{sum(e.terminated for e in played)} succeeded")
    won = sum(episode.terminated for episode in played)
    provenance = Provenance(
        task=env,
        algorithm=f"operators/{mix}",
        seed=seed,
        frames=0,
        deterministic=False,
        versions=versions(),
        notes=(f"scripted, not human: {mix}", f"{won} of {episodes} episodes succeeded"),
    )
    return Recorded(Demonstrations.from_episodes(played, spec, provenance), tuple(operators))
