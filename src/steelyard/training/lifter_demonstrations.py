"""Demonstrations of robosuite's scripted operators: task, mix and seed → a dataset.

`mh` stands in for robomimic's multi-human data: six operators with as many episodes each. It is
made, not human; nothing measured on it may be compared with results on human data.
"""

from steelyard.envs.scripted.lifters import OPERATORS, lifter_policies
from steelyard.envs.seeding import start_seeds
from steelyard.evaluation.rollouts import Policies
from steelyard.training.group import Ticker
from steelyard.training.operator_demonstrations import Recorded, in_drawn_order, recorded
from steelyard.training.scripted_demonstrations import play_in_parts, play_steps

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
        tick: Progress display, in steps of :func:`lifter_steps`.

    Raises:
        ValueError: Task or mix is unknown.
    """
    if mix not in MIXES:
        raise ValueError(f"operators are one of {', '.join(MIXES)}, got {mix!r}")
    env = f"robosuite/{task}"
    names = [MIXES[mix][i % len(MIXES[mix])] for i in range(episodes)]
    operators = in_drawn_order(names, seed)

    def policies(first: int, number: int) -> Policies:
        return lifter_policies(task, operators[first : first + number], seed, first)

    played = play_in_parts(policies, env, start_seeds(seed, episodes), tick, AT_ONCE)
    return recorded(env, mix, seed, played, operators, f"scripted, not human: {mix}")


def lifter_steps(task: str, episodes: int) -> int:
    """Most steps that :func:`record_lifters` ticks."""
    return play_steps(f"robosuite/{task}", episodes, AT_ONCE)
