"""How on-policy items are scored, and what of it is kept between iterations.

Data flow: prepared items and the learner → a scorer (scales, directions, weights) → scores.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from steelyard.agents.ppo import PPO, Actor, policy_terms
from steelyard.emphasis.importance import (
    Components,
    ImportanceScales,
    adapted,
    importance,
    value_error,
    weights_gradient,
)
from steelyard.emphasis.influence import (
    conjugate_gradient,
    cross_fitted_influence,
    divide_by_root,
    influence,
    target_gradient,
)
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.numerics import gaussian
from steelyard.numerics.segments import halves, rejoin, sum_by_segment
from steelyard.training.rollout_items import Prepared, in_chunks, mean_over
from steelyard.types import RolloutItems

CG_STEPS = 20
CG_DAMPING = 0.1
"""Of the Fisher matrix's mean diagonal, measured by the gradient's own curvature."""
WORST_RESIDUAL = 0.5
"""Above it conjugate gradients have failed and Adam's preconditioner serves."""

PerItem = Float[Array, " item"]


class Scorer(eqx.Module):
    """What is kept between iterations: how to score, never the scores.

    Attributes:
        age: Iterations since it was computed.
        scales: Divisors of the heuristic's components.
        directions: Influence directions, from the first and the second half of the environments
            (twice the same, from all, without cross-fitting).
        active: Whether the target had both outcomes, so that there is a direction.
        residual: Relative residual of the conjugate gradients, 0 without any.
        weights: Of the heuristic's components.
    """

    age: Int[Array, ""]
    scales: ImportanceScales
    directions: tuple[Actor, Actor]
    active: Bool[Array, ""]
    residual: Float[Array, ""]
    weights: Float[Array, "3"]

    @classmethod
    def none(cls, agent: PPO, config: CupidConfig = CupidConfig()) -> "Scorer":
        """Before the first is computed."""
        zero = jax.tree.map(jnp.zeros_like, agent.actor)
        return cls(
            jnp.zeros((), jnp.int32),
            ImportanceScales.ones(),
            (zero, zero),
            jnp.ones((), bool),
            jnp.zeros(()),
            config.weights.as_array(),
        )


def compute_scorer(
    config: CupidConfig, agent: PPO, prepared: Prepared, before: Scorer | None = None
) -> Scorer:
    """Make a scorer from an iteration's items.

    Args:
        config: Mode and settings.
        agent: The learner that drew the items.
        prepared: The items.
        before: The kept one, whose weights go on where they adapt; none takes the config's.
    """
    fresh = Scorer.none(agent, config)
    heuristic = config.cupid_mode == "heuristic"
    adapts = heuristic and config.cupid_component_scale == "adaptive"
    if heuristic and config.cupid_component_scale != "none":
        scales = ImportanceScales.of(_components(config, prepared), prepared.valid)
        fresh = eqx.tree_at(lambda s: s.scales, fresh, scales)
    if config.cupid_mode == "influence" or adapts:
        directions, active, residual = _directions(config, agent, prepared)
        fresh = eqx.tree_at(lambda s: (s.directions, s.residual), fresh, (directions, residual))
        if config.cupid_mode == "influence":
            fresh = eqx.tree_at(lambda s: s.active, fresh, active)
        elif before is not None:
            moved = _adapted(config, agent, prepared, fresh, before.weights)
            weights = jnp.where(active, moved, before.weights)
            fresh = eqx.tree_at(lambda s: s.weights, fresh, weights)
    return fresh


def _adapted(
    config: CupidConfig, agent: PPO, prepared: Prepared, scorer: Scorer, weights: Array
) -> Array:
    psi = jnp.where(prepared.valid, _influence(config, agent, prepared, scorer, True), 0.0)
    parts = _components(config, prepared)
    gradient = weights_gradient(parts, weights, scorer.scales, psi, prepared.valid)
    return adapted(weights, gradient)


def _components(config: CupidConfig, prepared: Prepared) -> Components:
    return Components(
        jnp.abs(prepared.advantage),
        value_error(
            config.cupid_value_error,
            prepared.advantage,
            prepared.monte_carlo,
            prepared.items.value,
            prepared.td_error,
        ),
        prepared.success,
    )


def score_items(
    config: CupidConfig,
    agent: PPO,
    prepared: Prepared,
    scorer: Scorer,
    key: PRNGKeyArray,
    due: bool,
) -> PerItem:
    """Score an iteration's items.

    Args:
        config: Mode and settings; `gradnorm` has two scores and is not among them.
        agent: The learner that drew the items.
        prepared: The items.
        scorer: The kept one.
        key: Random key, for the control.
        due: Whether the scorer was made from these very items.
    """
    if config.cupid_mode == "heuristic":
        return importance(_components(config, prepared), scorer.weights, scorer.scales)
    if config.cupid_mode == "random":
        # As many are negative as advantages are, so that `drop` leaves out about as many as by
        # influence; which ones has nothing to do with the advantage.
        negative = mean_over((prepared.advantage < 0).astype(jnp.float32), prepared.valid)
        return jax.random.uniform(key, prepared.valid.shape) - negative
    found = _influence(config, agent, prepared, scorer, due)
    if config.cupid_level == "trajectory":
        found = sum_by_segment(
            jnp.where(prepared.valid, found, 0.0), prepared.segment, prepared.segments
        )
    return found


