"""Score policies on fixed start states, the same for every arm and seed."""

from typing import Any

import jax
import numpy as np

from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import check_disjoint, evaluation_seeds
from steelyard.evaluation.rollouts import Policies, episode_returns
from steelyard.types import EnvSpec


class Evaluator:
    """Rolls out the deterministic policies of a group of runs, one episode per start state."""

    def __init__(
        self, env_id: str, runs: int, episodes: int = 100, training_seeds: list[int] | None = None
    ):
        """Choose the start states.

        Args:
            env_id: Task.
            runs: Runs of the group.
            episodes: Start states, seeded 1,000,000 and up.
            training_seeds: Seeds that training uses, to be sure that none is among them.

        Raises:
            ValueError: Training and evaluation share a seed; shows both ranges.
        """
        self.env_id, self.runs, self.starts = env_id, runs, evaluation_seeds(episodes)
        check_disjoint(training_seeds or [], self.starts)
        self._act = jax.jit(
            jax.vmap(lambda agent, o: agent.act(o, jax.random.key(0), deterministic=True))
        )

    def policies(self, agents: Any) -> Policies:
        """The deterministic policies of stacked learners."""
        return lambda observation: np.asarray(self._act(agents, observation))

    def returns(self, agents: Any) -> np.ndarray:
        """Undiscounted return per run and start, ``[seed, start]`` float64."""
        return episode_returns(self.policies(agents), self.env_id, self.starts, self.runs)

    def __call__(self, agents: Any) -> dict[str, np.ndarray]:
        """Metrics of stacked learners, each ``[seed]``."""
        returns = self.returns(agents)
        return {"eval/reward_mean": returns.mean(1), "eval/reward_std": returns.std(1)}


def random_policies(spec: EnvSpec, seeds: list[int], episodes: int) -> Policies:
    """Uniform random actions, one generator per run: the lower anchor of scores."""
    generators = [np.random.default_rng([seed, 0xA5]) for seed in seeds]
    shape = (episodes, spec.action_size)
    return lambda _: np.stack([g.uniform(-1.0, 1.0, shape) for g in generators])


def random_returns(env_id: str, seeds: list[int], episodes: int = 100) -> np.ndarray:
    """Return of uniform random actions per run and start, ``[seed, start]``."""
    policies = random_policies(env_spec(env_id), seeds, episodes)
    return episode_returns(policies, env_id, evaluation_seeds(episodes), len(seeds))
