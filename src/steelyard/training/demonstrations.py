"""Demonstrations on the device, for runs that train together: rows, statistics, distribution."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.normalisation import Statistics
from steelyard.data.replay import take
from steelyard.emphasis.demonstrations import EmphasisConfig, step_ratios
from steelyard.emphasis.samplers import Multinomial, Table
from steelyard.types import RewardFreeTransition


class DemonstrationRows(eqx.Module):
    """One run's demonstrated steps and how much each counts; stack them for a group.

    Attributes:
        rows: All steps; rows from ``count`` on are padding, which is never drawn.
        count: Steps.
        statistics: Of the observations.
        table: The distribution that batches are drawn from.
        weights: How much a drawn row counts in a loss, mean one.
    """

    rows: RewardFreeTransition
    count: Int[Array, "*seed"]
    statistics: Statistics
    table: Table
    weights: Float[Array, "*seed row"]

    def draw(
        self, key: PRNGKeyArray, size: int
    ) -> tuple[RewardFreeTransition, Float[Array, " batch"]]:
        """Draw rows of one run with replacement, and their weights."""
        indices = Multinomial().draw(self.table, key, size).indices
        return take(self.rows, indices), self.weights[indices]


def put_on_device(
    datasets: Sequence[Demonstrations],
    emphasis: EmphasisConfig = EmphasisConfig(),
    seeds: Sequence[int] | None = None,
) -> DemonstrationRows:
    """Stack one dataset per run along a leading seed axis.

    Args:
        datasets: One per run; shorter ones are padded.
        emphasis: How much each episode counts.
        seeds: Seeds of the runs, for clustering; none means zeros.
    """
    longest = max(data.num_steps for data in datasets)
    prepared = [
        _prepare(data, emphasis, seed, longest)
        for data, seed in zip(datasets, seeds or [0] * len(datasets), strict=True)
    ]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *prepared)


def _prepare(
    data: Demonstrations, emphasis: EmphasisConfig, seed: int, longest: int
) -> DemonstrationRows:
    count, pad = data.num_steps, longest - data.num_steps
    ratios = step_ratios(data, emphasis, seed)
    rows = data.transitions()
    uniform = np.full(count, 1.0 / count, np.float32)
    through_batches = emphasis.through == "batches"
    probabilities = uniform * ratios if through_batches else uniform
    weights = np.ones_like(ratios) if through_batches else ratios
    return DemonstrationRows(
        rows=jax.tree.map(lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)), rows),
        count=jnp.asarray(count, jnp.int32),
        statistics=Statistics.of(rows.observation),
        table=Multinomial().table(jnp.pad(jnp.asarray(probabilities), (0, pad))),
        weights=jnp.pad(jnp.asarray(weights), (0, pad)),
    )
