"""Flow matching: a network of velocities that carries noise to data along straight paths.

``x_t = (1 - t) x_0 + t x_1`` with noise ``x_0 ~ N(0, I)`` at ``t = 0`` and data ``x_1`` at
``t = 1``. The network learns ``E[x_1 - x_0 | x_t, c]``; integrating it from noise draws from
``p(x_1 | c)``. Lipman et al. 2022, "Flow Matching for Generative Modeling", arXiv:2210.02747; Liu,
Gong, Liu 2022, "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
Flow", arXiv:2209.03003. Everything here is a function of one item; batch it with ``jax.vmap``.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.nets.mlp import MLP

Velocity: TypeAlias = Callable[[Array, Array, Array], Array]
"""``(x [size], time [], condition [condition]) -> dx/dtime [size]`` of one item."""


class VelocityField(eqx.Module):
    """Velocity of one point at one time under one condition: an MLP of the three end to end.

    Attributes:
        net: The network.
        time_frequencies: Number of Fourier frequencies that time enters by, besides itself.
    """

    net: MLP
    time_frequencies: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        condition_size: int,
        hidden: Sequence[int],
        key: PRNGKeyArray,
        *,
        time_frequencies: int = 0,
        activation: Callable[[Array], Array] = jax.nn.relu,
        layer_norm: bool = False,
    ):
        """Draw the parameters.

        Args:
            size: Components of a point.
            condition_size: Components of the condition, at least 0.
            hidden: Width of each hidden layer.
            key: Random key.
            time_frequencies: See :func:`time_features`; 0 gives the network time alone.
            activation: Elementwise non-linearity.
            layer_norm: As in :class:`~steelyard.nets.mlp.MLP`.

        Raises:
            ValueError: ``time_frequencies`` is negative.
        """
        if time_frequencies < 0:
            raise ValueError(f"time_frequencies must be at least 0, got {time_frequencies}")
        in_size = size + 1 + 2 * time_frequencies + condition_size
        self.net = MLP(in_size, size, hidden, key=key, activation=activation, layer_norm=layer_norm)
        self.time_frequencies = time_frequencies

    def __call__(
        self, x: Float[Array, " size"], time: Float[Array, ""], condition: Float[Array, " cond"]
    ) -> Float[Array, " size"]:
        """Return ``dx/dtime`` at ``x`` and ``time`` in ``[0, 1]``."""
        features = time_features(time, self.time_frequencies)
        return self.net(jnp.concatenate([x, features, condition]))


def time_features(time: Float[Array, ""], frequencies: int) -> Float[Array, " feature"]:
    """Time and its Fourier features, ``(t, cos πkt, sin πkt)`` for ``k = 1 … frequencies``.

    Tancik et al. 2020, "Fourier Features Let Networks Learn High Frequency Functions in Low
    Dimensional Domains", arXiv:2006.10739.

    Args:
        time: In ``[0, 1]``.
        frequencies: How many ``k``; 0 leaves time alone.

    Returns:
        ``1 + 2 frequencies`` numbers.
    """
    phase = jnp.pi * time * jnp.arange(1.0, frequencies + 1.0)
    return jnp.concatenate([time[None], jnp.cos(phase), jnp.sin(phase)])


def straight_path(
    noise: Float[Array, " size"], target: Float[Array, " size"], time: Float[Array, ""]
) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
    """Return the point ``(1 - t) x_0 + t x_1`` and the velocity ``x_1 - x_0`` of the path there."""
    return (1.0 - time) * noise + time * target, target - noise


def flow_errors(
    net: Velocity,
    target: Float[Array, " size"],
    condition: Float[Array, " cond"],
    key: PRNGKeyArray,
) -> Float[Array, " size"]:
    """Squared error of the velocity in each component, at one random time of one random path.

    Their mean is :func:`flow_loss`; apart they can be masked. Items that are given the same key
    share time and noise.

    Args:
        net: Velocity field.
        target: Data ``x_1``.
        condition: What the data depend on.
        key: Random key of the time, uniform in ``[0, 1)``, and of the noise.

    Returns:
        ``(v(x_t, t, c) - (x_1 - x_0))²``.
    """
    time_key, noise_key = jax.random.split(key)
    time = jax.random.uniform(time_key)
    noise = jax.random.normal(noise_key, target.shape)
    point, velocity = straight_path(noise, target, time)
    return (net(point, time, condition) - velocity) ** 2


def flow_loss(
    net: Velocity,
    target: Float[Array, " size"],
    condition: Float[Array, " cond"],
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Conditional flow-matching loss of one item: the mean of :func:`flow_errors`.

    Lipman et al. 2022, eq. 14 and 23 with σ_min = 0. It is not 0 at the best network: what is left
    is the variance of ``x_1 - x_0`` given ``x_t``.
    """
    return jnp.mean(flow_errors(net, target, condition, key))


def integrate(
    net: Velocity, noise: Float[Array, " size"], condition: Float[Array, " cond"], steps: int
) -> Float[Array, " size"]:
    """Carry noise at time 0 to data at time 1 by Euler's rule with equal steps.

    ``x ← x + v(x, k/K, c) / K`` for ``k = 0 … K - 1``; its error is of first order in ``1/K``.

    Args:
        net: Velocity field.
        noise: Where the path starts, drawn from ``N(0, I)``; zeros give one fixed item.
        condition: What the data depend on.
        steps: ``K``, at least 1.

    Raises:
        ValueError: ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps of the integration must be at least 1, got {steps}")

    def body(x: Array, time: Array) -> tuple[Array, None]:
        return x + net(x, time, condition) / steps, None

    return jax.lax.scan(body, noise, jnp.arange(steps) / steps)[0]
