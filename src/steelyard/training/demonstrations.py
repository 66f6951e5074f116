"""Demonstrations on the device, for runs that train together: rows, statistics, distribution."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.external import ExpertReplayBuffer
from steelyard.data.normalisation import Statistics
from steelyard.data.replay import take
from steelyard.emphasis.demonstrations import EmphasisConfig, step_ratios
from steelyard.emphasis.diagnostics import diagnose
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
        ratios: Density ratio of each row to the uniform distribution, whichever way it is felt.
    """

    rows: RewardFreeTransition
    count: Int[Array, "*seed"]
    statistics: Statistics
    table: Table
    weights: Float[Array, "*seed row"]
    ratios: Float[Array, "*seed row"]

    def draw(
        self, key: PRNGKeyArray, size: int
    ) -> tuple[RewardFreeTransition, Float[Array, " batch"]]:
        """Draw rows of one run with replacement, and their weights."""
        indices = Multinomial().draw(self.table, key, size).indices
        return take(self.rows, indices), self.weights[indices]


SNAPSHOT_ROWS = 100_000
"""Rows drawn once from a source that has no length."""

Dataset = Demonstrations | ExpertReplayBuffer


def put_on_device(
    datasets: Sequence[Dataset],
    emphasis: EmphasisConfig | Sequence[EmphasisConfig] = EmphasisConfig(),
    seeds: Sequence[int] | None = None,
    scores: Sequence[Float[np.ndarray, " episode"] | None] | None = None,
) -> DemonstrationRows:
    """Stack one dataset per run along a leading seed axis.

    Args:
        datasets: One per run; shorter ones are padded. An external buffer has no episodes to
            weigh; one without a length is represented by ``SNAPSHOT_ROWS`` draws.
        emphasis: How much each episode counts, in all runs or in each.
        seeds: Seeds of the runs, for clustering; none means zeros.
        scores: Of each run's episodes, where its emphasis says that they are given; else none.
    """
    rows = [_rows(data) for data in datasets]
    longest = max(part.action.shape[0] for part in rows)
    runs = len(datasets)
    emphases = [emphasis] * runs if isinstance(emphasis, EmphasisConfig) else emphasis
    parts = zip(datasets, rows, emphases, seeds or [0] * runs, scores or [None] * runs, strict=True)
    prepared = [
        _prepare(own, _ratios(data, own, how, seed, given), how, longest)
        for data, own, how, seed, given in parts
    ]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *prepared)


def _rows(data: Dataset) -> RewardFreeTransition:
    if isinstance(data, Demonstrations):
        return data.transitions()
    return data.as_transitions() if data.can_materialise else data.draw(SNAPSHOT_ROWS)


def _ratios(
    data: Dataset,
    rows: RewardFreeTransition,
    emphasis: EmphasisConfig,
    seed: int,
    scores: Float[np.ndarray, " episode"] | None,
) -> Float[np.ndarray, " row"]:
    if isinstance(data, Demonstrations):
        return step_ratios(data, emphasis, seed, scores)
    if emphasis.score != "none":
        raise ValueError(
            f"score {emphasis.score!r} weighs episodes, and an external buffer has none; open the "
            "data as Demonstrations, or use score 'none'."
        )
    return np.ones(rows.action.shape[0], np.float32)


def _prepare(
    rows: RewardFreeTransition,
    ratios: Float[np.ndarray, " row"],
    emphasis: EmphasisConfig,
    longest: int,
) -> DemonstrationRows:
    count = rows.action.shape[0]
    pad = longest - count
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
        ratios=jnp.pad(jnp.asarray(ratios), (0, pad)),
    )


def emphasis_report(rows: DemonstrationRows, index: int) -> dict[str, object]:
    """What the emphasis did to one run's demonstrations; see ``emphasis.diagnostics``."""
    ratios = rows.ratios[index, : int(rows.count[index])]
    probabilities = ratios / jnp.sum(ratios)
    found = diagnose(probabilities, ratios)
    return {name: np.asarray(value).tolist() for name, value in found.items()}