def _influence(
    config: CupidConfig, agent: PPO, prepared: Prepared, scorer: Scorer, due: bool
) -> PerItem:
    def losses(items: RolloutItems) -> Callable[[Actor], PerItem]:
        return lambda actor: in_chunks(
            lambda part: policy_terms(actor, part, agent.config).policy, items
        )

    if due and config.cupid_cross_fit:
        first, second = halves(prepared.items, prepared.envs)
        parts = (losses(first), losses(second))
        found = cross_fitted_influence(parts, agent.actor, scorer.directions)
        return rejoin(found, prepared.envs)
    # A direction of an earlier iteration holds none of these items: both halves of it serve.
    direction = jax.tree.map(lambda a, b: 0.5 * (a + b), *scorer.directions)
    return influence(losses(prepared.items), agent.actor, direction)


def target_weights(config: CupidConfig, prepared: Prepared) -> PerItem:
    """How much the log-probability of each item's action counts in the target of influence."""
    if config.cupid_target == "outcome":
        signs = jnp.where(prepared.success > 0.5, 1.0, -1.0)
        return jnp.where(prepared.outcome_known & prepared.valid, signs, 0.0)
    return jnp.where(prepared.valid, prepared.items.advantage, 0.0)


def _directions(
    config: CupidConfig, agent: PPO, prepared: Prepared
) -> tuple[tuple[Actor, Actor], Bool[Array, ""], Float[Array, ""]]:
    """Directions of the two halves of the environments (the same without cross-fitting)."""
    items, weights = prepared.items, target_weights(config, prepared)

    def direction(items: RolloutItems, own: PerItem) -> tuple[Actor, Array, Array]:
        def log_probs(actor: Actor) -> PerItem:
            def part(items: RolloutItems) -> PerItem:
                mean = jax.vmap(actor)(items.features)
                return gaussian.log_prob(items.action, mean, actor.log_std)

            return in_chunks(part, items)

        active = jnp.any(own > 0) & jnp.any(own < 0)
        gradient = target_gradient(log_probs, agent.actor, own / own.shape[0])
        if not agent.config.learn_std:
            gradient = eqx.tree_at(lambda a: a.log_std, gradient, replace_fn=jnp.zeros_like)
        found, residual = _preconditioned(config, agent, prepared, gradient)
        return found, active, residual

    if not config.cupid_cross_fit:
        whole = direction(items, weights)
        return (whole[0], whole[0]), whole[1], whole[2]
    if prepared.envs < 2:
        raise ValueError("cupid_cross_fit needs at least 2 environments, got 1")
    first, second = (direction(*half) for half in halves((items, weights), prepared.envs))
    return (first[0], second[0]), first[1] & second[1], jnp.maximum(first[2], second[2])


def _preconditioned(
    config: CupidConfig, agent: PPO, prepared: Prepared, gradient: Actor
) -> tuple[Actor, Float[Array, ""]]:
    none = jnp.zeros(())
    if config.cupid_hessian == "identity":
        return gradient, none
    by_adam = _by_adam(agent, gradient)
    if config.cupid_hessian == "adam":
        return by_adam, none
    items, valid = prepared.items, prepared.valid
    precision = jnp.exp(-2.0 * agent.actor.log_std)[None]

    def means(actor: Actor) -> Float[Array, "item act"]:
        return jax.vmap(actor)(items.features)

    def product(v: Actor) -> Actor:
        """Fisher matrix of the Gaussian's mean times ``v``, mean over valid items."""
        tangent = jax.jvp(means, (agent.actor,), (v,))[1]
        share = jnp.where(valid, 1.0, 0.0) / jnp.maximum(jnp.sum(valid), 1)
        pull = jax.vjp(means, agent.actor)[1]
        return pull(tangent * precision * share[:, None])[0]

    curvature = _inner(gradient, product(gradient)) / jnp.maximum(_inner(gradient, gradient), 1e-30)
    damping = jnp.maximum(CG_DAMPING * curvature, 1e-8)
    solved, residual = conjugate_gradient(product, gradient, damping, CG_STEPS)
    good = residual <= WORST_RESIDUAL
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), solved, by_adam), residual


def _by_adam(agent: PPO, gradient: Actor) -> Actor:
    """Divide by the actor's own Adam scale; before its first step by nothing."""
    states: Any = agent.actor_state
    adam = next(s for s in states if isinstance(s, optax.ScaleByAdamState))
    count = jnp.asarray(adam.count, jnp.float32)
    unbiased = jax.tree.map(lambda v: v / jnp.maximum(1.0 - 0.999**count, 1e-8), adam.nu)
    scaled = divide_by_root(gradient, unbiased, agent.config.adam_eps)
    return jax.tree.map(lambda a, b: jnp.where(count > 0, a, b), scaled, gradient)


def _inner(x: Actor, y: Actor) -> Float[Array, ""]:
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), x, y)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))
