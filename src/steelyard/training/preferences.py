"""How learners from judgements are trained: what they draw, what is held out, when one stops.

Data flow: segments, pairs and rated rows on the device → a batch of pairs, or all pairs among a
batch of segments → :class:`~steelyard.agents.cpl.CPL`, a learned reward, or IQL on it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.agents.cpl import CPL, CPLConfig
from steelyard.agents.piql import PIQL, PIQLConfig, PreferenceReward, RewardConfig
from steelyard.data.normalisation import Normaliser, Statistics
from steelyard.data.preferences import Pairs, Ratings
from steelyard.data.segments import Segments
from steelyard.emphasis.samplers import Systematic, Table
from steelyard.nets import TanhGaussian
from steelyard.training.checkpoint import stack_runs
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.offline import Judge, OfflineConfig, OfflineProblem, train_offline
from steelyard.types import EnvSpec, PreferenceBatch, Segment, Transition


@dataclasses.dataclass(frozen=True)
class CPLRun:
    """A run of contrastive preference learning on judged segments."""

    agent: CPLConfig = CPLConfig()
    """Learner."""
    steps: int = 1_000
    """Gradient steps."""
    log_interval: int = 100
    """Gradient steps between rows of metrics."""
    eval_interval: int | None = None
    """Gradient steps between evaluations; none evaluates at the end only."""
    checkpoint_interval: int | None = None
    """Gradient steps between checkpoints; none writes one at the end only."""
    early_stop: bool = False
    """Whether the learner of least held-out loss is kept, where pairs are held out."""
    guard_drop: float = 0.5
    """How far the mean log-likelihood of better segments may fall before a learner is not kept."""


class PreferenceData(eqx.Module):
    """What one run draws from; stack them for a group.

    Attributes:
        segments: ``[item, time, ...]``.
        winner: Better segment of each pair.
        loser: The other.
        label: Probability that the first is better.
        pair_table: What pairs are drawn with.
        row_segment: Segment of each rated row; one annotator's rating is one row.
        row_rating: Its rating.
        row_group: Rows of one group are compared.
        row_cloned: How much a row counts where segments are cloned.
        row_table: What rows are drawn with.
        held: Held-out pairs' better and other segment, label, and 1 where there is a pair.
        normaliser: Of observations.
    """

    segments: Segment
    winner: Int[Array, " pair"]
    loser: Int[Array, " pair"]
    label: Float[Array, " pair"]
    pair_table: Table
    row_segment: Int[Array, " row"]
    row_rating: Float[Array, " row"]
    row_group: Int[Array, " row"]
    row_cloned: Float[Array, " row"]
    row_table: Table
    held: tuple[Int[Array, " held"], Int[Array, " held"], Float[Array, " held"], Array]
    normaliser: Normaliser


def on_device(segments: Segments) -> Segment:
    """Segments as learners read them."""
    return Segment(
        jnp.asarray(segments.observation),
        jnp.asarray(segments.action),
        jnp.asarray(segments.valid),
        jnp.asarray(segments.behaviour_logp),
    )


def segment_normaliser(segments: Segments) -> Normaliser:
    """Normaliser of the observations of all valid steps."""
    return Statistics.of(jnp.asarray(segments.observation[segments.valid])).normaliser()


def preference_data(
    segments: Segments,
    pairs: Pairs | None,
    normaliser: Normaliser,
    ratings: Ratings | None = None,
    held: Pairs | None = None,
    pair_ratio: Float[np.ndarray, " pair"] | None = None,
    cloned: Float[np.ndarray, " item"] | None = None,
    sizes: tuple[int, int, int] | None = None,
) -> PreferenceData:
    """Put what a run draws from on the device.

    Args:
        segments: All of them.
        pairs: To learn from; none where segments are only cloned.
        normaliser: Of observations.
        ratings: Rated rows, for batches of segments; those of held-out segments left out.
        held: Held-out pairs.
        pair_ratio: Density ratio of each pair to the uniform measure, as a weighting returns it.
        cloned: How often each segment is cloned, where rows are drawn to be cloned; rows are then
            these segments and no ratings are read.
        sizes: Least numbers of pairs, rows and held-out pairs, so that runs can be stacked; what is
            added is never drawn.
    """
    least = sizes or (0, 0, 0)
    segment, rating, group, share = _rows(segments, ratings, cloned)
    nothing = np.zeros(1, int), np.ones(1, int), np.ones(1), np.ones(1), np.zeros(1, int)
    pairs = Pairs(*nothing, ("",)) if pairs is None else pairs
    base = np.full(len(pairs), 1.0 / len(pairs), np.float32)
    probability = base if pair_ratio is None else (base * pair_ratio).astype(np.float32)
    held_rows = _held(held, least[2])
    return PreferenceData(
        segments=on_device(segments),
        winner=_padded(pairs.winner, least[0], np.int32),
        loser=_padded(pairs.loser, least[0], np.int32),
        label=_padded(pairs.label, least[0], np.float32),
        pair_table=Systematic().table(
            _padded(probability, least[0], np.float32), _padded(base, least[0], np.float32)
        ),
        row_segment=_padded(segment, least[1], np.int32),
        row_rating=_padded(rating, least[1], np.float32),
        row_group=_padded(group, least[1], np.int32),
        row_cloned=_padded(np.ones(len(segment)), least[1], np.float32),
        row_table=Systematic().table(_padded(share, least[1], np.float32)),
        held=held_rows,
        normaliser=normaliser,
    )


def _rows(
    segments: Segments, ratings: Ratings | None, cloned: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Segment, rating, group and share of each row that a batch of segments is drawn from."""
    if cloned is not None:
        which = np.flatnonzero(cloned > 0)
        share = cloned[which] / cloned[which].sum()
        return which, np.zeros(len(which)), np.zeros(len(which), int), share
    if ratings is None or len(ratings) == 0:
        everyone = np.arange(len(segments))
        return (
            everyone,
            np.zeros(len(everyone)),
            everyone,
            np.full(len(everyone), 1 / len(everyone)),
        )
    windows = int(segments.window.max()) + 1
    group = ratings.annotator * windows + segments.window[ratings.segment]
    return ratings.segment, ratings.rating, group, np.full(len(ratings), 1.0 / len(ratings))


