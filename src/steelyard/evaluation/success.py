"""Play policies on fixed start states and say who reached the goal.

Data flow: policies of several runs and start seeds → one episode each → success, return, length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from steelyard.evaluation.rollouts import Moment, Policies, rollout

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
    ends_at_goal: bool = False,
) -> Outcome:
    """Play one episode per run and start.

    Args:
        policies: The runs' policies, stacked; called with as many starts as are played at once.
        env: Task.
        starts: Start seeds, the same for every run.
        runs: How many policies there are.
        steps: Most steps of an episode; none for the task's own limit.
        ends_at_goal: Whether it is the goal that ends the task, and nothing else does.
    """
    together = max(1, AT_ONCE // runs)
    parts = [
        _played(policies, env, starts[i : i + together], runs, steps, ends_at_goal)
        for i in range(0, len(starts), together)
    ]
    return Outcome(*(np.concatenate(values, axis=1) for values in zip(*parts, strict=True)))


def _played(
    policies: Policies,
    env: str,
    starts: Sequence[int],
    runs: int,
    steps: int | None,
    ends_at_goal: bool,
) -> Outcome:
    shape = (runs, len(starts))
    success, returns, length = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape, np.int64)
    for moment in rollout(policies, env, starts, runs, steps):
        reward = moment.step.reward
        there = moment.step.terminated if ends_at_goal else reached(moment)
        success |= moment.alive & there & np.isfinite(reward)
        returns += np.where(moment.alive, reward, 0.0)
        length += moment.alive
    return Outcome(success, returns, length)


def reached(moment: Moment) -> Bool[np.ndarray, "run start"]:
    """Which steps were at the task's goal; none where a task does not say so."""
    never = np.zeros(moment.alive.shape[1], bool)
    return np.stack([getattr(env, "succeeded", never) for env in moment.envs])


def win_rate(
    returns: Float[np.ndarray, "run start"], before: Float[np.ndarray, "run start"]
) -> Float[np.ndarray, " run"]:
    """Share of starts on which the new return is higher than the old one's; equal ones are half."""
    return np.mean((returns > before) + 0.5 * (returns == before), axis=1)
