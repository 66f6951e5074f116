"""Norms of per-item gradients, of all parameters or of a last layer: the scores of least variance.

Drawing items with probability proportional to the norm of their gradient, and weighting each by
what it owes, minimises the variance of the mean gradient. The norm at the last layer follows from
one forward pass; that of all parameters takes a backward pass an item. Source: Katharopoulos and
Fleuret 2018, "Not All Samples Are Created Equal", arXiv:1803.00942.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Params = TypeVar("Params")
Items = TypeVar("Items")
PerItem = Float[Array, " item"]
AT_ONCE = 256
"""Items whose gradients are held at once."""


def gradient_norm(
    items: Items, loss_fn: Callable[[Params, Items], PerItem], params: Params
) -> PerItem:
    """Score every item by ``‖∇ l_i‖``, of all parameters.

    Args:
        items: Arrays that share their first axis.
        loss_fn: Parameters and items to per-item losses; an item's depends on no other item.
        params: Where to differentiate; any pytree of arrays.

    Returns:
        Non-negative; no gradient flows through.
    """

    def one(item: Items) -> Float[Array, ""]:
        alone = jax.tree.map(lambda x: x[None], item)
        slope = jax.grad(lambda params: loss_fn(params, alone)[0])(params)
        return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(slope)))

    return jax.lax.stop_gradient(jax.lax.map(one, items, batch_size=AT_ONCE))


def last_layer_norm(
    output_gradient: Float[Array, "item out"], hidden: Float[Array, "item feature"], bias: bool
) -> PerItem:
    """Return ``‖∂l/∂y‖ · sqrt(‖h‖² + [bias])`` of ``y = W h (+ b)``, exactly.

    Args:
        output_gradient: Gradient of each item's loss by the layer's output.
        hidden: Its input.
        bias: Whether the layer has one.
    """
    size = jnp.sum(hidden**2, axis=1) + (1.0 if bias else 0.0)
    return jnp.sqrt(jnp.sum(output_gradient**2, axis=1) * size)


def predicted_gain(
    scores: PerItem, probabilities: PerItem, valid: Bool[Array, " item"]
) -> Float[Array, ""]:
    """Return by how much the second moment of the estimate shrinks: ``(Σs²/n) / (Σ s²/q / n²)``.

    Args:
        scores: Gradient norms.
        probabilities: What items are drawn with, positive where the score is.
        valid: Which items count.

    Returns:
        At least 1 for ``q`` proportional to a mixture of ``s`` and uniform; 1 where all are 0.
    """
    squares = jnp.where(valid, scores, 0.0) ** 2
    count = jnp.maximum(jnp.sum(valid), 1)
    drawn = jnp.sum(jnp.where(squares > 0, squares / jnp.where(squares > 0, probabilities, 1), 0))
    plain = jnp.sum(squares) * count
    return jnp.where(drawn > 0, plain / jnp.where(drawn > 0, drawn, 1.0), 1.0)
