"""Play policies on fixed start states and say who reached the goal: for tasks that never end early.

Data flow: policies of several runs and start seeds → one episode each → success, return, length.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from steelyard.envs.registry import make_env
from steelyard.evaluation.rollouts import Policies

AT_ONCE = 128
"""Episodes played at once, of all runs together; a simulated arm takes some 20 MB."""


class Outcome(NamedTuple):
    """What the policies achieved.

    Attributes:
        success: Whether the episode was at the task's goal in any step.
        returns: Undiscounted return.
        length: Steps until the episode ended.
    """

    success: Bool[np.ndarray, "run start"]
    returns: Float[np.ndarray, "run start"]
    length: Int[np.ndarray, "run start"]


def play(
    policies: Policies,
    env: str,
    starts: Sequence[int],
    runs: int,
    steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Outcome:
    """Play one episode per run and start.

    Args:
        policies: The runs' policies, stacked; called with as many starts as are played at once.
        env: Task.
        starts: Start seeds, the same for every run.
        runs: How many policies there are.
        steps: Steps of an episode; none for the task's own limit.
        options: What to build the task with.
    """
    together = max(1, AT_ONCE // runs)
    parts = [
        _played(policies, env, starts[i : i + together], runs, steps, dict(options or {}))
        for i in range(0, len(starts), together)
    ]
    return Outcome(*(np.concatenate(values, axis=1) for values in zip(*parts, strict=True)))


def _played(
    policies: Policies,
    env: str,
    starts: Sequence[int],
    runs: int,
    steps: int | None,
    options: dict[str, Any],
) -> Outcome:
    # One pool for each run would step them one after the other; a pool refuses equal seeds.
    pools = [make_env(env, starts, **options) for _ in range(runs)]
    spec = pools[0].spec
    observation = np.stack([pool.reset() for pool in pools])
    shape = observation.shape[:2]
    alive, success = np.ones(shape, bool), np.zeros(shape, bool)
    returns, length = np.zeros(shape), np.zeros(shape, np.int64)
    limit = spec.max_episode_steps if steps is None else min(steps, spec.max_episode_steps)
    for _ in range(limit):
        action = np.asarray(policies(observation))
        able = np.asarray(np.isfinite(action).all(axis=2))
        played = spec.to_env_units(np.where(able[..., None], action, 0.0))
        moved = [pool.step(own) for pool, own in zip(pools, played, strict=True)]
        reached = np.stack([getattr(p, "succeeded", np.zeros(shape[1], bool)) for p in pools])
        reward = np.stack([step.reward for step in moved])
        success |= alive & reached & able
        returns += np.where(alive, np.where(able, reward, np.nan), 0.0)
        length += alive
        alive = alive & ~np.stack([step.ended for step in moved])
        observation = np.stack([step.observation for step in moved])
        if not alive.any():
            break
    for pool in pools:
        pool.close()
    return Outcome(success, returns, length)


def win_rate(
    returns: Float[np.ndarray, "run start"], before: Float[np.ndarray, "run start"]
) -> Float[np.ndarray, " run"]:
    """Share of starts on which the new return is higher than the old one's; equal ones are half."""
    return np.mean((returns > before) + 0.5 * (returns == before), axis=1)
