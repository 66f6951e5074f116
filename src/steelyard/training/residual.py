"""Binds residual PPO to a task and its frozen base policy, and scores what comes of it.

Data flow: task, base policy and settings → the on-policy loop → the learner; the same base and a
learner → success on fixed start states.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from steelyard.agents.chunked_bc import ChunkedBC
from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.envs.base import VectorEnv
from steelyard.envs.pegplane import reading_policy
from steelyard.envs.registry import env_spec, make_env
from steelyard.envs.seeding import EVALUATION_START, evaluation_seeds, training_seeds
from steelyard.evaluation.rollouts import Policies, rollout
from steelyard.training.chunk_queue import (
    BasePlanner,
    ChunkQueue,
    Planner,
    advance,
    head,
    make_planner,
    run_by_run,
    start,
)
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.on_policy import (
    Base,
    OnPolicyConfig,
    OnPolicyProblem,
    State,
    train_on_policy,
)
from steelyard.training.on_policy_checks import remarks
from steelyard.training.on_policy_update import UpdateConfig
from steelyard.types import EnvSpec

PLANE = "assembly/PegPlane-v0"
PLAN_SEED = 0
"""Of the noise of a base's plans, the same in training, evaluation and films, in every arm."""
AT_ONCE, AT_ONCE_ON_PLANE = 64, 8_192
"""Episodes that are evaluated at once, of all runs together; a simulated arm takes some 30 MB."""
Policy: TypeAlias = ChunkedBC | Sequence[ChunkedBC] | None
"""A base that all runs of a group share, one for each, or none."""


@runtime_checkable
class BaseFactory(Protocol):
    """What makes the base policy for some environments."""

    def __call__(self, num_envs: int, first: int | None = None, /) -> Base:
        """Make it; ``first`` is the place of the first start, where single starts are played."""
        ...


@dataclasses.dataclass(frozen=True)
class ResidualRun:
    """A residual PPO run over a frozen base policy."""

    env: str = "assembly/PegInsertSide-v3"
    """Task."""
    agent: PPOConfig = PPOConfig()
    """Learner."""
    update: UpdateConfig = UpdateConfig()
    """Passes and minibatches of an iteration."""
    loop: OnPolicyConfig = OnPolicyConfig()
    """Budget and intervals."""
    cupid: CupidConfig = CupidConfig()
    """How much each item counts."""

    def __post_init__(self) -> None:
        rows = self.loop.items
        parts = self.update.num_minibatches
        if rows % parts:
            legal = [p for p in range(1, rows + 1) if rows % p == 0]
            near = sorted(sorted(legal, key=lambda p: abs(p - parts))[:2])
            raise ValueError(
                f"num_envs × num_env_steps = {rows} items must be divisible by num_minibatches, "
                f"got {parts}; nearest: {', '.join(map(str, near))}"
            )


class Outcome(NamedTuple):
    """What a group's policies achieved on fixed starts.

    Attributes:
        success: Whether each episode succeeded.
        length: Steps to its success or its end.
        env_steps: Environment steps spent on it, those of ended episodes too.
    """

    success: Bool[np.ndarray, "seed start"]
    length: Int[np.ndarray, "seed start"]
    env_steps: int


def base_of(env: str, policy: Policy, key: Array | None = None) -> BaseFactory:
    """The frozen policy below a residual, by number of environments of all runs together.

    Where the environments play single starts, the place of the first of these says which noise
    their plans have: a start has the same one however many are played at once.

    Args:
        env: Task.
        policy: A cloned policy that all runs share, or one for each run; none takes the plane's own
            base, or, for any other task, no base.
        key: Random key of its plans; none takes the one that training and evaluation share.

    Raises:
        ValueError: A policy is of another task's sizes; shows both.
    """
    spec = env_spec(env)
    if policy is None:
        if env == PLANE:
            own = Base(lambda o, envs, plans: reading_policy(o)[:, None], 1)
            return lambda num_envs, first=None: own
        still = np.zeros((1, 1, spec.action_size), np.float32)
        none = Base(lambda o, envs, plans: np.repeat(still, len(o), 0), 1)
        return lambda num_envs, first=None: none
    key = jax.random.key(PLAN_SEED) if key is None else key
    policies = _each(policy)
    for one in policies:
        sizes = (one.normaliser.mean.shape[0], one.action_range.centre.shape[0])
        if sizes != (spec.observation_size, spec.action_size):
            raise ValueError(
                f"the base policy is of another task: it sees {sizes[0]} numbers and has "
                f"{sizes[1]} actions, {env} has {spec.observation_size} and {spec.action_size}"
            )
    made: dict[int, list[BasePlanner]] = {}

    def each(num_envs: int, first: int | None = None) -> Base:
        rows = num_envs // len(policies)
        if rows not in made:
            made[rows] = [make_planner(policy, key, rows) for policy in policies]
        planners: list[Planner] = list(made[rows])
        if first is not None:
            planners = [_of_starts(planner, first) for planner in planners]
        return Base(run_by_run(planners, rows), policies[0].config.executed)

    return each


def _each(policy: ChunkedBC | Sequence[ChunkedBC]) -> list[ChunkedBC]:
    return [policy] if isinstance(policy, ChunkedBC) else list(policy)


