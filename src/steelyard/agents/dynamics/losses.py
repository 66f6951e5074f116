"""Losses of a dynamics model, per window: one step, rollout and pose. Spec: docs/methods."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from steelyard.agents.dynamics.config import COMPONENTS, DynamicsConfig
from steelyard.agents.dynamics.models import Model, Parts
from steelyard.numerics import se2
from steelyard.numerics.extremes import highest
from steelyard.types import Window


class Settings(eqx.Module):
    """The numbers of a config that are arrays, so that runs that differ in them share a program.

    Attributes:
        one_step: Factor of the one-step term.
        rollout: Factor of the rollout term.
        pose: Factor of the pose term.
        rollout_by_score: Whether the rollout term is part of the score; else it counts by its mean.
        pose_by_score: Likewise for the pose term.
        twist_weights: Of ``(vx, vy, w)``.
        pose_components: 1 for each of ``(x, y, theta)`` that counts.
        teacher_forcing: Chance, per item and step, to start at the recorded twist.
        detach: 1 where gradients stop between steps.
        adapter_identity: Factor of the adapter's regulariser.
        residual_l2: Factor of the residual's.
        friction_prior: Factor of the friction's.
        factor: Factor on what is scored.
        input_noise: On the first twist, in standard deviations.
        huber: Item losses above it count by ``2 sqrt(huber * l) - huber``.
    """

    one_step: Float[Array, ""]
    rollout: Float[Array, ""]
    pose: Float[Array, ""]
    rollout_by_score: Float[Array, ""]
    pose_by_score: Float[Array, ""]
    twist_weights: Float[Array, "3"]
    pose_components: Float[Array, "3"]
    teacher_forcing: Float[Array, ""]
    detach: Float[Array, ""]
    adapter_identity: Float[Array, ""]
    residual_l2: Float[Array, ""]
    friction_prior: Float[Array, ""]
    factor: Float[Array, ""]
    input_noise: Float[Array, ""]
    huber: Float[Array, ""]

    @classmethod
    def of(cls, config: DynamicsConfig) -> "Settings":
        """The settings of a config."""
        loss, regular = config.loss, config.regularization
        tail, weights = loss.rollout_cvar, loss.weights
        chosen = [float(c in loss.pose_mse.components) for c in COMPONENTS]
        huber = loss.huber if math.isfinite(loss.huber) else float(jnp.finfo(jnp.float32).max)
        numbers = (
            loss.one_step_mse.weight * loss.one_step_mse.enabled,
            loss.rollout_mse.weight * loss.rollout_mse.enabled,
            loss.pose_mse.weight * loss.pose_mse.enabled,
            tail.apply_to != "pose",
            tail.apply_to != "rollout",
            [weights.vx, weights.vy, weights.w],
            chosen,
            loss.rollout_mse.teacher_forcing_prob,
            loss.rollout_mse.detach_between_steps,
            regular.adapter_identity_weight,
            regular.residual_l2_weight,
            regular.friction_prior_weight,
            loss.factor,
            loss.input_noise,
            huber,
        )
        return cls(*(jnp.asarray(x, jnp.float32) for x in numbers))


class ItemLosses(eqx.Module):
    """What one window of each costs, before any factor.

    Attributes:
        one_step: Weighted squared error of the first predicted twist, in standard deviations.
        rollout: The same over the rollout.
        pose: Mean squared error of the chosen pose components, m² and rad².
        parts: Mean over the steps of what the networks did.
    """

    one_step: Float[Array, "*batch"]
    rollout: Float[Array, "*batch"]
    pose: Float[Array, "*batch"]
    parts: Parts


def rollout(
    model: Model,
    window: Window,
    history: int,
    recorded: Bool[Array, " steps"] | None = None,
    detach: Float[Array, ""] | None = None,
    bias: Float[Array, "3"] | None = None,
) -> tuple[Float[Array, "states 3"], Parts]:
    """Predict all states of one window from its first and its commands.

    Args:
        model: The model.
        window: One window.
        history: How many of its commands lie before it.
        recorded: At which steps to start from the recorded twist (teacher forcing).
        detach: 1 to stop gradients between steps, also those through the actuators.
        bias: Added to the twist after every step.

    Returns:
        Twists at all ``H + 1`` states, and the parts of each step.
    """
    past, commands = window.command[:history], window.command[history:]
    carry = model.start(past, commands[0])

    def body(state: tuple, step: tuple) -> tuple[tuple, tuple]:
        twist, carry = state
        command, dt, true, use_true = step
        if recorded is not None:
            twist = jnp.where(use_true, true, twist)
        if detach is not None:
            cut = detach > 0
            twist, carry = jax.tree.map(
                lambda x: jnp.where(cut, jax.lax.stop_gradient(x), x), (twist, carry)
            )
        twist, carry, parts = model.step(twist, command, dt, carry)
        twist = twist if bias is None else twist + bias
        return (twist, carry), (twist, parts)

    forced = jnp.zeros(commands.shape[0], bool) if recorded is None else recorded
    steps = (commands, window.dt, window.twist[:-1], forced)
    _, (twists, parts) = jax.lax.scan(body, (window.twist[0], carry), steps)
    return jnp.concatenate([window.twist[:1], twists]), parts


def item_losses(
    model: Model,
    window: Window,
    key: PRNGKeyArray,
    settings: Settings,
    config: DynamicsConfig,
    twist_std: Float[Array, "3"],
) -> ItemLosses:
    r"""Losses of one window.

    ``one_step = sum_d w_d ((s'_1 - s_1) / sigma_d)^2 / 3``; ``rollout`` is the mean of the same
    over the horizon; ``pose = mean_k mean_{c in C} e_c^2``, errors in the frame of the window's
    start, so that no motion of the world changes them. All are NaN, without any gradient, for a
    window that holds a number that is not finite.
    """
    whole = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(window)]))
    # The derivatives never see such a number: times the weight 0 of the window it would be NaN.
    window = jax.tree.map(lambda x: jnp.where(whole, x, 0.0), window)
    steps = window.dt.shape[0]
    coins = jax.random.bernoulli(key, settings.teacher_forcing, (steps,)).at[0].set(False)
    detach = settings.detach
    noise = jax.random.normal(jax.random.fold_in(key, 1), (3,))
    start = window.twist[0] + settings.input_noise * twist_std * noise
    begun = dataclasses.replace(window, twist=window.twist.at[0].set(start))
    predicted, parts = rollout(model, begun, config.model.history, coins, detach)
    squares = ((predicted[1:] - window.twist[1:]) / twist_std[None]) ** 2
    per_step = jnp.sum(settings.twist_weights[None] * squares, axis=1) / 3.0
    match config.loss.rollout_mse.horizon_reduction:
        case "mean":
            over_time = jnp.mean(per_step)
        case "final":
            over_time = per_step[-1]
        case "max":
            over_time = highest(per_step)
    origin = jnp.zeros(3)
    reached = se2.integrate(origin, predicted, window.dt, config.integrator)[1:]
    true = jax.vmap(se2.relative, (None, 0))(window.pose[0], window.pose[1:])
    error = reached - true
    error = error.at[:, 2].set(se2.heading_error(reached[:, 2], true[:, 2]))
    chosen = settings.pose_components
    count = jnp.maximum(jnp.sum(chosen), 1.0)
    pose = jnp.mean(jnp.sum(chosen[None] * error**2, axis=1)) / count
    losses = ItemLosses(per_step[0], over_time, pose, jax.tree.map(jnp.mean, parts))
    return jax.tree.map(lambda x: jnp.where(whole, x, jnp.nan), losses)


def scored(losses: ItemLosses, settings: Settings) -> Float[Array, " batch"]:
    """The score of each window: the terms that ``apply_to`` names, with their factors."""
    item = settings.rollout * settings.rollout_by_score * losses.rollout
    item = item + settings.pose * settings.pose_by_score * losses.pose
    bound = settings.huber
    root = jnp.sqrt(jnp.where(item > bound, item, 1.0)) * jnp.sqrt(bound)
    return settings.factor * jnp.where(item > bound, 2.0 * root - bound, item)


def unscored(losses: ItemLosses, settings: Settings) -> Float[Array, " batch"]:
    """What counts by its mean: the one-step term, terms that are not scored, and regularisers."""
    item = settings.one_step * losses.one_step
    item += settings.rollout * (1.0 - settings.rollout_by_score) * losses.rollout
    item += settings.pose * (1.0 - settings.pose_by_score) * losses.pose
    item += settings.adapter_identity * losses.parts.adapter
    item += settings.residual_l2 * losses.parts.residual
    return item + settings.friction_prior * losses.parts.friction
