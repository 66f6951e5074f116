"""Several networks of one shape as one stacked pytree."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Net = TypeVar("Net")


def make_ensemble(create: Callable[[PRNGKeyArray], Net], count: int, key: PRNGKeyArray) -> Net:
    """Create ``count`` independent networks, every array stacked along a new leading axis."""
    return eqx.filter_vmap(create)(jax.random.split(key, count))


def apply_ensemble(nets: Callable, x: Float[Array, "..."]) -> Float[Array, "net ..."]:
    """Apply every member of a stacked ensemble to the same item; outputs stack in front."""
    return eqx.filter_vmap(lambda net, item: net(item), in_axes=(eqx.if_array(0), None))(nets, x)


def q_values(
    critics: Callable, observation: Float[Array, " obs"], action: Float[Array, " act"]
) -> Float[Array, " critic"]:
    """Value of one normalised observation and action under every critic of an ensemble."""
    return apply_ensemble(critics, jnp.concatenate([observation, action]))[:, 0]
