"""Roll policies out on fixed start states: returns for scores, episodes for demonstrations.

Data flow: policies and start seeds in; one episode per start out. Nothing here learns.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from steelyard.data.episode import Episode
from steelyard.envs.base import Step, VectorEnv
from steelyard.envs.registry import make_env

Policies = Callable[[np.ndarray], np.ndarray]
"""``observation [run, start, obs] -> action [run, start, act]`` in ``[-1, 1]``."""


class Moment(NamedTuple):
    """One step of every episode at once; arrays lead with ``[run, start]``.

    Attributes:
        observation: What was acted on.
        action: What was done, in environment units.
        step: What came of it.
        alive: Which episodes had not ended before this step.
        envs: The environments, one pool a run, for what a step does not tell; ask at once.
    """

    observation: np.ndarray
    action: np.ndarray
    step: Step
    alive: np.ndarray
    envs: Sequence[VectorEnv]


def rollout(
    policies: Policies,
    env_id: str,
    starts: Sequence[int],
    runs: int,
    steps: int | None = None,
) -> Iterator[Moment]:
    """Play one episode per run and start seed, all at once, until the last one ends.

    A policy whose action is not finite does nothing in that step and earns NaN, so that a run which
    diverged has no score and does not disturb the others.

    Args:
        policies: The runs' policies, stacked.
        env_id: Task.
        starts: Start seeds, the same for every run.
        runs: How many policies there are.
        steps: Most steps of an episode; none for the task's own limit.
    """
    envs = [make_env(env_id, starts) for _ in range(runs)]
    spec = envs[0].spec
    observation = np.stack([env.reset() for env in envs])
    alive = np.ones((runs, len(starts)), bool)
    limit = spec.max_episode_steps
    for _ in range(limit if steps is None else min(steps, limit)):
        action = spec.to_env_units(np.asarray(policies(observation)))
        able = np.asarray(np.isfinite(action).all(axis=2))
        played = np.where(able[..., None], action, spec.action_centre)
        moved = [env.step(a) for env, a in zip(envs, played, strict=True)]
        step = Step(*(np.stack(parts) for parts in zip(*moved, strict=True)))
        step = step._replace(reward=np.where(able, step.reward, np.float32(np.nan)))
        yield Moment(observation, action, step, alive, envs)
        alive = alive & ~step.ended
        observation = step.observation
        if not alive.any():
            break
    for env in envs:
        env.close()


def episode_returns(
    policies: Policies, env_id: str, starts: Sequence[int], runs: int
) -> np.ndarray:
    """Undiscounted return of one episode per run and start, ``[run, start]`` float64."""
    total = np.zeros((runs, len(starts)))
    for moment in rollout(policies, env_id, starts, runs):
        total += np.where(moment.alive, moment.step.reward, 0.0)
    return total


def record_episodes(
    policies: Policies, env_id: str, starts: Sequence[int], runs: int
) -> list[list[Episode]]:
    """Record one episode per run and start; the outer list is by run."""
    moments = list(rollout(policies, env_id, starts, runs))
    lengths = np.sum([m.alive for m in moments], axis=0)
    episodes = []
    for i in range(runs):
        own = []
        for j, seed in enumerate(starts):
            played = moments[: lengths[i, j]]
            last = played[-1].step
            observations = [*(m.observation[i, j] for m in played), last.next_observation[i, j]]
            own.append(
                Episode(
                    observations=np.stack(observations),
                    actions=np.stack([m.action[i, j] for m in played]),
                    rewards=np.array([m.step.reward[i, j] for m in played], np.float32),
                    terminated=bool(last.terminated[i, j]),
                    truncated=bool(last.truncated[i, j]),
                    start_seed=int(seed),
                )
            )
        episodes.append(own)
    return episodes
