r"""Preference-based IQL: a reward from comparisons, then implicit Q-learning on the segments.

The baseline of Hejna et al. 2023, arXiv:2310.13639. Reward: Bradley–Terry on the sums of an
ensemble, Christiano et al. 2017, arXiv:1706.03741. IQL: Kostrikov, Nair, Levine 2021, "Offline
Reinforcement Learning with Implicit Q-Learning", arXiv:2110.06169.
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.base import ReductionName, loss_reduction
from steelyard.data.normalisation import Normaliser
from steelyard.nets import (
    ACTIVATIONS,
    MLP,
    TanhGaussian,
    choose_tanh_normal,
    make_ensemble,
    q_values,
)
from steelyard.numerics.contrastive import preference_loss, squared_error
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import polyak_update
from steelyard.types import EnvSpec, PreferenceBatch, Transition, UpdateInfo


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Hyper-parameters of a reward that is learned from comparisons."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer (ReLU)."""
    members: int = 3
    """Networks of the ensemble; the reward is their mean."""
    batch_size: int = 32
    """Pairs of one gradient step, or segments where `pairs` is `in_batch`."""
    learning_rate: float = 3e-4
    """Adam step."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay."""
    pairs: Literal["explicit", "in_batch"] = "explicit"
    """A batch of pairs, or all pairs among a batch of segments."""
    reduction: ReductionName = "self_normalised_mean"
    """How the pairs' losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst pairs that count, where `reduction` is `cvar`."""


class PreferenceReward(eqx.Module):
    """An ensemble of rewards; it learns, and acts on nothing."""

    nets: MLP
    optimiser_state: optax.OptState
    normaliser: Normaliser
    config: RewardConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls, key: PRNGKeyArray, spec: EnvSpec, config: RewardConfig, normaliser: Normaliser
    ) -> "PreferenceReward":
        """Draw an ensemble for a task."""
        inputs = spec.observation_size + spec.action_size
        nets = make_ensemble(lambda k: MLP(inputs, 1, config.hidden, key=k), config.members, key)
        state = start_optimiser(_reward_optimiser(config), nets)
        return cls(nets, state, normaliser, config)

    def reward(
        self, observation: Float[Array, "batch obs"], action: Float[Array, "batch act"]
    ) -> Float[Array, "batch net"]:
        """Each member's reward of a step."""
        return _rewards(self.nets, self.normaliser, observation, action)

    def update(
        self,
        batch: PreferenceBatch,
        key: PRNGKeyArray,
        weights: Float[Array, " pair"] | None = None,
    ) -> tuple["PreferenceReward", UpdateInfo]:
        """Take one gradient step on ``-log P`` of the answers, ``P`` by Bradley–Terry.

        Args:
            batch: Segments and the pairs among them.
            key: Unused; the contract's.
            weights: How much each pair counts.

        Returns:
            The new ensemble; metrics and the pairs' losses, mean over members, as `loss`.
        """
        segments = batch.segments

        def objective(nets: MLP) -> tuple[Array, tuple[Array, Array]]:
            rewards = jax.vmap(lambda o, a: _rewards(nets, self.normaliser, o, a))(
                segments.observation, segments.action
            )
            totals = jnp.sum(jnp.where(segments.valid[..., None], rewards, 0.0), axis=1)
            first, second = totals[batch.winner], totals[batch.loser]
            losses = jax.vmap(preference_loss, (1, 1, None), 1)(first, second, batch.label)
            reduced = jax.vmap(lambda x: loss_reduction(self.config)(x, weights), 1)(losses)
            right = jnp.mean(first > second, axis=1)
            return jnp.sum(reduced), (jnp.mean(losses, axis=1), right)

        grads, (losses, right) = jax.grad(objective, has_aux=True)(self.nets)
        nets, state = optimise(
            _reward_optimiser(self.config), self.nets, grads, self.optimiser_state
        )
        count = jnp.ones(batch.label.shape) if weights is None else weights
        strict = count * (batch.label != 0.5)
        metrics = {
            "train/reward_loss": loss_reduction(self.config)(losses, weights),
            "train/reward_accuracy": jnp.sum(strict * right) / jnp.maximum(jnp.sum(strict), 1e-6),
        }
        new = eqx.tree_at(lambda a: (a.nets, a.optimiser_state), self, (nets, state))
        return new, UpdateInfo(metrics, {"loss": losses})


def _rewards(nets: MLP, normaliser: Normaliser, observation: Array, action: Array) -> Array:
    return jax.vmap(lambda o, a: q_values(nets, normaliser(o), a))(observation, action)


def _reward_optimiser(config: RewardConfig) -> optax.GradientTransformation:
    return optax.adamw(config.learning_rate, weight_decay=config.weight_decay)


