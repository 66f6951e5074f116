"""A multi-layer perceptron of one item."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}
"""Non-linearities by the name that configs use."""


class MLP(eqx.Module):
    """Fully connected network ``[in] -> [out]`` with a linear last layer.

    Weights are stored ``[in, out]`` and drawn from ``U(±1/sqrt(in))``, biases start at zero. The
    network is a function of one item; batch it with ``jax.vmap``.

    Attributes:
        weights: One matrix ``[in, out]`` per layer.
        biases: One vector ``[out]`` per layer.
        scales: Factor of each layer normalisation, one vector per hidden layer; none without.
        offsets: Summand of each layer normalisation; none without.
        activation: Elementwise function after every layer but the last.
    """

    weights: tuple[Float[Array, "_in _out"], ...]
    biases: tuple[Float[Array, " _out"], ...]
    scales: tuple[Float[Array, " _out"], ...] | None
    offsets: tuple[Float[Array, " _out"], ...] | None
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden: Sequence[int],
        *,
        key: PRNGKeyArray,
        activation: Callable[[Array], Array] = jax.nn.relu,
        last_scale: float = 1.0,
        layer_norm: bool = False,
    ):
        """Draw the parameters.

        Args:
            in_size: Components of the input.
            out_size: Components of the output.
            hidden: Width of each hidden layer.
            key: Random key.
            activation: Elementwise non-linearity.
            last_scale: Factor on the last layer's initial weights; 0 gives a network that is
                exactly zero at the start.
            layer_norm: Normalise each hidden layer before its activation (Ba, Kiros, Hinton 2016,
                arXiv:1607.06450).
        """
        sizes = (in_size, *hidden, out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        weights = [
            jax.random.uniform(k, (i, o), minval=-1.0, maxval=1.0) / jnp.sqrt(i)
            for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]
        weights[-1] = weights[-1] * last_scale
        self.weights = tuple(weights)
        self.biases = tuple(jnp.zeros(o) for o in sizes[1:])
        self.scales = tuple(jnp.ones(o) for o in hidden) if layer_norm else None
        self.offsets = tuple(jnp.zeros(o) for o in hidden) if layer_norm else None
        self.activation = activation

    def __call__(
        self,
        x: Float[Array, " in_size"],
        *,
        dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " out_size"]:
        """Apply the network to one item.

        Args:
            x: The item.
            dropout: Share of each hidden layer's units that are left out, before normalisation
                and activation; the others count ``1 / (1 - dropout)``. Nothing without a key.
            key: Random key of the units that are left out; items of one key lose the same.
        """
        layers = zip(self.weights[:-1], self.biases[:-1], strict=True)
        for i, (weight, bias) in enumerate(layers):
            x = x @ weight + bias
            if dropout > 0.0 and key is not None:
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1.0 - dropout, x.shape)
                x = jnp.where(kept, x / (1.0 - dropout), 0.0)
            if self.scales is not None and self.offsets is not None:
                x = self.scales[i] * jax.nn.standardize(x, epsilon=1e-6) + self.offsets[i]
            x = self.activation(x)
        return x @ self.weights[-1] + self.biases[-1]
