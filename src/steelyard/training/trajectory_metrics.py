"""What was drawn, in numbers for the log: `ptr/sample_online/*`."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.diagnostics import diagnose
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.samplers import Table
from steelyard.training.offline_rl import ChunkDraw

PREFIX = "ptr/sample_online/"
DRAW_METRICS = (
    "rel_start_mean",
    "rel_start_std",
    "seg_return_mean",
    "seg_return_std",
    "r_last_mean",
    "success_traj_ratio",
    "prior_mean",
    "prior_std",
    "online_share",
    "ess",
    "perplexity",
    "touched_share",
    "correction_max",
    "score_td_correlation",
    "age_mean",
)
"""What :func:`draw_metrics` tells, behind ``PREFIX``."""


def draw_metrics(
    found: ChunkDraw,
    store: TrajectoryStore,
    table: Table,
    scores: Float[Array, " item"],
    errors: Float[Array, " batch"],
    weights: Float[Array, " batch"],
) -> dict[str, Float[Array, ""]]:
    """Describe the critic's batch of one run.

    Args:
        found: What was drawn.
        store: From where.
        table: How likely each trajectory was.
        scores: The trajectories' priorities.
        errors: TD errors of the batch.
        weights: What its losses were weighted with.
    """
    item, chunk = found.items, found.batch.critic.mask.shape[1]
    length = jnp.maximum(store.length[item] - 1, 1)
    relative = found.starts / length
    last = store.offset[item] + jnp.minimum(found.starts + chunk, store.length[item]) - 1
    new, order = store.new[item], store.order
    age = jnp.max(order) - order[item]
    chance = table.probabilities
    base = length_base(store.critic_starts(chunk))
    shape = diagnose(chance, scores, base > 0, base, item)
    own = scores[item]
    centred = (own - jnp.mean(own)), (errors - jnp.mean(errors))
    spread = jnp.sqrt(jnp.sum(centred[0] ** 2) * jnp.sum(centred[1] ** 2))
    values = {
        "rel_start_mean": jnp.mean(relative),
        "rel_start_std": jnp.std(relative),
        "seg_return_mean": jnp.mean(found.batch.critic.reward),
        "seg_return_std": jnp.std(found.batch.critic.reward),
        "r_last_mean": jnp.mean(store.reward[last]),
        "success_traj_ratio": jnp.mean(store.success[item]),
        "prior_mean": jnp.mean(chance[item]),
        "prior_std": jnp.std(chance[item]),
        "online_share": jnp.mean(new),
        "ess": shape["ess"],
        "perplexity": shape["perplexity"],
        "touched_share": shape["touched_share"],
        "correction_max": jnp.max(weights),
        "score_td_correlation": jnp.sum(centred[0] * centred[1]) / jnp.maximum(spread, 1e-12),
        "age_mean": jnp.sum(jnp.where(new, age, 0)) / jnp.maximum(jnp.sum(new), 1),
    }
    return {PREFIX + name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