@dataclasses.dataclass(frozen=True)
class PIQLConfig:
    """Hyper-parameters of implicit Q-learning on a learned reward."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of critics, value and policy."""
    activation: Literal["relu", "gelu"] = "relu"
    """Non-linearity of the policy."""
    batch_size: int = 256
    """Transitions of one gradient step."""
    learning_rate: float = 3e-4
    """Adam step of everything."""
    gamma: float = 0.99
    """Discount per step."""
    tau: float = 0.005
    """Share of the way that the target critics move at each step."""
    expectile: float = 0.7
    """Which expectile of the critic the value is."""
    beta: float = 1.0 / 3.0
    """Temperature of the policy's weights `exp((Q - V) / beta)`."""
    clip: float = 100.0
    """Largest such weight."""
    reduction: ReductionName = "mean"
    """How the rows' losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst rows that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile lies in (0, 1): got {self.expectile}")
        if not self.beta > 0.0:
            raise ValueError(f"beta is above 0: got {self.beta}")


class PIQL(eqx.Module):
    """Policy, two critics, their slow copies, a value and the optimisers' states."""

    actor: TanhGaussian
    critics: MLP
    target_critics: MLP
    value: MLP
    actor_state: optax.OptState
    critic_state: optax.OptState
    value_state: optax.OptState
    normaliser: Normaliser
    config: PIQLConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: PIQLConfig,
        normaliser: Normaliser,
        actor: TanhGaussian | None = None,
    ) -> "PIQL":
        """Begin with a pretrained policy, or draw one.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Of observations.
            actor: The policy to tune.
        """
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        size, inputs = spec.observation_size, spec.observation_size + spec.action_size
        if actor is None:
            activation = ACTIVATIONS[config.activation]
            actor = TanhGaussian(size, spec.action_size, config.hidden, actor_key, activation)
        critics = make_ensemble(lambda k: MLP(inputs, 1, config.hidden, key=k), 2, critic_key)
        value = MLP(size, 1, config.hidden, key=value_key)
        adam = optax.adam(config.learning_rate)
        return cls(
            actor=actor,
            critics=critics,
            target_critics=critics,
            value=value,
            actor_state=start_optimiser(adam, actor),
            critic_state=start_optimiser(adam, critics),
            value_state=start_optimiser(adam, value),
            normaliser=normaliser,
            config=config,
        )

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """The policy's mode, or a draw of the squashed Gaussian."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.normaliser(o)))(observation)
        return choose_tanh_normal(mean, log_std, key, deterministic)

    def update(
        self, batch: Transition, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> tuple["PIQL", UpdateInfo]:
        """Take one step of value, critics and policy.

        Args:
            batch: Transitions whose reward is the learned one.
            key: Unused; the contract's.
            weights: How much each transition counts, mean one; none for all the same.

        Returns:
            The new learner; metrics and, per item, `td_error`.
        """
        config, adam = self.config, optax.adam(self.config.learning_rate)
        reduce = loss_reduction(config)
        normalise = jax.vmap(self.normaliser)
        now, after = normalise(batch.observation), normalise(batch.next_observation)
        q_bar = jnp.min(jax.vmap(q_values, (None, 0, 0))(self.target_critics, now, batch.action), 1)

        def value_objective(value: MLP) -> tuple[Array, Array]:
            v = jax.vmap(value)(now)[:, 0]
            return reduce(expectile_loss(q_bar - v, config.expectile), weights), v

        (value_loss, v), grads = jax.value_and_grad(value_objective, has_aux=True)(self.value)
        value, value_state = optimise(adam, self.value, grads, self.value_state)
        v_next = jax.lax.stop_gradient(jax.vmap(value)(after)[:, 0])
        target = batch.reward + config.gamma * (1.0 - batch.terminated) * v_next

        def critic_objective(critics: MLP) -> tuple[Array, Array]:
            q = jax.vmap(q_values, (None, 0, 0))(critics, now, batch.action)
            return reduce(jnp.sum((q - target[:, None]) ** 2, axis=1), weights), q

        (critic_loss, q), grads = jax.value_and_grad(critic_objective, has_aux=True)(self.critics)
        critics, critic_state = optimise(adam, self.critics, grads, self.critic_state)
        weight = jnp.minimum(jnp.exp((q_bar - v) / config.beta), config.clip)

        def actor_objective(actor: TanhGaussian) -> Array:
            mean, _ = jax.vmap(actor)(now)
            return reduce(-weight * squared_error(jnp.tanh(mean), batch.action), weights)

        actor_loss, grads = jax.value_and_grad(actor_objective)(self.actor)
        actor, actor_state = optimise(adam, self.actor, grads, self.actor_state)
        new = PIQL(
            actor,
            critics,
            polyak_update(self.target_critics, critics, config.tau),
            value,
            actor_state,
            critic_state,
            value_state,
            self.normaliser,
            config,
        )
        metrics = {
            "train/value_loss": value_loss,
            "train/critic_loss": critic_loss,
            "train/actor_loss": actor_loss,
            "train/q_mean": jnp.mean(q),
            "train/advantage_weight": jnp.mean(weight),
        }
        td_error = jnp.mean(jnp.abs(q - target[:, None]), axis=1)
        return new, UpdateInfo(metrics, {"td_error": td_error})


def expectile_loss(difference: Float[Array, " batch"], expectile: float) -> Float[Array, " batch"]:
    """``|τ - 1[u < 0]| u²`` (equation 5 of IQL)."""
    return jnp.abs(expectile - (difference < 0)) * difference**2
