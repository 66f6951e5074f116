"""The tanh-squashed Gaussian over normalised actions.

Densities are those of the squashed action in ``[-1, 1]``, whatever the task's units, so one target
entropy means one thing everywhere.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.nets.mlp import MLP
from steelyard.numerics.gaussian import log_tanh_slope

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class TanhGaussian(eqx.Module):
    """Policy head: one observation to the mean and log standard deviation before squashing.

    ``log_std = -5 + 3.5 (1 + tanh x)`` lies in ``[-5, 2]`` with a gradient everywhere.
    """

    net: MLP

    def __init__(
        self,
        in_size: int,
        action_size: int,
        hidden: tuple[int, ...],
        key: PRNGKeyArray,
        activation: Callable[[Array], Array] = jax.nn.relu,
    ):
        self.net = MLP(in_size, 2 * action_size, hidden, key=key, activation=activation)

    def __call__(
        self, x: Float[Array, " obs"], dropout: float = 0.0, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " act"], Float[Array, " act"]]:
        """Return ``(mean, log_std)`` of the Gaussian before squashing; dropout as in the MLP."""
        dropping = {} if key is None else {"dropout": dropout, "key": key}
        mean, raw = jnp.split(self.net(x, **dropping), 2)
        half_range = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
        return mean, LOG_STD_MIN + half_range * (1.0 + jnp.tanh(raw))


def tanh_normal_log_prob(
    pre_tanh: Float[Array, " act"], mean: Float[Array, " act"], log_std: Float[Array, " act"]
) -> Float[Array, ""]:
    r"""Log density of ``a = tanh(u)`` at ``u = pre_tanh``, stable for any finite ``u``.

    ``log p(a) = sum_d [ log N(u; mean, std) - 2 (log 2 - u - softplus(-2u)) ]``, where the second
    term is ``log(1 - tanh(u)^2)`` without cancellation.
    """
    noise = (pre_tanh - mean) * jnp.exp(-log_std)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    return jnp.sum(gaussian - log_tanh_slope(pre_tanh))


def sample_tanh_normal(
    mean: Float[Array, " act"], log_std: Float[Array, " act"], noise: Float[Array, " act"]
) -> tuple[Float[Array, " act"], Float[Array, ""]]:
    """Reparametrised draw: ``a = tanh(mean + std * noise)`` and its log density.

    Args:
        mean: Mean before squashing.
        log_std: Log standard deviation before squashing.
        noise: Standard normal noise.

    Returns:
        The action in ``[-1, 1]`` and the scalar log density of it.
    """
    pre_tanh = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    return jnp.tanh(pre_tanh), jnp.sum(gaussian - log_tanh_slope(pre_tanh))


def choose_tanh_normal(
    mean: Float[Array, "*batch act"],
    log_std: Float[Array, "*batch act"],
    key: PRNGKeyArray,
    deterministic: bool,
) -> Float[Array, "*batch act"]:
    """The action of a policy: the squashed mean, or a draw.

    Args:
        mean: Mean before squashing.
        log_std: Log standard deviation before squashing.
        key: Of the draw; ignored without one.
        deterministic: Whether to take the mean.
    """
    if deterministic:
        return jnp.tanh(mean)
    return jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))
