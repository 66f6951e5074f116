"""A Gaussian of independent components: log-probability, entropy, and their use in policies."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Actions = Float[Array, "*batch act"]
Spread = Float[Array, " act"]


def log_prob(action: Actions, mean: Actions, log_std: Spread) -> Float[Array, "*batch"]:
    r"""Return ``sum_d -½ ((u_d - μ_d)/σ_d)² - log σ_d - ½ log 2π``."""
    log_std = jnp.broadcast_to(log_std, mean.shape)
    standard = (action - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * standard**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi), axis=-1)


def entropy(log_std: Spread) -> Float[Array, ""]:
    """Return ``sum_d log σ_d + ½ log 2πe``, nats."""
    return jnp.sum(log_std + 0.5 * jnp.log(2.0 * jnp.pi * jnp.e))


def score_of_mean(action: Actions, mean: Actions, log_std: Spread) -> Actions:
    """Return the gradient of :func:`log_prob` by the mean, ``(u - μ)/σ²``."""
    return (action - mean) * jnp.exp(-2.0 * jnp.broadcast_to(log_std, mean.shape))


def log_tanh_slope(pre_tanh: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return ``log(1 - tanh²u) = 2 (log 2 - u - softplus(-2u))``, without cancellation."""
    return 2.0 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2.0 * pre_tanh))
