"""The on-policy loop: a rollout with the host's simulator, then all epochs in one program.

Data flow: environment → base action and residual → rollout → learner and kept scorer → residual.
The loop knows factories only.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from steelyard.agents.ppo import PPO
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.envs.base import VectorEnv
from steelyard.numerics.trees import select
from steelyard.training.chunk_queue import Planner, advance, head, replan, start
from steelyard.training.cupid import Felt, is_due
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.episode_window import EpisodeTracker, EpisodeWindow
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.histograms import Histogram, histograms
from steelyard.training.offline import crossed
from steelyard.training.on_policy_checks import concentrated, not_finite
from steelyard.training.on_policy_update import UpdateConfig, pass_over, weigh
from steelyard.training.programs import ACT, CREATE, LEARN, fold
from steelyard.training.rollout_items import Prepared, Rollout, prepare

TIMED = ("simulation", "base", "policy", "emphasis", "update")
"""What the time of an iteration is booked under."""
HISTOGRAM_INTERVAL = 5
"""Iterations between two sets of histograms."""
OnSuccess = Literal["terminate", "mask", "continue"]


@dataclasses.dataclass(frozen=True)
class OnPolicyConfig:
    """How much is simulated, and when it is evaluated and kept."""

    total_timesteps: int = 200_000
    """Environment steps of one run, all its environments together; whole iterations of them."""
    num_envs: int = 64
    """Parallel environments of one run."""
    num_env_steps: int = 64
    """Steps of each in an iteration."""
    on_success: OnSuccess = "terminate"
    """What success does: end the episode; let it run on, what follows counting for nothing; or
    counting like all else (the reference)."""
    eval_interval: int | None = None
    """Iterations between evaluations; none evaluates at the end only."""
    checkpoint_interval: int | None = None
    """Iterations between checkpoints; none writes one at the end only. Open episodes are cut."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "num_env_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("eval_interval", "checkpoint_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.iterations < 1:
            raise ValueError(
                f"total_timesteps must hold an iteration of num_envs × num_env_steps = "
                f"{self.num_envs} × {self.num_env_steps} steps, got {self.total_timesteps}"
            )

    @property
    def items(self) -> int:
        """Steps of an iteration, all environments together."""
        return self.num_envs * self.num_env_steps

    @property
    def iterations(self) -> int:
        """Iterations of a run."""
        return self.total_timesteps // self.items

    @property
    def frames(self) -> int:
        """Steps of a run: those of its whole iterations."""
        return self.iterations * self.items

    @property
    def last_generation(self) -> int:
        """How often the environments are built anew, at most."""
        interval = self.checkpoint_interval
        return 0 if interval is None else self.iterations // interval


class Base(NamedTuple):
    """The frozen policy below.

    Attributes:
        planner: What plans its chunks.
        executed: Actions of a chunk that are played.
    """

    planner: Planner
    executed: int


class OnPolicyProblem(NamedTuple):
    """The factories that tie a learner to its task.

    Attributes:
        create: Key, and index of the run in its group, to a new learner.
        update: Passes and minibatches of an iteration.
        cupid: The emphasis.
        base: ``environments -> base policy`` under the residual.
    """

    create: Callable[[PRNGKeyArray, Array], PPO]
    update: UpdateConfig
    cupid: CupidConfig
    base: Callable[[int], Base]


class State(NamedTuple):
    """All that a group of runs needs to go on, every array stacked ``[seed, ...]``."""

    agent: PPO
    scorer: Scorer
    best: PPO
    best_score: Array
    episodes: EpisodeWindow


class Programs:
    """The compiled programs of the loop.

    Attributes:
        traces: How often each was traced.
        bad: What was not finite in each run's last items; empty where all was.
    """

    def __init__(self, problem: OnPolicyProblem):
        self.traces: dict[str, int] = {}
        self.bad: list[str] = []
        self._warned: set[int] = set()
        self._problem = problem
        self.act = jax.jit(jax.vmap(self._act, in_axes=(0, 0, 0, 0, None)))
        self._prepare = jax.jit(jax.vmap(prepare))
        self._weigh = {
            due: jax.jit(jax.vmap(functools.partial(self._weighed, due))) for due in (False, True)
        }
        self._pass = jax.jit(jax.vmap(self._passed))
        self._histograms = jax.jit(
            jax.vmap(lambda agent, items, felt: histograms(items, felt, agent.config.action_scale))
        )

    def _act(self, agent: PPO, observation: Array, base: Array, key: Array, step: Array) -> Any:
        self._count("act")
        own = base if agent.config.residual else None
        features = agent.features(observation, own)
        return agent.decide(features, own, fold(key, ACT, step), deterministic=False)

    def _weighed(
        self, due: bool, agent: PPO, prepared: Prepared, scorer: Scorer, key: Array
    ) -> Any:
        self._count("weigh_due" if due else "weigh")
        key = fold(key, LEARN, agent.iteration)
        return weigh(agent, prepared, scorer, key, self._problem.cupid, due)

    def _passed(self, agent: PPO, prepared: Prepared, felt: Felt, key: Array) -> Any:
        self._count("pass")
        key = fold(key, LEARN, agent.iteration)
        return pass_over(agent, prepared, felt, key, self._problem.update, self._problem.cupid)

    def learn(
        self,
        state: State,
        rollout: Rollout,
        keys: Array,
        due: bool,
        seconds: dict[str, float],
        shaped: bool = False,
    ) -> tuple[State, dict[str, np.ndarray], dict[str, Histogram]]:
        """Update every run from its rollout, book the time, and if ``shaped`` count histograms."""
        clock, agent = Clock(seconds), state.agent
        prepared = jax.block_until_ready(self._prepare(agent, rollout))
        clock.to("update")
        felt, scorer, metrics = jax.block_until_ready(
            self._weigh[due](agent, prepared, state.scorer, keys)
        )
        took = clock.to("emphasis")
        shapes = self._histograms(agent, prepared, felt) if shaped else {}
        self.bad = not_finite(prepared, felt)
        share = metrics.get("cupid/ess_share", metrics.get("cupid/ess_share_actor"))
        if share is not None:
            self._warn(concentrated(prepared, felt, np.asarray(share)))
        agent, more = self._pass(agent, prepared, felt, keys)
        values = {name: np.asarray(x) for name, x in (metrics | more).items()}
        clock.to("update")
        if self._problem.cupid.use_cupid:
            values["cupid/compute_time_s"] = np.full(len(keys), took)
        return state._replace(agent=agent, scorer=scorer), values, shapes

    def _warn(self, found: list[str]) -> None:
        """Say each run's concern once."""
        for run, text in enumerate(found):
            if text and run not in self._warned:
                self._warned.add(run)
                print(f"warning: run {run} of the group: {text}", file=sys.stderr)

    def _count(self, name: str) -> None:
        self.traces[name] = self.traces.get(name, 0) + 1


class Simulation:
    """The environments of a group, their base policy, and where their episodes stand."""

    def __init__(
        self, env: VectorEnv, base: Base, seeds: int, on_success: OnSuccess, window: EpisodeWindow
    ):
        self.env, self.base, self._seeds = env, base, seeds
        self._on_success = on_success
        self._rows = env.num_envs // seeds
        self.episodes = EpisodeTracker(window, self._rows)
        self._observation = env.reset()
        self._queue = start(self._observation, base.planner)
        self.seconds: dict[str, float] = dict.fromkeys(TIMED, 0.0)

    def rollout(
        self, programs: Programs, agent: PPO, keys: Array, steps: int, first: int
    ) -> Rollout:
        """Play ``steps`` steps everywhere; arrays ``[seed, time, env, ...]``."""
        rows = [self._step(programs, agent, keys, first + i) for i in range(steps)]
        stacked = (np.stack([row[name] for row in rows], axis=1) for name in Rollout._fields)
        return Rollout(*map(jnp.asarray, stacked))

    def _step(
        self, programs: Programs, agent: PPO, keys: Array, number: int
    ) -> dict[str, np.ndarray]:
        clock = Clock(self.seconds)
        observation, base = self._observation, head(self._queue)
        shaped = (self._by_seed(observation), self._by_seed(base))
        residual, action = programs.act(agent, *shaped, keys, jnp.asarray(number))
        action = np.asarray(action).reshape(self.env.num_envs, -1)
        action = np.where(np.isfinite(action), action, 0.0)  # of frozen runs
        clock.to("policy")
        step = self.env.step(self.env.spec.to_env_units(action))
        clock.to("simulation")
        # The head for where the step led to, first; where that was an end, the new start's after.
        none = np.zeros(self.env.num_envs, bool)
        reached = advance(
            self._queue, step.next_observation, none, self.base.planner, self.base.executed
        )
        next_base = head(reached)
        self._queue = replan(reached, step.observation, step.ended, self.base.planner)
        self._observation = step.observation
        clock.to("base")
        success = self._by_seed(step.reward > 0)
        before, masks = self.episodes.solved, self._on_success == "mask"
        valid = ~before if masks else np.ones_like(before)
        terminated = self._by_seed(step.terminated)
        # What follows success counts for nothing, its value too.
        terminated = terminated | success if masks else terminated
        self.episodes.add(success, self._by_seed(step.ended))
        return {
            "observation": shaped[0],
            "base": shaped[1],
            "residual": np.asarray(residual),
            "next_observation": self._by_seed(step.next_observation),
            "next_base": self._by_seed(next_base),
            "reward": self._by_seed(step.reward),
            "terminated": terminated,
            "truncated": self._by_seed(step.truncated),
            "success": success,
            "valid": valid,
        }

    def _by_seed(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self._seeds, self._rows, *x.shape[1:])


class Clock:
    """Books time under names."""

    def __init__(self, seconds: dict[str, float]):
        self._seconds, self._since = seconds, time.perf_counter()

    def to(self, name: str) -> float:
        """Book the time since the last call under a name, and return it, s."""
        now = time.perf_counter()
        took, self._since = now - self._since, now
        self._seconds[name] += took
        return took


def train_on_policy(
    problem: OnPolicyProblem,
    config: OnPolicyConfig,
    group: RunGroup,
    make_env: Callable[[int], VectorEnv],
    evaluate: Callable[[PPO], dict[str, np.ndarray]] | None = None,
    tick: Ticker = lambda step, note="": None,
    tell: Callable[[int, dict[str, np.ndarray]], None] = lambda iteration, metrics: None,
) -> State:
    """Train a group of runs and return their stacked state.

    Args:
        problem: The learner's factories.
        config: Sizes and intervals.
        group: Seeds and folders; a group that was killed goes on from its last checkpoint.
        make_env: Builds the group's ``len(seeds) * num_envs`` environments for a generation. They
            are rebuilt with fresh seeds after each checkpoint, so that a resumed run and an
            uninterrupted one see the same episodes.
        evaluate: ``stacked learner -> {metric: [seed]}``, of which `eval/success_rate` chooses the
            learner that is kept as the best.
        tick: Progress display.
        tell: Called with each iteration, counted from 1, and its metrics ``{name: [seed]}``.
    """
    seeds, rows = len(group.seeds), config.items
    keys = jnp.stack([jax.random.key(seed) for seed in group.seeds])
    programs = Programs(problem)
    create = jax.vmap(lambda key, run: problem.create(fold(key, CREATE, 0), run))
    agent = eqx.filter_jit(create)(keys, jnp.arange(seeds))
    scorer = jax.vmap(lambda agent: Scorer.none(agent, problem.cupid))(agent)
    state = State(agent, scorer, agent, jnp.full(seeds, -jnp.inf), EpisodeWindow.empty(seeds))
    restored, done, generation = group.restore(jax.tree.map(lambda x: x[0], state))
    state = state if restored is None else restored
    iteration, world = done // rows, None
    tick(done)
    while iteration < config.iterations:
        if world is None:
            base = problem.base(seeds * config.num_envs)
            world = Simulation(make_env(generation), base, seeds, config.on_success, state.episodes)
        first = iteration * config.num_env_steps
        rollout = world.rollout(programs, state.agent, keys, config.num_env_steps, first)
        iteration += 1
        due = is_due(problem.cupid, iteration, has_scorer=iteration > 1)
        shaped = iteration == config.iterations or iteration % HISTOGRAM_INTERVAL == 1
        state, values, shapes = programs.learn(state, rollout, keys, due, world.seconds, shaped)
        group.freeze(
            [text and f"iteration {iteration}: {text}" for text in programs.bad], iteration * rows
        )
        group.freeze_non_finite(iteration * rows, values)
        values |= world.episodes.take() | speed(world.seconds, rows, seeds)
        group.log(iteration * rows, values)
        if shaped:
            group.log_histograms(iteration * rows, shapes)
        tell(iteration, values)
        rate = float(np.mean(values["charts/success_rate"]))
        tick(iteration * rows, f"success {rate:.0%}")
        ended = iteration == config.iterations
        if evaluate and (ended or crossed(iteration, 1, config.eval_interval)):
            found = evaluate(state.agent)
            state = _with_best(state, found["eval/success_rate"])
            best = {"eval/best_eval_success_rate": np.asarray(state.best_score)}
            group.log(iteration * rows, found | best)
        if ended or crossed(iteration, 1, config.checkpoint_interval):
            generation += 1
            state = state._replace(episodes=world.episodes.window)
            world.env.close()
            world = None
            group.save(state, iteration * rows, generation)
    return state


def _with_best(state: State, score: np.ndarray) -> State:
    now = jnp.asarray(score, jnp.float32)
    better = now > state.best_score
    best = jax.vmap(select)(better, state.agent, state.best)
    return state._replace(best=best, best_score=jnp.where(better, now, state.best_score))


def speed(seconds: dict[str, float], rows: int, seeds: int) -> dict[str, np.ndarray]:
    """Steps per second of a run, all included, and where the time went; resets the clock."""
    total = max(sum(seconds.values()), 1e-9)
    found = {"training/SPS": np.full(seeds, rows / total)}
    for name in list(seconds):
        found[f"training/share_{name}"] = np.full(seeds, seconds[name] / total)
        seconds[name] = 0.0
    return found
