"""The off-policy loop: K environment steps, then the updates they pay for inside one ``scan``.

Data flow: environment → records → replay (on the device) → batches → learner → actions.
The loop knows factories only. While the learner works on the frames of one step, the simulator
already makes the next, so the policy that acts is one iteration (K frames) old.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.envs.base import Step, VectorEnv
from steelyard.envs.seeding import MAX_GENERATIONS
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.offline import crossed
from steelyard.training.programs import OffPolicyProblem, Programs, State
from steelyard.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class OffPolicyConfig:
    """How much is simulated and learned, and when it is evaluated and kept."""

    frames: int = 100_000
    """Environment steps of one run, all its environments together."""
    num_envs: int = 4
    """Parallel environments of one run."""
    utd_ratio: float = 1.0
    """Critic steps per environment step (update-to-data ratio)."""
    random_frames: int = 1_000
    """Frames with uniform random actions before learning starts."""
    replay_capacity: int | None = None
    """Transitions kept; none keeps them all."""
    log_interval: int = 1_000
    """Frames between rows of training metrics."""
    eval_interval: int | None = None
    """Frames between evaluations; none evaluates at the end only."""
    checkpoint_interval: int | None = None
    """Frames between checkpoints; none writes one at the end only. Open episodes are cut there."""

    def __post_init__(self) -> None:
        if self.random_frames < self.num_envs:
            raise ValueError(
                f"random_frames must be at least num_envs, so that there is something to learn "
                f"from: got {self.random_frames} < {self.num_envs}."
            )
        if self.frames < self.random_frames:
            raise ValueError(
                "frames must be at least random_frames, or nothing is learned: got "
                f"{self.frames} < {self.random_frames}."
            )
        most = MAX_GENERATIONS * (self.checkpoint_interval or self.frames)
        if self.frames > most:
            raise ValueError(
                f"a run has at most {MAX_GENERATIONS} checkpoints, each of which starts fresh "
                f"environments: got frames {self.frames} / checkpoint_interval "
                f"{self.checkpoint_interval}."
            )

    def updates_per_iteration(self, gradient_steps: int) -> int:
        """Calls of ``update``, of ``gradient_steps`` critic steps each, per ``num_envs`` frames.

        Raises:
            ValueError: It is not a whole number.
        """
        updates = self.num_envs * self.utd_ratio / gradient_steps
        if updates < 1 or updates != int(updates):
            raise ValueError(
                "num_envs × utd_ratio / policy_delay must be a whole number of at least 1, got "
                f"{self.num_envs} × {self.utd_ratio} / {gradient_steps} = {updates:g}."
            )
        return int(updates)


def train_off_policy(
    problem: OffPolicyProblem,
    config: OffPolicyConfig,
    group: RunGroup,
    make_env: Callable[[int], VectorEnv],
    demonstrations: Any = None,
    evaluate: Callable[[Any], dict[str, np.ndarray]] | None = None,
    tick: Ticker = lambda frames, note="": None,
    keep: Callable[[Any, int], None] | None = None,
) -> State:
    """Train a group of runs and return their stacked state.

    Args:
        problem: The learner's factories.
        config: Sizes and intervals.
        group: Seeds and folders; a group that was killed goes on from its last checkpoint.
        make_env: Builds the group's ``len(seeds) * num_envs`` environments for a generation. They
            are rebuilt with fresh seeds after each checkpoint, so that a resumed run and an
            uninterrupted one see the same episodes.
        demonstrations: Records stacked ``[seed, rows, ...]``, handed to ``problem.draw``.
        evaluate: ``stacked learner -> {metric: [seed]}``.
        tick: Progress display.
        keep: ``(stacked learner, frames)``, called at every checkpoint, before the state is saved.
    """
    num, rows = len(group.seeds), config.num_envs
    keys = jnp.stack([jax.random.key(seed) for seed in group.seeds])
    spec = _spec_of(make_env)
    programs = Programs(problem, spec, rows, demonstrations)
    state = programs.initial(keys, min(config.replay_capacity or config.frames, config.frames))
    updates = config.updates_per_iteration(state.agent.gradient_steps)
    restored, frames, generation = group.restore(jax.tree.map(lambda x: x[0], state))
    state = state if restored is None else restored
    speed = Speed(num)

    def digest(pending: Any, at: int) -> tuple[State, dict[str, jax.Array]]:
        """Store the latest records; once random play is over, learn."""
        if at <= config.random_frames:
            stored = programs.store(state, pending)
            if at + rows > config.random_frames:
                stored = stored._replace(agent=programs.begin(stored, keys))
            return stored, {}
        speed.updates += updates * state.agent.gradient_steps
        return programs.learn(state, pending, keys, at, updates=updates)

    while frames < config.frames:
        env = make_env(generation)
        observation, pending, returns = env.reset(), None, EpisodeReturns(num, rows)
        metrics: dict[str, jax.Array] = {}
        segment_ends = False
        while not segment_ends:
            seen = observation.reshape(num, rows, -1)
            action = np.asarray(
                programs.act(state.agent, seen, keys, frames, random=frames < config.random_frames)
            )
            checked = as_numpy(metrics) | {"action": action.sum((1, 2))}
            group.freeze_non_finite(frames, checked)
            action = np.where(np.isfinite(action), action, 0.0)  # of frozen runs
            if pending is not None:
                # Departs from the paper: `action` came from before this update, so that learning
                # and simulation overlap (decision 0004).
                state, metrics = digest(pending, frames)
            step = env.step(spec.to_env_units(action).reshape(num * rows, -1))
            by_run = Step(*(x.reshape(num, rows, *x.shape[1:]) for x in step))
            pending = problem.record(seen, action, by_run)
            observation, frames = step.observation, frames + rows
            speed.frames += rows
            returns.add(by_run)
            done = frames >= config.frames
            segment_ends = done or crossed(frames, rows, config.checkpoint_interval)
            if segment_ends:
                state, metrics = digest(pending, frames)
            if segment_ends or crossed(frames, rows, config.log_interval):
                group.log(frames, as_numpy(metrics) | returns.take() | speed.take())
                tick(frames, returns.note)
            if evaluate and (done or crossed(frames, rows, config.eval_interval)):
                with speed.paused():
                    group.log(frames, evaluate(state.agent))
        env.close()
        group.freeze_non_finite(frames, as_numpy(metrics))
        generation += 1
        with speed.paused():
            if keep is not None:
                keep(state.agent, frames)
            group.save(state, frames, generation)
    return state


def _spec_of(make_env: Callable[[int], VectorEnv]) -> EnvSpec:
    env = make_env(0)
    env.close()
    return env.spec


def as_numpy(metrics: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    """Metrics on the host, ``[seed]`` each."""
    return {name: np.asarray(value) for name, value in metrics.items()}


class EpisodeReturns:
    """Undiscounted returns of training episodes; they reach the log and nothing else."""

    def __init__(self, num_seeds: int, rows: int):
        self._open = np.zeros((num_seeds, rows))
        self._finished: list[list[float]] = [[] for _ in range(num_seeds)]
        self.note = ""

    def add(self, step: Step) -> None:
        """Count one step, arrays ``[seed, env, ...]``."""
        self._open += step.reward
        for i, j in np.argwhere(step.ended):
            self._finished[i].append(float(self._open[i, j]))
            self._open[i, j] = 0.0

    def take(self) -> dict[str, np.ndarray]:
        """Means since the last call, ``[seed]``; nothing where no episode ended."""
        if not all(self._finished):
            return {}
        means = np.array([np.mean(x) for x in self._finished])
        self._finished = [[] for _ in self._finished]
        self.note = f"return {np.mean(means):.1f}"
        return {"episode/return": means, "train/reward": means}


class Speed:
    """Frames and critic steps per second of training; evaluation and checkpoints do not count.

    Attributes:
        frames: Frames of one run since the last row.
        updates: Critic steps of one run since the last row.
    """

    def __init__(self, num_seeds: int):
        self._num_seeds = num_seeds
        self.frames = self.updates = 0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done meanwhile."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def take(self) -> dict[str, np.ndarray]:
        """Rates since the last call, ``[seed]``; runs that train together share the time."""
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        counts = {"frames_per_s": self.frames, "updates_per_s": self.updates}
        self.frames, self.updates, self._since = 0, 0, now
        return {name: np.full(self._num_seeds, n / seconds) for name, n in counts.items()}
