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
    critics: Callable,
    observation: Float[Array, " obs"],
    action: Float[Array, " act"],
    dropout: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " critic"]:
    """Value of one normalised observation and action under every critic of an ensemble.

    Args:
        critics: The ensemble.
        observation: Normalised observation.
        action: Action in ``[-1, 1]``.
        dropout: Share of hidden units that are left out; see ``MLP``.
        key: Random key of them, folded with each critic's number; none leaves nothing out.
    """
    x = jnp.concatenate([observation, action])
    if dropout == 0.0 or key is None:
        return apply_ensemble(critics, x)[:, 0]
    count = jax.tree.leaves(eqx.filter(critics, eqx.is_array))[0].shape[0]
    each = eqx.filter_vmap(
        lambda net, k: net(x, dropout=dropout, key=k)[0], in_axes=(eqx.if_array(0), 0)
    )
    return each(critics, jax.random.split(key, count))
