"""From a rollout ``[time, env]`` to the items that a learner and its emphasis see."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from steelyard.agents.ppo import PPO
from steelyard.emphasis.samplers import Multinomial
from steelyard.numerics.returns import discounted_returns, generalised_advantage_estimation
from steelyard.numerics.segments import flatten, outcomes, segment_count, segment_ids
from steelyard.types import RolloutItems

CHUNK = 65_536
"""Items whose hidden layers are held at once where all of them are differentiated."""


class Rollout(NamedTuple):
    """What one iteration simulated, time first.

    Attributes:
        observation: What was acted on.
        base: The base's action then, learner units; zeros without a base.
        residual: What the policy drew.
        next_observation: What the step led to: the true final observation where it ended.
        next_base: The base's action for that.
        reward: Of the step.
        terminated: The task ended.
        truncated: The time limit cut the episode.
        success: The task was solved in this step.
        valid: Rows that count.
    """

    observation: Float[Array, "time env obs"]
    base: Float[Array, "time env act"]
    residual: Float[Array, "time env act"]
    next_observation: Float[Array, "time env obs"]
    next_base: Float[Array, "time env act"]
    reward: Float[Array, "time env"]
    terminated: Bool[Array, "time env"]
    truncated: Bool[Array, "time env"]
    success: Bool[Array, "time env"]
    valid: Bool[Array, "time env"]


class Prepared(eqx.Module):
    """A rollout as items, and what scores are made of; all of one length, time-major.

    Attributes:
        items: What the learner sees.
        valid: Which items count.
        advantage: Before it was normalised.
        td_error: One-step temporal difference.
        monte_carlo: Return to the end of the episode, or of the rollout and the value there.
        success: 1, 0, or the clipped value where the rollout cut the episode.
        outcome_known: Where it is not cut.
        segment: Piece of an episode that each belongs to.
        reward: Of each step.
        segments: How many pieces there may be.
        envs: Environments.
    """

    items: RolloutItems
    valid: Bool[Array, " item"]
    advantage: Float[Array, " item"]
    td_error: Float[Array, " item"]
    monte_carlo: Float[Array, " item"]
    success: Float[Array, " item"]
    outcome_known: Bool[Array, " item"]
    segment: Int[Array, " item"]
    reward: Float[Array, " item"]
    segments: int = eqx.field(static=True)
    envs: int = eqx.field(static=True)


def prepare(agent: PPO, rollout: Rollout) -> Prepared:
    """Estimate advantages and lay the rollout out as items.

    Values and log-probabilities are those of the agent that drew the rollout.
    """
    config, time = agent.config, rollout.reward.shape[0]
    envs = rollout.reward.shape[1]
    residual = config.residual

    def seen(observation: Array, base: Array) -> Array:
        flat = flatten(observation)
        return agent.features(flat, flatten(base) if residual else None)

    features = seen(rollout.observation, rollout.base)
    after = seen(rollout.next_observation, rollout.next_base)
    value = agent.value(features).reshape(time, envs)
    next_value = agent.value(after).reshape(time, envs)
    flags = (rollout.terminated, rollout.truncated)
    advantage, target = generalised_advantage_estimation(
        rollout.reward, value, next_value, *flags, config.discount, config.gae_lambda, rollout.valid
    )
    monte_carlo = discounted_returns(
        rollout.reward, next_value, *flags, config.discount, rollout.valid
    )
    future = jnp.where(rollout.terminated, 0.0, next_value)
    td_error = jnp.where(rollout.valid, rollout.reward + config.discount * future - value, 0.0)
    ended = rollout.terminated | rollout.truncated
    success, known = outcomes(rollout.success, ended, rollout.valid, next_value[-1])
    flat_residual = flatten(rollout.residual)
    valid = flatten(rollout.valid)
    items = RolloutItems(
        features=features,
        action=flat_residual,
        log_prob=agent.log_prob(features, flat_residual),
        advantage=normalised(flatten(advantage), valid) if config.norm_adv else flatten(advantage),
        value=flatten(value),
        value_target=flatten(target),
    )
    return Prepared(
        items=items,
        valid=valid,
        advantage=flatten(advantage),
        td_error=flatten(td_error),
        monte_carlo=flatten(monte_carlo),
        success=flatten(success),
        outcome_known=flatten(known),
        segment=flatten(segment_ids(ended)),
        reward=flatten(rollout.reward),
        segments=segment_count(time, envs),
        envs=envs,
    )


def in_chunks(
    per_item: Callable[[RolloutItems], Float[Array, " item"]], items: RolloutItems
) -> Float[Array, " item"]:
    """Apply a function of items, each by itself, to some at a time; memory stays bounded.

    Args:
        per_item: Items to a number each.
        items: Any number of them; what differentiates through this holds one chunk at a time.
    """
    count = items.advantage.shape[0]
    if count <= CHUNK:
        return per_item(items)
    parts = -(-count // CHUNK)
    padding = parts * CHUNK - count

    def shaped(x: Array) -> Array:
        padded = jnp.pad(x, [(0, padding), *[(0, 0)] * (x.ndim - 1)])
        return padded.reshape(parts, CHUNK, *x.shape[1:])

    found = jax.lax.map(jax.checkpoint(per_item), jax.tree.map(shaped, items))
    return found.reshape(-1)[:count]


def normalised(values: Float[Array, " item"], valid: Bool[Array, " item"]) -> Float[Array, " item"]:
    """Give the valid values mean 0 and standard deviation 1, others 0."""
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(jnp.where(valid, values, 0.0)) / count
    centred = jnp.where(valid, values - mean, 0.0)
    return centred / (jnp.sqrt(jnp.sum(centred**2) / count) + 1e-8)


def mean_over(values: Float[Array, " item"], valid: Bool[Array, " item"]) -> Float[Array, ""]:
    """Mean of the valid values."""
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def explained_variance(prepared: Prepared) -> Float[Array, ""]:
    """Share of the targets' variance that the values explain, over valid items."""
    valid, items = prepared.valid, prepared.items
    error = items.value_target - items.value

    def variance(x: Array) -> Array:
        return mean_over((x - mean_over(x, valid)) ** 2, valid)

    total = variance(items.value_target)
    return jnp.where(total > 0, 1.0 - variance(error) / jnp.where(total > 0, total, 1.0), 0.0)


def uniform_indices(valid: Bool[Array, " item"], key: Array, size: int) -> Int[Array, " draw"]:
    """Draw valid items uniformly, with replacement."""
    return Multinomial()(valid.astype(jnp.float32), key, size).indices
