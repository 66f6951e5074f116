"""Scores on-policy items by the config's mode, and says how an update shall feel them.

Data flow: prepared items, the learner and a kept scorer → scores → probabilities for actor and
critic, weights of the actor's losses, diagnostics, the scorer to keep.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from steelyard.agents.ppo import PPO
from steelyard.emphasis.diagnostics import diagnose
from steelyard.emphasis.gradient_norm import last_layer_norm, predicted_gain
from steelyard.emphasis.measures import uniform_base
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.emphasis.samplers import Systematic, Table
from steelyard.numerics import gaussian
from steelyard.training.cupid_scorer import Scorer, compute_scorer, score_items
from steelyard.training.rollout_items import Prepared, mean_over

PerItem = Float[Array, " item"]


class Felt(NamedTuple):
    """How the epochs of an update feel the items.

    Attributes:
        actor: What the actor's items are drawn from.
        critic: What the critic's are drawn from.
        weights: How much each of the actor's items counts in its losses, mean one.
    """

    actor: Table
    critic: Table
    weights: PerItem


def uniform(valid: Bool[Array, " item"]) -> Felt:
    """No emphasis: every valid item counts the same."""
    table = Systematic().table(uniform_base(valid))
    return Felt(table, table, valid.astype(jnp.float32))


def is_due(config: CupidConfig, iteration: int, has_scorer: bool) -> bool:
    """Whether an iteration, counted from 1, computes its scorer anew."""
    if not config.use_cupid:
        return False
    return not has_scorer or iteration % config.cupid_compute_interval == 0


def feel(
    config: CupidConfig,
    agent: PPO,
    prepared: Prepared,
    scorer: Scorer,
    key: PRNGKeyArray,
    due: bool,
) -> tuple[Felt, Scorer, dict[str, Array]]:
    """Score the items of an iteration and turn the scores into what its epochs feel.

    Args:
        config: Mode and settings.
        agent: The learner that drew the items.
        prepared: The items.
        scorer: The kept one.
        key: Random key, for the control.
        due: Whether to compute the scorer anew; fixed when compiled.
    """
    if not config.use_cupid or (not due and config.cupid_reuse == "uniform"):
        scorer = eqx.tree_at(lambda s: s.age, scorer, scorer.age + 1)
        return uniform(prepared.valid), scorer, {}
    scorer = compute_scorer(config, agent, prepared, scorer) if due else _aged(scorer)
    if config.cupid_mode == "gradnorm":
        felt, scores, metrics = _by_gradient_norm(config, agent, prepared)
    else:
        scores = score_items(config, agent, prepared, scorer, key, due)
        felt, metrics = _by_one_score(config, prepared, scores, scorer)
    metrics |= {
        "cupid/scorer_age": scorer.age.astype(jnp.float32),
        "cupid/raw_mean": mean_over(scores, prepared.valid),
        "cupid/raw_std": jnp.sqrt(
            mean_over((scores - mean_over(scores, prepared.valid)) ** 2, prepared.valid)
        ),
        "cupid/raw_min": jnp.min(jnp.where(prepared.valid, scores, jnp.inf)),
        "cupid/raw_max": jnp.max(jnp.where(prepared.valid, scores, -jnp.inf)),
        "cupid/negative_share": mean_over((scores < 0).astype(jnp.float32), prepared.valid),
        "cupid/score_abs_advantage_corr": _correlation(
            scores, jnp.abs(prepared.advantage), prepared.valid
        ),
        "cupid/outcome_unknown_share": 1.0
        - mean_over(prepared.outcome_known.astype(jnp.float32), prepared.valid),
        "cupid/value_error_is_advantage": jnp.asarray(
            float(config.cupid_mode == "heuristic" and config.cupid_value_error == "identity")
        ),
        "cupid/cg_residual": scorer.residual,
        "cupid/weight_advantage": scorer.weights[0],
        "cupid/weight_value_error": scorer.weights[1],
        "cupid/weight_success": scorer.weights[2],
    }
    return felt, scorer, metrics


def _aged(scorer: Scorer) -> Scorer:
    return eqx.tree_at(lambda s: s.age, scorer, scorer.age + 1)


def _by_one_score(
    config: CupidConfig, prepared: Prepared, scores: PerItem, scorer: Scorer
) -> tuple[Felt, dict[str, Array]]:
    """One distribution, for both networks; through batches or through the actor's losses."""
    valid, weighting = prepared.valid, config.weighting()
    base = uniform_base(valid)
    ratio = weighting.ratio(scores, valid)
    # Without both outcomes there is no direction, and every item counts the same.
    ratio = jnp.where(scorer.active, ratio, valid.astype(jnp.float32))
    active = {"cupid/active": scorer.active.astype(jnp.float32)}
    plain = uniform(valid)
    if config.cupid_through == "losses":
        metrics = _described(base * ratio, scores, valid)
        return Felt(plain.actor, plain.critic, ratio), metrics | active
    sampler = Systematic(config.cupid_correction, config.cupid_floor)
    table = sampler.table(base * ratio, base)
    mixed = (1.0 - config.cupid_floor) * base * ratio + config.cupid_floor * base
    metrics = _described(mixed, scores, valid)
    return Felt(table, table, valid.astype(jnp.float32)), metrics | active


