"""The offline loop: gradient steps on a fixed dataset, in scans, with validation by episode.

Data flow: dataset (on the device) → batches drawn from a distribution → learner → its losses on
held-out episodes → the best learner so far.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from steelyard.numerics.trees import select
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.programs import CREATE, LEARN, fold
from steelyard.training.sharding import spread


@dataclasses.dataclass(frozen=True)
class OfflineConfig:
    """How many gradient steps, and when progress is measured and kept."""

    steps: int = 6_000
    """Gradient steps."""
    log_interval: int = 250
    """Steps between rows of metrics, and between validations; the steps of one compiled scan."""
    checkpoint_interval: int | None = None
    """Steps between checkpoints; none writes one at the end only."""


class OfflineProblem(NamedTuple):
    """The factories that tie one learner to its dataset.

    Attributes:
        create: ``(data, key) -> learner``.
        draw: ``(learner, data, key, rows) -> (batch, weights or None)``; what a learner remembers
            of its items may decide which are drawn.
        validate: ``(learner, data) -> metrics`` on held-out data, of which ``val/loss`` chooses the
            learner that is kept; none keeps the last learner.

    ``data`` is what :func:`train_offline` was given: a run's own, or the pair of what all runs
    share and a run's own.
    """

    create: Callable[[Any, PRNGKeyArray], Any]
    draw: Callable[[Any, Any, PRNGKeyArray, int], tuple[Any, Array | None]]
    validate: Callable[[Any, Any], dict[str, Array]] | None


class OfflineState(NamedTuple):
    """All that a group of offline runs needs to go on, stacked ``[seed, ...]``."""

    agent: Any
    best: Any
    best_loss: Array


class Judge(NamedTuple):
    """What is measured beside the losses.

    Attributes:
        evaluate: ``stacked learner -> {metric: [seed]}``; none evaluates nothing.
        interval: Steps between evaluations; none evaluates at the end only.
        prefix: Stands before the names of the learner's metrics.
    """

    evaluate: Callable[[Any], dict[str, np.ndarray]] | None = None
    interval: int | None = None
    prefix: str = ""


class Rotation(NamedTuple):
    """Data that are too large to be held at once, and take turns.

    Attributes:
        interval: Steps that each takes.
        data: Number of the turn to what ``draw`` reads in it, stacked, of equal shapes.
    """

    interval: int
    data: Callable[[int], Any]


Pack = Literal["vmap", "map"]


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like ``jax.vmap``, but one run after the other."""
    return lambda *stacked: jax.lax.map(lambda own: function(*own), stacked)


OVER_RUNS: dict[Pack, Callable[..., Any]] = {"vmap": jax.vmap, "map": _one_by_one}


def train_offline(
    problem: OfflineProblem,
    config: OfflineConfig,
    group: RunGroup,
    data: Any,
    batch_size: int,
    tick: Ticker = lambda step, note="": None,
    *,
    shared: Any = None,
    pack: Pack = "vmap",
    judge: Judge = Judge(),
    rotation: Rotation | None = None,
) -> Any:
    """Train a group of runs on stacked data and return the stacked learner that is kept.

    Args:
        problem: The learner's factories.
        config: Sizes and intervals.
        group: Seeds and folders; a group that was killed goes on from its last checkpoint.
        data: Everything ``draw`` and ``validate`` read, stacked ``[seed, ...]``.
        batch_size: Rows of one batch.
        tick: Progress display.
        shared: What all runs read alike, kept once; the problem's functions then get the pair
            ``(shared, own)``.
        pack: How the runs share one program: all in one batch (``vmap``, for a GPU, and on a CPU
            for narrow networks), or one after the other (``map``, else on a CPU).
        judge: What is measured beside the losses.
        rotation: What takes the place of ``data``, turn by turn, after the first turn.

    Returns:
        The learner of least validation loss, or the last one where nothing is held out.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in group.seeds])
    over_runs = OVER_RUNS[pack]

    def one(
        state: OfflineState, data: Any, key: PRNGKeyArray, start: Array, steps: int
    ) -> tuple[OfflineState, dict[str, Array], dict[str, Array]]:
        def body(agent: Any, step: Array) -> tuple[Any, dict[str, Array]]:
            draw_key, update_key = jax.random.split(fold(key, LEARN, step))
            batch, weights = problem.draw(agent, data, draw_key, batch_size)
            agent, info = agent.update(spread(batch), update_key, spread(weights))
            return agent, info.metrics

        agent, metrics = jax.lax.scan(body, state.agent, start + jnp.arange(steps))
        metrics = jax.tree.map(jnp.mean, metrics)
        if problem.validate is None:
            return OfflineState(agent, agent, state.best_loss), metrics, {}
        held_out = problem.validate(agent, data)
        loss = held_out["val/loss"]
        best = select(loss < state.best_loss, agent, state.best)
        best_loss = jnp.minimum(loss, state.best_loss)
        return OfflineState(agent, best, best_loss), metrics, held_out

    def advance(
        state: OfflineState, data: Any, shared: Any, keys: Array, start: Array, steps: int
    ) -> tuple[OfflineState, dict[str, Array], dict[str, Array]]:
        def of_run(state: OfflineState, data: Any, key: PRNGKeyArray) -> tuple:
            return one(state, data if shared is None else (shared, data), key, start, steps)

        return over_runs(of_run)(state, data, keys)

    def create(data: Any, shared: Any, keys: Array) -> Any:
        def of_run(data: Any, key: PRNGKeyArray) -> Any:
            return problem.create(data if shared is None else (shared, data), fold(key, CREATE, 0))

        return over_runs(of_run)(data, keys)

    advance = jax.jit(advance, static_argnums=5)
    agent = jax.jit(create)(data, shared, keys)
    state = OfflineState(agent, agent, jnp.full(len(group.seeds), jnp.inf, jnp.float32))
    restored, step, generation = group.restore(jax.tree.map(lambda x: x[0], state))
    state = state if restored is None else restored
    tick(step)
    turn = 0
    while step < config.steps:
        chunk = min(config.log_interval, config.steps - step)
        if rotation is not None:
            chunk = min(chunk, rotation.interval - step % rotation.interval)
            if step // rotation.interval != turn:
                turn = step // rotation.interval
                data = rotation.data(turn)
        state, metrics, held_out = advance(state, data, shared, keys, step, chunk)
        values = {judge.prefix + name: np.asarray(value) for name, value in metrics.items()}
        step += chunk
        # A held-out loss that is not finite is never the least; the run itself may go on.
        group.freeze_non_finite(step, values)
        values |= {name: np.asarray(value) for name, value in held_out.items()}
        group.log(step, values)
        tick(step, f"loss {np.mean(values['train/loss']):.2g}" if "train/loss" in values else "")
        ends = step >= config.steps
        if judge.evaluate is not None and (ends or crossed(step, chunk, judge.interval)):
            group.log(step, judge.evaluate(state.agent))
        if ends or crossed(step, chunk, config.checkpoint_interval):
            generation += 1
            group.save(state, step, generation)
    return state.best


def crossed(steps: int, done: int, interval: int | None) -> bool:
    """Whether the last ``done`` of ``steps`` steps reached a multiple of ``interval``."""
    return interval is not None and steps // interval > (steps - done) // interval
