"""Success of the training episodes: over the last ones that ended, not over one iteration's.

Where environments start together successes come before failures, and an iteration's own rate swings
with its phase.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

WINDOW = 200
"""Episodes."""


class EpisodeWindow(NamedTuple):
    """The last episodes of each run, oldest overwritten first; arrays are kept in checkpoints.

    Attributes:
        success: Whether each succeeded.
        length: Its steps up to success, or to its end.
        count: Episodes ended so far.
    """

    success: Bool[np.ndarray, "seed window"]
    length: Int[np.ndarray, "seed window"]
    count: Int[np.ndarray, " seed"]

    @classmethod
    def empty(cls, seeds: int) -> "EpisodeWindow":
        """No episode yet."""
        return cls(
            np.zeros((seeds, WINDOW), bool),
            np.zeros((seeds, WINDOW), np.int32),
            np.zeros(seeds, np.int32),
        )

    def metrics(self) -> dict[str, Float[np.ndarray, " seed"]]:
        """``charts/*`` of each run; 0 before the first episode, or success, ends."""
        filled = np.arange(WINDOW)[None] < self.count[:, None]
        episodes = np.maximum(filled.sum(1), 1)
        solved = self.success & filled
        successes = np.maximum(solved.sum(1), 1)
        lengths = np.where(solved, self.length, 0)
        return {
            "charts/episodes": self.count.astype(float),
            "charts/success_rate": solved.sum(1) / episodes,
            "charts/mean_success_episode_length": lengths.sum(1) / successes,
            "charts/max_success_episode_length": lengths.max(1).astype(float),
        }


class EpisodeTracker:
    """Follows open episodes; what has ended goes into the window.

    Attributes:
        window: The last episodes.
        solved: ``[seed, env]``, whether the open episode has succeeded already.
    """

    def __init__(self, window: EpisodeWindow, envs: int):
        seeds = len(window.count)
        self.window = EpisodeWindow(*(np.array(x) for x in window))
        self.solved = np.zeros((seeds, envs), bool)
        self._steps = np.zeros((seeds, envs), np.int32)
        self._length = np.zeros((seeds, envs), np.int32)
        self._useful = np.zeros(seeds)
        self._all = 0

    def add(
        self, success: Bool[np.ndarray, "seed env"], ended: Bool[np.ndarray, "seed env"]
    ) -> None:
        """Count one step."""
        self._steps += 1
        first = success & ~self.solved
        self._length = np.where(first, self._steps, self._length)
        self.solved = self.solved | success
        self._all += success.shape[1]
        for seed, env in np.argwhere(ended):
            solved = bool(self.solved[seed, env])
            length = self._length[seed, env] if solved else self._steps[seed, env]
            place = self.window.count[seed] % WINDOW
            self.window.success[seed, place] = solved
            self.window.length[seed, place] = length
            self.window.count[seed] += 1
            self._useful[seed] += length if solved else 0
        self.solved = self.solved & ~ended
        self._steps = np.where(ended, 0, self._steps)

    def take(self) -> dict[str, np.ndarray]:
        """``charts/*`` now; the share of time steps is over the steps since the last call."""
        share = self._useful / max(self._all, 1)
        self._useful, self._all = np.zeros_like(self._useful), 0
        return self.window.metrics() | {"charts/success_timesteps_share": share}
