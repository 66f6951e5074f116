"""Scores of demonstrated episodes by a learner: its losses, its gradients, influence on others.

Data flow: per-row losses as a function of parameters, and episodes → one number a row → its mean
over the rows of each episode. The functions are a learner's; nothing here knows which.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.agents.bc import BC
from steelyard.data.demonstrations import Demonstrations
from steelyard.emphasis.gradient_norm import gradient_norm
from steelyard.emphasis.influence import influence, target_gradient
from steelyard.emphasis.scores import own_loss
from steelyard.types import RewardFreeTransition

LEARNED_SCORES = ("own_loss", "gradient_norm", "influence")
LossFunction = Callable[[Any, RewardFreeTransition], Float[Array, " row"]]
"""Parameters and rows to per-row losses."""


def cloning_losses(agent: BC) -> tuple[LossFunction, Any]:
    """The losses of a clone as a function of the parameters that act, and those parameters."""

    def losses(params: Any, rows: RewardFreeTransition) -> Float[Array, " row"]:
        return eqx.tree_at(lambda a: a.average, agent, params).losses(rows)

    return losses, agent.average


def score_episodes(
    score: str,
    loss_fn: LossFunction,
    params: Any,
    data: Demonstrations,
    reference: Demonstrations | None = None,
) -> Float[np.ndarray, " episode"]:
    """Score every episode by the mean over its rows.

    Args:
        score: ``own_loss``; ``gradient_norm``; ``influence``, by how much the loss on the reference
            falls, to first order, if the row counts more.
        loss_fn: Per-row losses.
        params: Where.
        data: Episodes to score.
        reference: Episodes that show what is wanted; for ``influence``, which needs some.

    Raises:
        ValueError: There is no such score, or it needs a reference.
    """
    if score not in LEARNED_SCORES:
        raise ValueError(f"a learner's score is one of {list(LEARNED_SCORES)}, got {score!r}.")
    if score == "influence" and reference is None:
        raise ValueError("'influence' is on a target: give episodes as the reference.")
    rows = data.transitions()
    if score == "own_loss":
        found = jax.jit(lambda p: own_loss(rows, lambda rows: loss_fn(p, rows)))(params)
    elif score == "gradient_norm":
        found = jax.jit(lambda p: gradient_norm(rows, loss_fn, p))(params)
    else:
        assert reference is not None
        wanted = reference.transitions()
        found = jax.jit(lambda p: _influence(loss_fn, p, rows, wanted))(params)
    owner = data.step_episodes()
    return np.bincount(owner, np.asarray(found, np.float64)) / np.bincount(owner)


def _influence(
    loss_fn: LossFunction, params: Any, rows: RewardFreeTransition, wanted: RewardFreeTransition
) -> Float[Array, " row"]:
    """``⟨∇ l_i, ∇ L⟩`` with ``L`` the mean loss on the reference."""
    count = wanted.action.shape[0]
    weights = jnp.full(count, 1.0 / count)
    direction = target_gradient(lambda p: -loss_fn(p, wanted), params, weights)
    return influence(lambda p: loss_fn(p, rows), params, direction)