def _padded(values: np.ndarray, least: int, dtype: Any) -> Array:
    """Values, and zeros up to a length."""
    missing = max(least - len(values), 0)
    return jnp.asarray(np.pad(np.asarray(values), (0, missing)).astype(dtype))


def _held(held: Pairs | None, least: int) -> tuple[Array, Array, Array, Array]:
    if held is None:
        none, nothing = np.zeros(0, int), np.zeros(0)
        held = Pairs(none, none, nothing, nothing, none, ())
    there = np.ones(len(held))
    least = max(least, 1)
    return (
        _padded(held.winner, least, np.int32),
        _padded(held.loser, least, np.int32),
        _padded(held.label, least, np.float32),
        _padded(there, least, np.float32),
    )


def draw_preferences(
    pairs: str, bc_data: str, data: PreferenceData, key: PRNGKeyArray, size: int
) -> tuple[PreferenceBatch, Array]:
    """Draw a batch, and how much each of its pairs counts.

    Args:
        pairs: ``explicit``: ``size`` pairs, and what each owes; ``in_batch``: ``size`` rated rows
            and all pairs among them, 0 for those that may not be compared.
        bc_data: ``all`` segments of a batch are cloned, or ``pos``: the better of each pair.
        data: What is drawn from.
        key: Consumed here.
        size: Pairs or rows.
    """
    take = lambda items: jax.tree.map(lambda x: x[items], data.segments)  # noqa: E731
    if pairs == "explicit":
        drawn = Systematic().draw(data.pair_table, key, size)
        winner, loser = data.winner[drawn.indices], data.loser[drawn.indices]
        label = data.label[drawn.indices]
        places = jnp.arange(size)
        cloned = jnp.ones(2 * size)
        if bc_data == "pos":
            cloned = jnp.concatenate([jnp.ones(size), (label == 0.5).astype(jnp.float32)])
        segments = take(jnp.concatenate([winner, loser]))
        batch = PreferenceBatch(segments, places, size + places, label, cloned)
        return batch, drawn.correction
    rows = Systematic().draw(data.row_table, key, size).indices
    items, rating, group = data.row_segment[rows], data.row_rating[rows], data.row_group[rows]
    first, second = jnp.triu_indices(size, 1)
    better = rating[first] >= rating[second]
    winner, loser = jnp.where(better, first, second), jnp.where(better, second, first)
    label = jnp.where(rating[first] == rating[second], 0.5, 1.0)
    comparable = (group[first] == group[second]) & (items[first] != items[second])
    batch = PreferenceBatch(take(items), winner, loser, label, data.row_cloned[rows])
    return batch, comparable.astype(jnp.float32)


