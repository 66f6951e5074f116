"""Scores of chunked policies: learners and fixed start states → success and length.

A plan is made once a chunk and played open loop; what is left of it when an episode ends is never
used. The noise of a plan follows from the start and the number of the plan, the same in every run.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from steelyard.agents.acfql import ACFQL
from steelyard.envs.seeding import EVALUATION_START, evaluation_seeds
from steelyard.evaluation.rollouts import Policies, rollout
from steelyard.training.checkpoint import take_run

AT_ONCE, AT_ONCE_HEAVY = 100, 20
"""Episodes played at once, of all runs together; a simulated arm takes some 20 MB in EnvPool, in
the simulators that are stepped one after the other ten times that."""
HEAVY = ("ogbench/", "robosuite/")
PLAN_KEY = 5


class ChunkOutcome(NamedTuple):
    """What a group's policies achieved.

    Attributes:
        success: Whether each episode reached the end of its task.
        length: Its steps.
        plans: Calls of the planner, of all runs of a part at once.
    """

    success: Bool[np.ndarray, "seed start"]
    length: Int[np.ndarray, "seed start"]
    plans: int


class ChunkEvaluator:
    """Plays the policies of a group of runs, one episode per fixed start.

    Attributes:
        last: What came of the last evaluation.
    """

    def __init__(self, env: str, runs: int, episodes: int = 50, start_seed: int = EVALUATION_START):
        """Choose the start states.

        Args:
            env: Task.
            runs: Runs of the group.
            episodes: Start states.
            start_seed: Seed of the first; all lie in the block that no training uses.
        """
        self.env, self.runs = env, runs
        self.starts = evaluation_seeds(episodes, start_seed)
        self._plan = jax.jit(jax.vmap(ACFQL.plan, in_axes=(0, 0, None)))
        self.plans = 0
        self.last: ChunkOutcome | None = None

    def __call__(self, agents: ACFQL) -> dict[str, np.ndarray]:
        """Metrics of stacked learners, each ``[seed]``."""
        return told(self.outcome(agents))

    def outcome(self, agents: ACFQL) -> ChunkOutcome:
        """Play; ``agents`` are stacked."""
        most = AT_ONCE_HEAVY if self.env.startswith(HEAVY) else AT_ONCE
        together = max(1, most // len(self.starts))
        parts = []
        self.plans = 0
        for first in range(0, self.runs, together):
            which = slice(first, min(first + together, self.runs))
            parts.append(self._played(take_run(agents, which), which.stop - first))
        success, length = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.last = ChunkOutcome(success, length, self.plans)
        return self.last

    def _played(self, agents: ACFQL, runs: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (runs, len(self.starts))
        success, length = np.zeros(shape, bool), np.zeros(shape, np.int32)
        for moment in rollout(self.policies(agents), self.env, self.starts, runs):
            success |= moment.alive & moment.step.terminated
            length += moment.alive
        return success, length

    def policies(self, agents: ACFQL) -> Policies:
        """The policies of stacked learners, for one rollout whose episodes begin together."""
        chunk: np.ndarray | None = None
        step, size = 0, agents.config.chunk

        def act(observation: np.ndarray) -> np.ndarray:
            nonlocal chunk, step
            if chunk is None or step % size == 0:
                key = jax.random.fold_in(jax.random.key(PLAN_KEY), step // size)
                chunk = np.asarray(self._plan(agents, observation, key))
                self.plans += 1
            step += 1
            return chunk[:, :, (step - 1) % size]

        return act


def told(outcome: ChunkOutcome) -> dict[str, np.ndarray]:
    """Metrics of an outcome, each ``[seed]``."""
    rate = outcome.success.mean(1)
    length = outcome.length.mean(1)
    return {"eval/success_rate": rate, "eval/success": rate, "eval/length": length}
