"""Offline reinforcement learning on stored trajectories, drawn as a weighting of them says.

Data flow: stores, and a density ratio over trajectories for critic and policy → chunks of both →
:class:`~steelyard.agents.acfql.ACFQL`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.data.normalisation import Normaliser
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.samplers import Systematic, Table, draw_starts_from
from steelyard.training.checkpoint import stack_runs
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.offline import (
    Judge,
    OfflineConfig,
    OfflineProblem,
    Rotation,
    train_offline,
)
from steelyard.types import ChunkBatch, EnvSpec


@dataclasses.dataclass(frozen=True)
class OfflineRLRun:
    """A run of ACFQL on a fixed set of trajectories."""

    agent: ACFQLConfig = ACFQLConfig()
    """Learner."""
    offline_steps: int = 1_000_000
    """Gradient steps."""
    log_interval: int = 500
    """Gradient steps between rows of metrics."""
    eval_interval: int | None = None
    """Gradient steps between evaluations; none evaluates at the end only."""
    save_interval: int | None = None
    """Gradient steps between checkpoints; none writes one at the end only."""


class Drawing(eqx.Module):
    """What one run draws from; stack them for a group.

    Attributes:
        store: Its trajectories.
        critic: Trajectories for the critic, each as often as its starts and its ratio say.
        actor: Likewise for the policy, which starts anywhere.
        normaliser: Of observations.
    """

    store: TrajectoryStore
    critic: Table
    actor: Table
    normaliser: Normaliser


def drawing(
    store: TrajectoryStore,
    chunk: int,
    normaliser: Normaliser,
    critic_ratio: Float[Array, " item"] | None = None,
    actor_ratio: Float[Array, " item"] | None = None,
) -> Drawing:
    """Prepare the draws of one run.

    Args:
        store: Its trajectories.
        chunk: Steps of a return.
        normaliser: Of observations.
        critic_ratio: Density ratio of each trajectory to the measure of its starts, as a weighting
            returns it; none draws all starts alike. Ratios of 1 give that run bit for bit.
        actor_ratio: Likewise for the policy.

    Raises:
        ValueError: No trajectory has a start that trains the critic.
    """
    starts = store.critic_starts(chunk)
    if int(jnp.sum(starts)) == 0:
        raise ValueError(
            f"every trajectory is shorter than the horizon: the longest has "
            f"{int(jnp.max(store.length))} steps, horizon_length is {chunk}"
        )

    def table(base: Array, ratio: Array | None) -> Table:
        return Systematic().table(base if ratio is None else base * ratio, base)

    return Drawing(
        store,
        table(length_base(starts), critic_ratio),
        table(length_base(store.length), actor_ratio),
        normaliser,
    )


class ChunkDraw(NamedTuple):
    """Chunks for one update, and where they came from.

    Attributes:
        batch: Chunks for critic and policy.
        items: Trajectory of each of the critic's chunks.
        starts: Its first step.
        owed: What each of the critic's chunks owes, 1 where nothing is emphasised.
        actor_owed: The same of the policy's.
    """

    batch: ChunkBatch
    items: Int[Array, " batch"]
    starts: Int[Array, " batch"]
    owed: Float[Array, " batch"]
    actor_owed: Float[Array, " batch"]


def draw_chunks(config: ACFQLConfig, data: Drawing, key: PRNGKeyArray, size: int) -> ChunkDraw:
    """Draw chunks for critic and policy, each from its own distribution.

    Args:
        config: The learner's.
        data: What is drawn from.
        key: Consumed here.
        size: Chunks of each.
    """
    critic_key, actor_key, order_key = jax.random.split(key, 3)
    store, sampler, steps = data.store, Systematic(), config.horizon_length
    # Systematic draws come in order; the critic's tails are filled from half a batch away.
    order = jax.random.permutation(order_key, size)

    def drawn(table: Table, starts: Array, key: PRNGKeyArray, with_next: bool) -> tuple:
        found = draw_starts_from(sampler, table, starts, key, size)
        item, start = found.trajectories[order], found.starts[order]
        part = store.chunks(item, start, steps, config.discount, with_next)
        return part, item, start, found.correction[order]

    weighted = config.use_weighted_target
    critic, item, start, owed = drawn(data.critic, store.critic_starts(steps), critic_key, weighted)
    actor, _, _, actor_owed = drawn(data.actor, store.length, actor_key, False)
    return ChunkDraw(ChunkBatch(critic, actor), item, start, owed, actor_owed)


def train_acfql_offline(
    run: OfflineRLRun,
    spec: EnvSpec,
    group: RunGroup,
    drawings: Sequence[Drawing],
    tick: Ticker = lambda step, note="": None,
    corrected: bool = False,
    evaluate: Callable[[ACFQL], dict[str, np.ndarray]] | None = None,
    rotate: tuple[int, Callable[[int], Sequence[Drawing]]] | None = None,
) -> ACFQL:
    """Train a group of runs, each on its own trajectories; returns the stacked learner.

    Args:
        run: Settings.
        spec: The task's sizes.
        group: Seeds and folders.
        drawings: One per seed, of equal shapes.
        tick: Progress display.
        corrected: Whether losses are weighted by what the draws owe; else an emphasis changes what
            is learned, which is what balancing is for.
        evaluate: ``stacked learner -> {metric: [seed]}``.
        rotate: Steps of a turn, and number of a turn to its drawings, where data take turns.
    """
    config = run.agent

    def create(data: Drawing, key: PRNGKeyArray) -> ACFQL:
        return ACFQL.create(key, spec, config, data.normaliser)

    def draw(
        agent: ACFQL, data: Drawing, key: PRNGKeyArray, rows: int
    ) -> tuple[ChunkBatch, Array | None]:
        found = draw_chunks(config, data, key, rows)
        power = 1.0 if corrected else 0.0
        batch = ChunkBatch(found.batch.critic, found.batch.actor, found.actor_owed**power)
        return batch, found.owed**power

    problem = OfflineProblem(create, draw, None)
    settings = OfflineConfig(run.offline_steps, run.log_interval, run.save_interval)
    stacked = stack_runs(list(drawings))
    judge = Judge(evaluate, run.eval_interval, "offline_agent/")
    rotation = None
    if rotate is not None:
        interval, later = rotate
        rotation = Rotation(interval, lambda turn: stack_runs(list(later(turn))))
    return train_offline(
        problem,
        settings,
        group,
        stacked,
        config.batch_size,
        tick,
        judge=judge,
        rotation=rotation,
    )