def train_cpl(
    run: CPLRun,
    spec: EnvSpec,
    group: RunGroup,
    data: Sequence[PreferenceData],
    actors: Sequence[TanhGaussian] | None = None,
    tick: Ticker = lambda step, note="": None,
    evaluate: Callable[[CPL], dict[str, np.ndarray]] | None = None,
    bc_data: str = "all",
) -> CPL:
    """Train a group of runs, each on its own judgements; returns the stacked learner that is kept.

    Args:
        run: Settings.
        spec: The task's sizes.
        group: Seeds and folders.
        data: One per seed.
        actors: The pretrained policies to tune; none draws policies.
        tick: Progress display.
        evaluate: ``stacked learner -> {metric: [seed]}``.
        bc_data: Which segments of a batch are cloned, ``all`` or ``pos``.
    """
    config = run.agent

    def create(data: tuple[PreferenceData, Any], key: PRNGKeyArray) -> CPL:
        return CPL.create(key, spec, config, data[0].normaliser, data[1])

    def draw(
        agent: CPL, data: tuple[PreferenceData, Any], key: PRNGKeyArray, rows: int
    ) -> tuple[PreferenceBatch, Array]:
        return draw_preferences(config.pairs, bc_data, data[0], key, rows)

    def validate(agent: CPL, data: tuple[PreferenceData, Any]) -> dict[str, Array]:
        batch, there = held_out_batch(data[0])
        told = agent.judge(batch, there)
        start = eqx.tree_at(lambda a: a.actor, agent, agent.reference).judge(batch, there)
        fallen = start["heldout/preferred_logprobs_mean"] - told["heldout/preferred_logprobs_mean"]
        kept = jnp.where(fallen > run.guard_drop, jnp.inf, told["heldout/loss"])
        return {"val/loss": kept, **told}

    stacked = stack_runs(list(data)), None if actors is None else stack_runs(list(actors))
    watched = bool(np.asarray(stacked[0].held[3]).sum())
    judged = validate if watched and run.early_stop else None
    settings = OfflineConfig(run.steps, run.log_interval, run.checkpoint_interval)
    evaluated = evaluate
    if watched and judged is None:
        evaluated = _with_held_out(evaluate, stacked[0])
    return train_offline(
        OfflineProblem(create, draw, judged),
        settings,
        group,
        stacked,
        config.batch_size,
        tick,
        judge=Judge(evaluated, run.eval_interval),
    )


def held_out_batch(data: PreferenceData) -> tuple[PreferenceBatch, Array]:
    """All held-out pairs of a run, and 1 where there is one."""
    winner, loser, label, there = data.held
    count = winner.shape[0]
    places = jnp.arange(count)
    segments = jax.tree.map(lambda x: x[jnp.concatenate([winner, loser])], data.segments)
    return PreferenceBatch(segments, places, count + places, label, jnp.ones(2 * count)), there


