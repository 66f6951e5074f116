"""Influence of items on a target, to first order, by one Jacobian-vector product.

``ψ_i = -⟨∇ l_i, v⟩`` with ``v = H⁻¹ g``, ``g`` the gradient of the target: by how much the target
rises when item ``i`` counts more in the next step. One forward-mode pass gives it for all items; no
matrix of per-item gradients is made, and no item is left out.

Sources: Koh and Liang 2017, arXiv:1703.04730; Pruthi et al. 2020 (TracIn, ``H = 1``),
arXiv:2002.08484; Hu et al. 2025 (IIF), arXiv:2505.19281; Agia et al. 2025 (CUPID),
arXiv:2506.19121.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Params = TypeVar("Params")
PerItem = Float[Array, " item"]


def influence(loss_fn: Callable[[Params], PerItem], params: Params, direction: Params) -> PerItem:
    """Score every item by how much its loss falls along a direction.

    Args:
        loss_fn: Parameters to per-item losses.
        params: Where to differentiate; any pytree of arrays.
        direction: ``v``, of the same structure.

    Returns:
        ``-⟨∇ l_i, v⟩``, signed: positive where more weight on the item raises the target.
    """
    _, tangent = jax.jvp(loss_fn, (params,), (direction,))
    return jax.lax.stop_gradient(-tangent)


def cross_fitted_influence(
    loss_fns: tuple[Callable[[Params], Array], Callable[[Params], Array]],
    params: Params,
    directions: tuple[Params, Params],
) -> tuple[Float[Array, " first"], Float[Array, " second"]]:
    """Score each of two parts of the items with the direction that was made from the other.

    That removes the term by which an item influences itself, ``‖∇ log π‖²``, which is positive
    whatever the item is worth.

    Args:
        loss_fns: Parameters to the per-item losses of each part.
        params: Where to differentiate.
        directions: Made from each part.

    Returns:
        Scores of each part, as of :func:`influence`.
    """
    first, second = loss_fns
    return influence(first, params, directions[1]), influence(second, params, directions[0])


def target_gradient(
    log_prob_fn: Callable[[Params], PerItem], params: Params, weights: PerItem
) -> Params:
    """Return ``g = ∇ Σ_i w_i log π_i``, the gradient of a REINFORCE target.

    Args:
        log_prob_fn: Parameters to the log-probability of each item's action.
        params: Where to differentiate.
        weights: Of each item: its trajectory's ±1 (or return, or its own advantage) over the number
            of trajectories; 0 leaves an item out, whatever its log-probability is.
    """

    def target(params: Params) -> Float[Array, ""]:
        log_probs = log_prob_fn(params)
        return jnp.sum(jnp.where(weights == 0, 0.0, weights * log_probs))

    return jax.grad(target)(params)


def divide_by_root(gradient: Params, second_moment: Params, epsilon: float) -> Params:
    """Precondition by Adam's own scale: ``g / (sqrt(v̂) + ε)``, ``H`` its diagonal."""
    return jax.tree.map(lambda g, v: g / (jnp.sqrt(v) + epsilon), gradient, second_moment)


def conjugate_gradient(
    product: Callable[[Params], Params],
    gradient: Params,
    damping: Float[Array, ""],
    steps: int,
) -> tuple[Params, Float[Array, ""]]:
    """Solve ``(F + damping) v = g`` and say how far off the solution is.

    Args:
        product: ``v -> F v``, symmetric and not negative.
        gradient: ``g``.
        damping: Added to the diagonal, > 0.
        steps: Most iterations.

    Returns:
        ``v`` and the relative residual ``‖g - (F + damping) v‖ / ‖g‖``.
    """

    def damped(v: Params) -> Params:
        return jax.tree.map(lambda f, x: f + damping * x, product(v), v)

    solution, _ = jax.scipy.sparse.linalg.cg(damped, gradient, maxiter=steps)
    rest = jax.tree.map(jnp.subtract, gradient, damped(solution))
    size = jnp.maximum(_norm(gradient), jnp.finfo(jnp.float32).tiny)
    return solution, _norm(rest) / size


def _norm(tree: Params) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree)))
