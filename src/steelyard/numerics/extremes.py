"""Extremes whose slope belongs to one entry, however the program is compiled.

JAX's own minimum shares its slope among the entries that equal it. A compiler may compute these
entries once more, with other rounding, where the slope is taken: then none equals the minimum, and
the slope is 0/0. Here an entry is chosen by its place, and no value is compared with a copy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def lowest(values: Float[Array, " n"]) -> Float[Array, ""]:
    """The least of some values; its slope is that of the first of them. NaN where one is NaN."""
    return _at(values, jnp.argmin(jax.lax.stop_gradient(values)))


def highest(values: Float[Array, " n"]) -> Float[Array, ""]:
    """The greatest of some values; its slope is that of the first of them. NaN where one is NaN."""
    return _at(values, jnp.argmax(jax.lax.stop_gradient(values)))


def higher(one: Float[Array, "*shape"], other: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The greater of two, entry by entry; where they are alike, the slope is that of ``one``."""
    return jnp.where(one >= other, one, other)


def _at(values: Float[Array, " n"], place: Array) -> Float[Array, ""]:
    # Exact: all other terms are zero.
    return jnp.sum(jnp.where(jnp.arange(values.shape[0]) == place, values, 0.0))
