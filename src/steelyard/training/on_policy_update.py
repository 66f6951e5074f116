"""One on-policy update as one program: advantages, scores, epochs of minibatches, KL stop.

Data flow: rollout, learner, kept scorer → items → what the epochs feel → learner, scorer, metrics.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from steelyard.agents.ppo import PPO, log_ratio
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.emphasis.samplers import Drawn, Systematic, Table
from steelyard.training.cupid import Felt, feel
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.rollout_items import (
    Prepared,
    Rollout,
    explained_variance,
    mean_over,
    prepare,
    uniform_indices,
)
from steelyard.training.sharding import spread
from steelyard.types import RolloutBatch, RolloutItems

PROBE_ITEMS = 4_096
"""Items, drawn uniformly once an iteration, on which the KL divergence is measured."""


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """How often, and in what pieces, an iteration's items are learned from."""

    update_epochs: int = 10
    """Passes over the items drawn."""
    num_minibatches: int = 4
    """Gradient steps of a pass."""
    target_kl: float = 0.1
    """KL divergence at which the passes of an iteration end; later iterations go on."""

    def __post_init__(self) -> None:
        for name in ("update_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.target_kl < 0:
            raise ValueError(f"target_kl must be at least 0, got {self.target_kl}")


class Progress(NamedTuple):
    """What the loop over epochs carries.

    Attributes:
        agent: The learner.
        epoch: Passes done.
        stop: Whether the divergence has ended them.
        sums: Sums of the steps' metrics.
        touched: Items that have been in a batch.
    """

    agent: PPO
    epoch: Int[Array, ""]
    stop: Bool[Array, ""]
    sums: dict[str, Array]
    touched: Bool[Array, " item"]


def update(
    agent: PPO,
    scorer: Scorer,
    rollout: Rollout,
    key: PRNGKeyArray,
    config: UpdateConfig,
    cupid: CupidConfig,
    due: bool,
) -> tuple[PPO, Scorer, dict[str, Array]]:
    """Learn from one rollout.

    The loop runs the three parts as programs of their own, to tell the time that each takes.

    Args:
        agent: The learner that drew it.
        scorer: The kept scorer.
        rollout: What was simulated.
        key: Random key.
        config: Passes and minibatches.
        cupid: The emphasis.
        due: Whether the scorer is computed anew.

    Returns:
        The learner, the scorer, and metrics.
    """
    prepared = prepare(agent, rollout)
    felt, scorer, metrics = weigh(agent, prepared, scorer, key, cupid, due)
    learned, more = pass_over(agent, prepared, felt, key, config, cupid)
    return learned, scorer, metrics | more


def weigh(
    agent: PPO,
    prepared: Prepared,
    scorer: Scorer,
    key: PRNGKeyArray,
    cupid: CupidConfig,
    due: bool,
) -> tuple[Felt, Scorer, dict[str, Array]]:
    """Say how the epochs shall feel the items; see :func:`update`."""
    return feel(cupid, agent, prepared, scorer, jax.random.fold_in(key, 0), due)


def pass_over(
    agent: PPO,
    prepared: Prepared,
    felt: Felt,
    key: PRNGKeyArray,
    config: UpdateConfig,
    cupid: CupidConfig,
) -> tuple[PPO, dict[str, Array]]:
    """Pass over the items as they are felt, and describe them; see :func:`update`."""
    size = min(PROBE_ITEMS, prepared.valid.shape[0])
    probe = uniform_indices(prepared.valid, jax.random.fold_in(key, 1), size)
    learned, metrics = learn(
        agent, prepared, felt, probe, jax.random.fold_in(key, 2), config, cupid
    )
    learned = eqx.tree_at(lambda a: a.iteration, learned, agent.iteration + 1)
    return learned, metrics | described(agent, prepared)


def learn(
    agent: PPO,
    prepared: Prepared,
    felt: Felt,
    probe: Int[Array, " probe"],
    key: PRNGKeyArray,
    config: UpdateConfig,
    cupid: CupidConfig,
) -> tuple[PPO, dict[str, Array]]:
    """Pass over the items until the policy has moved far enough.

    The divergence is measured on a fixed uniform probe, so no emphasis can move the stop.
    """
    items, count = prepared.items, prepared.valid.shape[0]
    drawn = int(count * cupid.cupid_draw_fraction) if cupid.use_cupid else count
    rows = drawn // config.num_minibatches
    if rows < 1:
        raise ValueError(
            f"num_minibatches is {config.num_minibatches}, but an epoch draws {drawn} items"
        )
    separate = cupid.use_cupid and cupid.cupid_mode == "gradnorm"
    probed = _take(items, probe)

    def step(agent: PPO, part: tuple) -> tuple[PPO, dict[str, Array]]:
        actor, critic = part
        weights = actor.correction * felt.weights[actor.indices]
        batch = RolloutBatch(_take(items, actor.indices))
        if separate:
            batch = RolloutBatch(batch.actor, _take(items, critic.indices), critic.correction)
        elif cupid.use_cupid:
            # Weights of the actor's losses are no business of the critic's.
            batch = RolloutBatch(batch.actor, batch.actor, actor.correction)
        agent, info = agent.update(spread(batch), key, spread(weights))
        return agent, info.metrics

    def epoch(state: Progress) -> Progress:
        actor_key, critic_key = jax.random.split(jax.random.fold_in(key, state.epoch))
        actor = _minibatches(felt.actor, actor_key, drawn, config.num_minibatches)
        critic = _minibatches(
            felt.critic, critic_key if separate else actor_key, drawn, config.num_minibatches
        )
        agent, metrics = jax.lax.scan(step, state.agent, (actor, critic))
        kl, _, _ = divergence(agent, probed)
        return Progress(
            agent,
            state.epoch + 1,
            kl > config.target_kl,
            jax.tree.map(lambda total, x: total + jnp.sum(x), state.sums, metrics),
            state.touched.at[actor.indices.reshape(-1)].set(True),
        )

    zeros = {name: jnp.zeros(()) for name in _metric_names(agent, items)}
    start = Progress(
        agent, jnp.zeros((), jnp.int32), jnp.zeros((), bool), zeros, jnp.zeros(count, bool)
    )
    end = jax.lax.while_loop(lambda s: (s.epoch < config.update_epochs) & ~s.stop, epoch, start)
    steps = jnp.maximum(end.epoch * config.num_minibatches, 1)
    kl, clipped, old_kl = divergence(end.agent, probed)
    metrics = {name: total / steps for name, total in end.sums.items()}
    metrics |= {
        "losses/approx_kl": kl,
        "losses/old_approx_kl": old_kl,
        "losses/clipfrac": clipped,
        "losses/epochs": end.epoch.astype(jnp.float32),
    }
    if cupid.use_cupid:
        metrics["cupid/touched_share"] = mean_over(end.touched.astype(jnp.float32), prepared.valid)
    return end.agent, metrics


def divergence(agent: PPO, items: RolloutItems) -> tuple[Array, Array, Array]:
    """KL divergence ``(ρ - 1) - log ρ`` on some items, the clipped share, and mean ``-log ρ``."""
    ratio = log_ratio(agent.actor, items)
    beyond = jnp.abs(jnp.exp(ratio) - 1.0) > agent.config.clip_coef
    kl = jnp.mean(jnp.exp(ratio) - 1.0 - ratio)
    return kl, jnp.mean(beyond.astype(jnp.float32)), jnp.mean(-ratio)


def described(agent: PPO, prepared: Prepared) -> dict[str, Array]:
    """What the iteration's items were like; over valid items."""
    valid, items = prepared.valid, prepared.items
    size = jnp.sqrt(jnp.sum(items.action**2, axis=1)) * agent.config.action_scale
    mean_size = mean_over(size, valid)
    return {
        "values/advantages": mean_over(prepared.advantage, valid),
        "values/returns": mean_over(items.value_target, valid),
        "values/values": mean_over(items.value, valid),
        "values/mean_logstd": jnp.mean(agent.actor.log_std),
        "losses/explained_variance": explained_variance(prepared),
        "charts/rewards": mean_over(prepared.reward, valid),
        "charts/action_norm_mean": mean_size,
        "charts/action_norm_std": jnp.sqrt(mean_over((size - mean_size) ** 2, valid)),
        "training/learning_rate_actor": agent.learning_rate_actor(),
        "training/learning_rate_critic": agent.learning_rate_critic(),
        "cupid/valid_share": jnp.mean(valid.astype(jnp.float32)),
    }


def _minibatches(table: Table, key: PRNGKeyArray, drawn: int, parts: int) -> Drawn:
    """Draw an epoch's items, in a random order, cut into minibatches ``[part, row]``."""
    draw_key, order_key = jax.random.split(key)
    found = Systematic().draw(table, draw_key, drawn)
    order = jax.random.permutation(order_key, drawn)[: drawn // parts * parts]
    return jax.tree.map(lambda x: x[order].reshape(parts, -1), found)


def _take(items: RolloutItems, indices: Int[Array, " row"]) -> RolloutItems:
    return jax.tree.map(lambda x: x[indices], items)


def _metric_names(agent: PPO, items: RolloutItems) -> list[str]:
    def once(agent: PPO) -> dict[str, Array]:
        return agent.update(RolloutBatch(_take(items, jnp.arange(1))), jax.random.key(0))[1].metrics

    return list(eqx.filter_eval_shape(once, agent))
