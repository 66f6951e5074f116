"""Gradient steps on pytrees of parameters, with any optax optimiser."""

from typing import Any, TypeVar

import optax

Tree = TypeVar("Tree")


def start_optimiser(optimiser: optax.GradientTransformation, params: Any) -> optax.OptState:
    """State of an optimiser before its first step on ``params``, any pytree of arrays."""
    return optimiser.init(params)


def optimise(
    optimiser: optax.GradientTransformation, params: Tree, grads: Any, state: optax.OptState
) -> tuple[Tree, optax.OptState]:
    """Take one step.

    Args:
        optimiser: What turns gradients into steps.
        params: Any pytree of arrays.
        grads: Gradients, of the same structure.
        state: The optimiser's, from :func:`start_optimiser` or the last step.

    Returns:
        The new parameters and the new state.
    """
    updates, state = optimiser.update(grads, state, params)  # pyright: ignore[reportArgumentType]
    return optax.apply_updates(params, updates), state  # pyright: ignore