def _with_held_out(
    evaluate: Callable[[CPL], dict[str, np.ndarray]] | None, data: PreferenceData
) -> Callable[[CPL], dict[str, np.ndarray]]:
    """An evaluation that also tells of the held-out pairs."""
    told = jax.jit(jax.vmap(lambda agent, own: agent.judge(*held_out_batch(own))))

    def both(agents: CPL) -> dict[str, np.ndarray]:
        found = {name: np.asarray(values) for name, values in told(agents, data).items()}
        return found | (evaluate(agents) if evaluate is not None else {})

    return both


def train_reward(
    config: RewardConfig,
    steps: int,
    spec: EnvSpec,
    group: RunGroup,
    data: Sequence[PreferenceData],
    tick: Ticker = lambda step, note="": None,
    log_interval: int = 100,
) -> PreferenceReward:
    """Train a group of rewards on comparisons; returns the stacked ensembles."""

    def create(data: PreferenceData, key: PRNGKeyArray) -> PreferenceReward:
        return PreferenceReward.create(key, spec, config, data.normaliser)

    def draw(
        agent: PreferenceReward, data: PreferenceData, key: PRNGKeyArray, rows: int
    ) -> tuple[PreferenceBatch, Array]:
        return draw_preferences(config.pairs, "all", data, key, rows)

    problem = OfflineProblem(create, draw, None)
    settings = OfflineConfig(steps, log_interval)
    stacked = stack_runs(list(data))
    return train_offline(problem, settings, group, stacked, config.batch_size, tick)


def relabelled(
    reward: PreferenceReward, segments: Segments, normaliser: Normaliser
) -> tuple[Transition, Normaliser]:
    """Transitions of all segments with the learned reward, of unit standard deviation.

    A segment's last step has no successor in it and is left out, unless the task ended there.
    """
    observation, action = jnp.asarray(segments.observation), jnp.asarray(segments.action)
    rewards = jax.jit(jax.vmap(lambda o, a: jnp.mean(reward.reward(o, a), axis=1)))(
        observation, action
    )
    after = np.concatenate([segments.observation[:, 1:], segments.last_observation[:, None]], 1)
    followed = np.zeros_like(segments.valid)
    followed[:, :-1] = segments.valid[:, 1:]
    kept = segments.valid & (followed | segments.terminated)
    own = np.asarray(rewards)[kept]
    # Departs from the paper: the learned reward has no unit, so it is given one.
    own = own / max(float(own.std()), 1e-6)
    rows = Transition(
        jnp.asarray(segments.observation[kept]),
        jnp.asarray(segments.action[kept]),
        jnp.asarray(own),
        jnp.asarray(segments.terminated[kept]),
        jnp.asarray(after[kept]),
    )
    return rows, normaliser


def train_piql(
    config: PIQLConfig,
    steps: int,
    spec: EnvSpec,
    group: RunGroup,
    data: Sequence[tuple[Transition, Normaliser]],
    actors: Sequence[TanhGaussian] | None = None,
    tick: Ticker = lambda step, note="": None,
    log_interval: int = 100,
) -> PIQL:
    """Train a group of runs on relabelled transitions; returns the stacked learner."""

    def create(data: tuple[Any, Any], key: PRNGKeyArray) -> PIQL:
        (_, normaliser), actor = data
        return PIQL.create(key, spec, config, normaliser, actor)

    def draw(
        agent: PIQL, data: tuple[Any, Any], key: PRNGKeyArray, rows: int
    ) -> tuple[Transition, None]:
        (transitions, _), _ = data
        which = jax.random.randint(key, (rows,), 0, transitions.reward.shape[0])
        return jax.tree.map(lambda x: x[which], transitions), None

    stacked = stack_runs(list(data)), None if actors is None else stack_runs(list(actors))
    problem = OfflineProblem(create, draw, None)
    settings = OfflineConfig(steps, log_interval)
    return train_offline(problem, settings, group, stacked, config.batch_size, tick)