def _of_starts(planner: Planner, first: int) -> Planner:
    """A planner whose noise goes by a start's place among all starts, not by its row."""
    return lambda o, envs, plans: planner(o, (envs + first) % AT_ONCE, plans)


def create_agent(run: ResidualRun, policy: Policy) -> Callable[[Array, int | Array], PPO]:
    """Key and index of the run to a new learner that sees what its base sees."""
    spec = env_spec(run.env)
    iterations = run.loop.iterations
    if policy is None:
        return lambda key, index=0: PPO.create(key, spec, run.agent, None, iterations)
    policies = _each(policy)
    seen = [(p.normaliser, p.action_range.centre, p.action_range.half) for p in policies]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *seen)

    def create(key: Array, index: int | Array = 0) -> PPO:
        place = index if len(policies) > 1 else 0
        normaliser, *scale = jax.tree.map(lambda x: x[place], stacked)
        return PPO.create(key, spec, run.agent, normaliser, iterations, tuple(scale))

    return create


def train_residual(
    run: ResidualRun,
    group: RunGroup,
    policy: Policy = None,
    evaluate: Callable[[PPO], dict[str, np.ndarray]] | None = None,
    tick: Ticker = lambda step, note="": None,
    tell: Callable[[int, dict[str, np.ndarray]], None] = lambda iteration, metrics: None,
) -> State:
    """Train a group of residual PPO runs on frozen bases; returns the stacked state."""
    for remark in remarks(run.agent, run.cupid):
        print(f"note: {remark}", file=sys.stderr)
    problem = OnPolicyProblem(
        create_agent(run, policy),
        run.update,
        run.cupid,
        base_of(run.env, policy),
    )
    make = environments(run, group.seeds)
    return train_on_policy(problem, run.loop, group, make, evaluate, tick, tell)


def environments(run: ResidualRun, seeds: Sequence[int]) -> Callable[[int], VectorEnv]:
    """A group's training environments by generation; each run has seeds of its own."""
    options = {} if run.loop.on_success == "terminate" else {"on_success": "continue"}

    def make(generation: int) -> VectorEnv:
        own = [s for seed in seeds for s in training_seeds(seed, run.loop.num_envs, generation)]
        return make_env(run.env, own, **options)

    return make


class SuccessEvaluator:
    """Plays the deterministic policies of a group of runs, one episode per fixed start."""

    def __init__(
        self,
        env: str,
        base: BaseFactory,
        runs: int,
        episodes: int = 200,
        start_seed: int = EVALUATION_START,
    ):
        """Choose the start states.

        Args:
            env: Task.
            base: The frozen policy, see :func:`base_of`.
            runs: Runs of the group.
            episodes: Start states.
            start_seed: Seed of the first; all lie in the block that no training uses.
        """
        self.env, self.runs = env, runs
        self.starts = evaluation_seeds(episodes, start_seed)
        most = AT_ONCE_ON_PLANE if env == PLANE else AT_ONCE
        self._part = min(episodes, max(most // runs, 1))
        self._base = base
        self._spec: EnvSpec = env_spec(env)
        self._act = jax.jit(jax.vmap(_mean_action))

    def outcome(self, agents: PPO) -> Outcome:
        """Play; ``agents`` are stacked."""
        starts = self.starts
        parts = [
            self._played(agents, starts[first : first + self._part], first)
            for first in range(0, len(starts), self._part)
        ]
        success, length, steps = zip(*parts, strict=True)
        return Outcome(np.concatenate(success, 1), np.concatenate(length, 1), sum(steps))

    def _played(self, agents: PPO, starts: Sequence[int], first: int) -> Outcome:
        shape, steps = (self.runs, len(starts)), 0
        success, length = np.zeros(shape, bool), np.zeros(shape, np.int32)
        for moment in rollout(self.policies(agents, first), self.env, starts, self.runs):
            success |= moment.alive & (moment.step.reward > 0)
            length += moment.alive
            steps += moment.alive.size
        return Outcome(success, length, steps)

    def __call__(self, agents: PPO) -> dict[str, np.ndarray]:
        """Metrics of stacked learners, each ``[seed]``."""
        found = self.outcome(agents)
        return {"eval/success_rate": found.success.mean(1)}

    def policies(self, agents: PPO, first: int = 0) -> Policies:
        """The deterministic policies of stacked learners, for one rollout from its start on.

        Args:
            agents: Stacked learners.
            first: Place of the rollout's first start among the evaluation starts.
        """
        queue: ChunkQueue | None = None
        below: Base | None = None

        def act(observation: np.ndarray) -> np.ndarray:
            nonlocal queue, below
            flat = observation.reshape(-1, observation.shape[-1])
            if queue is None or below is None:
                below = self._base(len(flat), first)
                queue = start(flat, below.planner)
            else:
                none = np.zeros(len(flat), bool)
                queue = advance(queue, flat, none, below.planner, below.executed)
            base = head(queue).reshape(*observation.shape[:2], -1)
            return np.asarray(self._act(agents, observation, base))

        return act


def _mean_action(agent: PPO, observation: Array, base: Array) -> Array:
    own = base if agent.config.residual else None
    features = agent.features(observation, own)
    return agent.decide(features, own, jax.random.key(0), deterministic=True).action