def _by_gradient_norm(
    config: CupidConfig, agent: PPO, prepared: Prepared
) -> tuple[Felt, PerItem, dict[str, Array]]:
    """A distribution for each network, by the exact norm of its last layer's gradient."""
    items, valid = prepared.items, prepared.valid
    base = uniform_base(valid)
    mean = jax.vmap(agent.actor)(items.features)
    pull = gaussian.score_of_mean(items.action, mean, agent.actor.log_std)
    actor = last_layer_norm(
        items.advantage[:, None] * pull, jax.vmap(agent.actor.hidden)(items.features), bias=False
    )
    error = (items.value - items.value_target)[:, None]
    critic = last_layer_norm(error, jax.vmap(agent.critic.hidden)(items.features), bias=True)
    sampler, tables, metrics, gains = (
        Systematic(config.cupid_correction, config.cupid_floor),
        [],
        {},
        [],
    )
    for name, norms in (("actor", actor), ("critic", critic)):
        found = config.weighting()(norms, valid)
        mixed = (1.0 - config.cupid_floor) * found + config.cupid_floor * base
        gain = predicted_gain(norms, mixed, valid)
        serves = gain >= config.cupid_gain_threshold
        tables.append(sampler.table(jnp.where(serves, found, base), base))
        described = _described(jnp.where(serves, mixed, base), norms, valid)
        metrics |= {f"{key}_{name}": value for key, value in described.items()}
        metrics[f"cupid/active_{name}"] = serves.astype(jnp.float32)
        gains.append(gain)
    metrics["cupid/predicted_gain"] = gains[0]
    metrics["cupid/predicted_gain_critic"] = gains[1]
    return Felt(tables[0], tables[1], valid.astype(jnp.float32)), actor, metrics


def _described(
    probabilities: PerItem, scores: PerItem, valid: Bool[Array, " item"]
) -> dict[str, Array]:
    """The reference's metrics of the probabilities, and ours."""
    found = diagnose(probabilities, probabilities, valid)
    count = jnp.maximum(jnp.sum(valid), 1)
    mean = jnp.sum(jnp.where(valid, probabilities, 0.0)) / count
    spread = jnp.sqrt(mean_over((probabilities - mean) ** 2, valid))
    top, bottom = found["score_top10_mean"], found["score_bottom10_mean"]
    return {
        "cupid/importance_min": jnp.min(jnp.where(valid, probabilities, jnp.inf)),
        "cupid/importance_max": jnp.max(jnp.where(valid, probabilities, -jnp.inf)),
        "cupid/importance_mean": mean,
        "cupid/importance_std": spread,
        "cupid/top10_mean": top,
        "cupid/bottom10_mean": bottom,
        "cupid/top10_over_bottom10": jnp.minimum(top / jnp.maximum(bottom, 1e-30), 1e6),
        "cupid/ess_share": found["ess_share"],
        "cupid/perplexity_share": found["perplexity_share"],
        "cupid/max_weight": found["max_weight"],
    }


def _correlation(x: PerItem, y: PerItem, valid: Bool[Array, " item"]) -> Float[Array, ""]:
    x, y = x - mean_over(x, valid), y - mean_over(y, valid)
    scale = jnp.sqrt(mean_over(x**2, valid) * mean_over(y**2, valid))
    return jnp.where(scale > 0, mean_over(x * y, valid) / jnp.where(scale > 0, scale, 1.0), 0.0)
