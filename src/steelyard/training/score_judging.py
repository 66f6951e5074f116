"""Judges scores and draws before any learning curve does: on one rollout, what are they worth?

Data flow: a learner, its prepared rollout and an emphasis → variance and bias of its gradient, the
gradient's agreement with that of many other rollouts, planted errors found, updates predicted.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from steelyard.agents.ppo import PPO, Actor, log_ratio, policy_terms
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.emphasis.samplers import Systematic
from steelyard.numerics.segments import halves
from steelyard.training.cupid import Felt
from steelyard.training.cupid_scorer import compute_scorer, score_items, target_weights
from steelyard.training.rollout_items import Prepared
from steelyard.types import RolloutBatch, RolloutItems

Gradient = Float[Array, " parameter"]


class Spread(NamedTuple):
    """How the gradients of single draws lie about the gradient of all items.

    Attributes:
        variance: Mean squared distance of a draw's gradient from the mean of all draws'.
        bias: Distance of that mean from the gradient of all valid items, in units of its own
            standard error: about 1 where draws are unbiased.
        agreement: Mean cosine of a draw's gradient with a reference, 0 without one.
    """

    variance: float
    bias: float
    agreement: float


def actor_gradient(agent: PPO, items: RolloutItems, weights: Float[Array, " item"]) -> Gradient:
    """Gradient of ``mean_i w_i l_i`` of the policy's losses by all of the actor's numbers."""

    def objective(actor: Actor) -> Float[Array, ""]:
        return jnp.mean(weights * policy_terms(actor, items, agent.config).policy)

    return ravel_pytree(jax.grad(objective)(agent.actor))[0]


def gradient_spread(
    agent: PPO,
    prepared: Prepared,
    felt: Felt,
    epoch: int,
    size: int,
    draws: int,
    key: PRNGKeyArray,
    reference: Gradient | None = None,
) -> Spread:
    """Measure the gradients of batches that are drawn as an emphasis says.

    Args:
        agent: The learner.
        prepared: Its items.
        felt: What is drawn from, and how losses are weighted.
        epoch: Items that an epoch draws, of which a batch is a random part.
        size: Items of a batch.
        draws: Batches, each of an epoch of its own.
        key: Random key.
        reference: What the gradient should be, e.g. that of many other rollouts.
    """
    found = _drawn_gradients(agent, prepared, felt, jax.random.split(key, draws), epoch, size)
    mean = jnp.mean(found, axis=0)
    variance = float(jnp.sum(jnp.mean((found - mean[None]) ** 2, axis=0)) * draws / (draws - 1))
    valid = prepared.valid.astype(jnp.float32)
    whole = actor_gradient(agent, prepared.items, valid / jnp.mean(valid))
    error = max((variance / draws) ** 0.5, 1e-30)
    cosine = 0.0
    if reference is not None:
        cosine = float(jnp.mean(jax.vmap(_cosine, (0, None))(found, reference)))
    return Spread(variance, float(jnp.linalg.norm(mean - whole)) / error, cosine)


@partial(jax.jit, static_argnums=(4, 5))
def _drawn_gradients(
    agent: PPO, prepared: Prepared, felt: Felt, keys: Array, epoch: int, size: int
) -> Float[Array, "draw parameter"]:
    """Gradient of one batch for each key; systematic draws, put in random order, then cut."""

    def one(key: PRNGKeyArray) -> Gradient:
        draw_key, order_key = jax.random.split(key)
        drawn = Systematic().draw(felt.actor, draw_key, epoch)
        part = jax.random.permutation(order_key, epoch)[:size]
        drawn = jax.tree.map(lambda x: x[part], drawn)
        rows = jax.tree.map(lambda x: x[drawn.indices], prepared.items)
        return actor_gradient(agent, rows, drawn.correction * felt.weights[drawn.indices])

    return jax.lax.map(one, keys)


def felt_gradient(agent: PPO, prepared: Prepared, felt: Felt) -> Gradient:
    """What the mean gradient of an emphasis is, over all of its draws."""
    weights = felt.actor.probabilities * felt.actor.correction * felt.weights
    return actor_gradient(agent, prepared.items, weights * weights.shape[0])


def agreement(one: Gradient, other: Gradient) -> float:
    """Cosine of two gradients."""
    return float(_cosine(one, other))


def _cosine(one: Gradient, other: Gradient) -> Float[Array, ""]:
    scale = jnp.linalg.norm(one) * jnp.linalg.norm(other)
    return jnp.dot(one, other) / jnp.maximum(scale, 1e-30)


def flips_found(
    config: CupidConfig, agent: PPO, prepared: Prepared, share: float, key: PRNGKeyArray
) -> float:
    """Flip the sign of some advantages, and say how well low scores tell which.

    Args:
        config: The score.
        agent: The learner.
        prepared: Its items.
        share: How many to flip, of the valid ones.
        key: Random key.

    Returns:
        Area under the ROC curve; 0.5 is chance. Higher means that flipped items score lower.
    """
    flip_key, score_key = jax.random.split(key)
    flipped = prepared.valid & jax.random.bernoulli(flip_key, share, prepared.valid.shape)
    spoilt = with_flips(prepared, flipped)
    scorer = compute_scorer(config, agent, spoilt)
    scores = np.asarray(score_items(config, agent, spoilt, scorer, score_key, True))
    valid = np.asarray(prepared.valid)
    return float(roc_auc_score(np.asarray(flipped)[valid], -scores[valid]))


def with_flips(prepared: Prepared, flipped: Bool[Array, " item"]) -> Prepared:
    """The same items with the sign of some advantages turned."""
    sign = jnp.where(flipped, -1.0, 1.0)
    items = eqx.tree_at(lambda i: i.advantage, prepared.items, prepared.items.advantage * sign)
    return dataclasses.replace(prepared, items=items, advantage=prepared.advantage * sign)


def update_score(
    config: CupidConfig, agent: PPO, prepared: Prepared, subsets: int, key: PRNGKeyArray
) -> float:
    """Linear datamodelling score of influence: does it predict what a real update does?

    Random halves of the items of one half of the environments each train a copy of the learner by
    one real step. What that did to the target on the other half's items is compared with the sum of
    the influences of the items that trained it. Source: Park et al. 2023, arXiv:2303.14186.

    Args:
        config: The score, of mode ``influence``.
        agent: The learner.
        prepared: Its items.
        subsets: Random halves.
        key: Random key.

    Returns:
        Spearman's rank correlation over the subsets.
    """
    scorer = compute_scorer(config, agent, prepared)
    cross = dataclasses.replace(config, cupid_cross_fit=True)
    scorer = scorer if config.cupid_cross_fit else compute_scorer(cross, agent, prepared)
    scores = score_items(cross, agent, prepared, scorer, key, True)
    (items, psi, valid), (held_out, _, _) = halves(
        (prepared.items, scores, prepared.valid), prepared.envs
    )
    weights = halves(target_weights(config, prepared), prepared.envs)[1]
    count = int(np.asarray(valid).sum()) // 2

    @jax.jit
    def one(key: PRNGKeyArray) -> tuple[Array, Array]:
        order = jax.random.uniform(key, valid.shape) + jnp.where(valid, 0.0, 2.0)
        chosen = jnp.argsort(order)[:count]
        rows = jax.tree.map(lambda x: x[chosen], items)
        moved, _ = agent.update(RolloutBatch(rows), key)
        change = jnp.mean(weights * log_ratio(moved.actor, held_out))
        return jnp.sum(psi[chosen]), change

    predicted, happened = jax.lax.map(one, jax.random.split(key, subsets))
    found: Any = spearmanr(np.asarray(predicted), np.asarray(happened))
    return float(found.statistic)
