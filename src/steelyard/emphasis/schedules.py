"""Schedules: how an emphasis grows from none to its full sharpness over a run."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from steelyard.emphasis.checks import Scalar


def ramp(progress: Scalar, warmup: Scalar, anneal_end: Scalar) -> Float[Array, ""]:
    """Return how much of the emphasis is on: 0 before ``warmup``, 1 from ``anneal_end``.

    Args:
        progress: Share of the run's steps that are done, in [0, 1].
        warmup: Share of the run without emphasis.
        anneal_end: Share of the run from which the emphasis is full, >= ``warmup``; equal to it
            for a jump, both 0 for full emphasis from the first step.

    Returns:
        A number in [0, 1], linear in between, exactly 0 and 1 at the ends.
    """
    progress, warmup, anneal_end = (
        jnp.asarray(x, jnp.float32) for x in (progress, warmup, anneal_end)
    )
    length = anneal_end - warmup
    between = jnp.clip((progress - warmup) / jnp.where(length > 0, length, 1.0), 0.0, 1.0)
    return jnp.where(progress >= anneal_end, 1.0, between)


def geometric(final: Scalar, share: Float[Array, ""]) -> Float[Array, ""]:
    """Return ``final^share``: from 1 to ``final`` by equal factors.

    Args:
        final: The value at ``share`` 1, > 0.
        share: How far, in [0, 1]; see :func:`ramp`.

    Returns:
        Exactly 1 at share 0 and exactly ``final`` at share 1.
    """
    final = jnp.asarray(final, jnp.float32)
    between = jnp.exp(share * jnp.log(final))
    return jnp.where(share <= 0, 1.0, jnp.where(share >= 1, final, between))
