"""The offline loop: gradient steps on a fixed dataset, in scans, with validation by episode.

Data flow: dataset (on the device) → batches drawn from a distribution → learner → its losses on
held-out episodes → the best learner so far.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from steelyard.numerics.trees import select
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.programs import CREATE, LEARN, fold


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
        draw: ``(data, key, rows) -> (batch, weights or None)``.
        validate: ``(learner, data) -> scalar`` loss on held-out data; none keeps the last learner.
    """

    create: Callable[[Any, PRNGKeyArray], Any]
    draw: Callable[[Any, PRNGKeyArray, int], tuple[Any, Array | None]]
    validate: Callable[[Any, Any], Array] | None


class OfflineState(NamedTuple):
    """All that a group of offline runs needs to go on, stacked ``[seed, ...]``."""

    agent: Any
    best: Any
    best_loss: Array


def train_offline(
    problem: OfflineProblem,
    config: OfflineConfig,
    group: RunGroup,
    data: Any,
    batch_size: int,
    tick: Ticker = lambda step, note="": None,
) -> Any:
    """Train a group of runs on stacked data and return the stacked learner that is kept.

    Args:
        problem: The learner's factories.
        config: Sizes and intervals.
        group: Seeds and folders; a group that was killed goes on from its last checkpoint.
        data: Everything ``draw`` and ``validate`` read, stacked ``[seed, ...]``.
        batch_size: Rows of one batch.
        tick: Progress display.

    Returns:
        The learner of least validation loss, or the last one where nothing is held out.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in group.seeds])

    def one(agent: Any, data: Any, key: PRNGKeyArray, start: Array, steps: int) -> tuple:
        def body(agent: Any, step: Array) -> tuple[Any, dict[str, Array]]:
            draw_key, update_key = jax.random.split(fold(key, LEARN, step))
            batch, weights = problem.draw(data, draw_key, batch_size)
            agent, info = agent.update(batch, update_key, weights)
            return agent, info.metrics

        agent, metrics = jax.lax.scan(body, agent, start + jnp.arange(steps))
        return agent, jax.tree.map(jnp.mean, metrics)

    def advance(
        state: OfflineState, data: Any, keys: Array, start: Array, steps: int
    ) -> tuple[OfflineState, dict[str, Array]]:
        agent, metrics = jax.vmap(one, (0, 0, 0, None, None))(state.agent, data, keys, start, steps)
        if problem.validate is None:
            return OfflineState(agent, agent, state.best_loss), metrics
        loss = jax.vmap(problem.validate)(agent, data)
        best = jax.vmap(select)(loss < state.best_loss, agent, state.best)
        best_loss = jnp.minimum(loss, state.best_loss)
        return OfflineState(agent, best, best_loss), metrics | {"val/loss": loss}

    advance = jax.jit(advance, static_argnums=4)
    agent = jax.jit(jax.vmap(lambda d, k: problem.create(d, fold(k, CREATE, 0))))(data, keys)
    state = OfflineState(agent, agent, jnp.full(len(group.seeds), jnp.inf, jnp.float32))
    restored, step, generation = group.restore(jax.tree.map(lambda x: x[0], state))
    state = state if restored is None else restored
    tick(step)
    while step < config.steps:
        chunk = min(config.log_interval, config.steps - step)
        state, metrics = advance(state, data, keys, step, chunk)
        values = {name: np.asarray(value) for name, value in metrics.items()}
        step += chunk
        group.freeze_non_finite(step, values)
        group.log(step, values)
        tick(step, f"loss {np.mean(values['train/loss']):.2g}" if "train/loss" in values else "")
        interval = config.checkpoint_interval
        due = interval is not None and step // interval > (step - chunk) // interval
        if due or step >= config.steps:
            generation += 1
            group.save(state, step, generation)
    return state.best
