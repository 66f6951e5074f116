"""Arms for the tests of the emphasis on losses, and one compiled program to run them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steelyard.emphasis import LossEmphasis, Tail

ITEMS = 40


def steady(weighting=None, **settings):
    """An arm with its full emphasis from the first step on, and without scale matching."""
    settings = {"warmup": 0.0, "anneal_end": 0.0, "scale_match": False} | settings
    return LossEmphasis(Tail(0.2) if weighting is None else weighting, **settings)


def traced(arm):
    """The arm with all its options as arrays, so that arms share one compiled program."""
    return jax.tree.map(jnp.asarray, arm)


def stacked(arms):
    """Arms of one structure as one arm whose options have a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(traced, arms))


@eqx.filter_jit
def _graded(arm, losses, groups, state, progress):
    def value(x):
        value, after, info = arm(x, groups, state, progress)
        return value, (after, info)

    return jax.value_and_grad(value, has_aux=True)(losses)


def reduce(arm, losses, groups=None, state=None, progress=1.0, padded=True):
    """Return value, gradient in the losses, next state and info.

    Short batches are padded by items that are not finite, so that tests share one compiled program.
    Such items count for nothing: a test of its own, which does not pad, holds the arms to that.
    """
    losses, size = np.asarray(losses, np.float32), len(losses)
    groups = None if groups is None else np.asarray(groups)
    extra = max(ITEMS - size, 0) if padded else 0
    losses = np.pad(losses, (0, extra), constant_values=np.nan)
    groups = None if groups is None else jnp.asarray(np.pad(groups, (0, extra)))
    state = arm.start() if state is None else state
    given = (jnp.asarray(losses), groups, state, jnp.asarray(progress, jnp.float32))
    (value, (after, info)), slope = _graded(traced(arm), *given)
    info = dataclasses.replace(
        info,
        weights=jnp.asarray(np.asarray(info.weights)[:size] * np.float32(size / (size + extra))),
        non_finite=(info.non_finite * (size + extra) - extra) / size,
    )
    return value, np.asarray(slope)[:size], after, info


def near(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), expected, atol=tolerance)
