"""Plays planned chunks of actions, one environment a run, and records what came of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from steelyard.envs.base import Step, VectorEnv
from steelyard.training.online_rl_programs import Record

Planner = Callable[[np.ndarray], np.ndarray]
"""``observation [run, obs] -> chunk [run, chunk, act]`` in ``[-1, 1]``."""


class Finished(NamedTuple):
    """A trajectory that has ended: whose it is, and the ``T + 1`` observations it saw."""

    run: int
    observations: np.ndarray


class ChunkPlayer:
    """One environment a run; a chunk is played to its end, or to that of the episode.

    Attributes:
        finished: Trajectories that ended since they were last taken.
    """

    def __init__(self, env: VectorEnv, chunk: int):
        self._env, self._spec, self._size = env, env.spec, chunk
        self._observation = env.reset()
        runs = env.num_envs
        self._runs = np.arange(runs)
        self._chunk = np.zeros((runs, chunk, env.spec.action_size), np.float32)
        self._place = np.full(runs, chunk)
        self._seen: list[list[np.ndarray]] = [[o] for o in self._observation]
        self.finished: list[Finished] = []

    def play(self, plan: Planner, steps: int) -> tuple[Record, list[Step]]:
        """Play some steps.

        Args:
            plan: Asked whenever a run has no action left.
            steps: How many.

        Returns:
            The steps, ``[run, time, ...]``, and each as the environment gave it. A run whose plan
            is not finite, which its metrics tell, does nothing.
        """
        rows, played = [], []
        for _ in range(steps):
            empty = self._place >= self._size
            if empty.any():
                self._chunk[empty] = plan(self._observation)[empty]
                self._place[empty] = 0
            action = self._chunk[self._runs, self._place]
            action = np.where(np.isfinite(action), action, 0.0)
            step = self._env.step(self._spec.to_env_units(action))
            outcome = (step.reward, step.terminated, step.next_observation, step.ended)
            rows.append(Record(self._observation, action, *outcome))
            played.append(step)
            self._follow(step)
            # What is left of a chunk belongs to an episode that is over.
            self._place = np.where(step.ended, self._size, self._place + 1)
            self._observation = step.observation
        return Record(*(np.stack(part, 1) for part in zip(*rows, strict=True))), played

    def take_finished(self) -> list[Finished]:
        """Trajectories that ended since the last call."""
        taken, self.finished = self.finished, []
        return taken

    def close(self) -> None:
        """Release the environments."""
        self._env.close()

    def _follow(self, step: Step) -> None:
        for run, seen in enumerate(self._seen):
            seen.append(step.next_observation[run])
            if step.ended[run]:
                self.finished.append(Finished(run, np.stack(seen)))
                self._seen[run] = [step.observation[run]]
