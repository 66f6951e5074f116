"""Histograms of an iteration's items: what the reference code logs as distributions.

Data flow: prepared items and what is drawn → counts between two ends, on the device → a line of
``histograms.jsonl`` and the sinks.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from steelyard.training.cupid import Felt
from steelyard.training.rollout_items import Prepared

BINS = 32


class Histogram(NamedTuple):
    """Counts in bins of equal width.

    Attributes:
        counts: Valid items in each bin.
        low: Left end of the first.
        high: Right end of the last.
    """

    counts: Float[Array, "*seed bin"]
    low: Float[Array, "*seed"]
    high: Float[Array, "*seed"]


def histogram(values: Float[Array, " item"], valid: Bool[Array, " item"]) -> Histogram:
    """Count the valid values between their least and their largest."""
    low = jnp.min(jnp.where(valid, values, jnp.inf))
    high = jnp.max(jnp.where(valid, values, -jnp.inf))
    width = jnp.where(high > low, high - low, 1.0)
    place = jnp.clip(((values - low) / width * BINS).astype(jnp.int32), 0, BINS - 1)
    counts = jnp.zeros(BINS).at[place].add(valid.astype(jnp.float32))
    return Histogram(counts, low, high)


def histograms(prepared: Prepared, felt: Felt, action_scale: float) -> dict[str, Histogram]:
    """Those of an iteration, by the names of the reference.

    Args:
        prepared: Its items.
        felt: How the actor's updates feel them.
        action_scale: Size of the residual.
    """
    items, valid = prepared.items, prepared.valid
    counts = felt.actor.probabilities * felt.weights
    values = {
        "values": items.value,
        "returns": items.value_target,
        "advantages": prepared.advantage,
        "logprobs": items.log_prob,
        "rewards": prepared.reward,
        "action_norms": action_scale * jnp.sqrt(jnp.sum(items.action**2, axis=1)),
        "importance": counts / jnp.sum(counts),
    }
    return {f"histograms/{name}": histogram(x, valid) for name, x in values.items()}
