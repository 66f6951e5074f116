"""Films of a base policy beside the residual on it: policies and start states → animations."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from steelyard.data.episode import Episode
from steelyard.envs.seeding import EVALUATION_START
from steelyard.evaluation.rollouts import record_episodes
from steelyard.evaluation.video import film_episode, side_by_side
from steelyard.studies.assembly.policies import ResidualPolicy
from steelyard.training.residual import SuccessEvaluator, base_of, create_agent


def film_pairs(
    policy: ResidualPolicy, starts: Sequence[int], folder: Path, ending: str = "gif"
) -> list[tuple[Path, Episode, Episode]]:
    """Film the base, left, and the residual on it, right, from the same start states.

    Args:
        policy: The residual, its settings and its base.
        starts: Seeds of the start states, one film each.
        folder: Where the films go.
        ending: `gif`, `webp` or `png` (animated).

    Returns:
        Each film with what base and residual did in it.

    Raises:
        ValueError: The task cannot be drawn; says what is missing.
    """
    env = policy.run.env
    base = base_of(env, policy.base)
    evaluator = SuccessEvaluator(env, base, 1, 1)
    untrained = create_agent(policy.run, policy.base)(jax.random.key(0), 0)
    agents = [jax.tree.map(lambda x: np.asarray(x)[None], a) for a in (untrained, policy.agent)]
    films = []
    for start in starts:
        place = start - EVALUATION_START
        left, right = (
            record_episodes(evaluator.policies(agent, place), env, [start], 1)[0][0]
            for agent in agents
        )
        path = folder / f"base_and_{policy.arm}_start{left.start_seed}.{ending}"
        with tempfile.TemporaryDirectory() as parts:
            sides = [
                film_episode(env, episode, Path(parts) / f"{name}.png")
                for name, episode in (("left", left), ("right", right))
            ]
            side_by_side(sides, path)
        films.append((path, left, right))
    return films


def telling_starts(
    before: Sequence[int], after: Sequence[int], count: int, first: int = EVALUATION_START
) -> list[int]:
    """Seeds of start states where the base fails and the residual does not, then of others.

    Args:
        before: Success of the base from each evaluation start.
        after: That of the residual.
        count: How many to name.
        first: Seed of the first start.
    """
    gained = np.asarray(after, int) - np.asarray(before, int)
    order = np.argsort(-gained, kind="stable")
    return [first + int(i) for i in order[:count]]
