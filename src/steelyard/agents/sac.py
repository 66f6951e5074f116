"""Soft actor-critic with two critics and a learned temperature.

Haarnoja et al. 2018, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning
with a Stochastic Actor", arXiv:1801.01290, and "Soft Actor-Critic Algorithms and Applications",
arXiv:1812.05905. Time limits: Pardo et al. 2017, "Time Limits in Reinforcement Learning",
arXiv:1712.00378. Dropout and layer normalisation in the critics: Hiraoka et al. 2021, "Dropout
Q-Functions for Doubly Efficient Reinforcement Learning" (DroQ), arXiv:2110.02034.
"""

import dataclasses
from typing import Any, Literal

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
    sample_tanh_normal,
)
from steelyard.numerics.extremes import lowest
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import minibatch, polyak_update
from steelyard.types import EnvSpec, Transition, UpdateInfo, late


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """Hyper-parameters of SAC; the defaults are the customary ones for MuJoCo tasks."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of actor and critics."""
    batch_size: int = 256
    """Transitions of one gradient step."""
    gamma: float = 0.99
    """Discount per step."""
    tau: float = 0.005
    """Share of the way that the target critics move at each step."""
    actor_lr: float = 3e-4
    """Adam step of the actor."""
    critic_lr: float = 1e-3
    """Adam step of the critics."""
    alpha_lr: float = 3e-4
    """Adam step of the logarithm of the temperature."""
    alpha_init: float = 1.0
    """Temperature at the start."""
    learn_alpha: bool = True
    """Whether the temperature follows the target entropy; if not it stays at `alpha_init`."""
    target_entropy: float | None = None
    """Entropy (nats, of the normalised action) to hold; none means minus the action size."""
    policy_delay: int = 1
    """Critic steps per actor and temperature step."""
    reduction: ReductionName = "mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""
    activation: Literal["relu", "gelu"] = late("relu")
    """Non-linearity of actor and critics."""
    critic_layer_norm: bool = late(False)
    """Normalise each hidden layer of the critics before its activation."""
    critic_dropout: float = late(0.0)
    """Share of the critics' hidden units that are left out, in their targets, too (DroQ)."""
    actor_q: Literal["min", "mean"] = late("min")
    """What of the two critics the actor climbs; the target is always the lower one."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.critic_dropout < 1.0:
            raise ValueError(f"critic_dropout lies in [0, 1): got {self.critic_dropout}")


class SAC(eqx.Module):
    """Actor, critics, their slow copies, the temperature and the optimisers' states."""

    actor: TanhGaussian
    critics: MLP
    target_critics: MLP
    log_alpha: Float[Array, ""]
    actor_state: optax.OptState
    critic_state: optax.OptState
    alpha_state: optax.OptState
    normaliser: Normaliser
    config: SACConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: SACConfig,
        normaliser: Normaliser | None = None,
    ) -> "SAC":
        """Draw networks for a task.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Observation normaliser; none leaves observations as they are.
        """
        # Departs from the paper: no state-value network, and (as in the second paper) the
        # temperature is learned. The actor's log sigma is squashed into its range, not clipped.
        actor_key, critic_key = jax.random.split(key)
        inputs = spec.observation_size + spec.action_size
        activation = ACTIVATIONS[config.activation]
        actor = TanhGaussian(
            spec.observation_size, spec.action_size, config.hidden, actor_key, activation
        )
        norm = config.critic_layer_norm
        critics = make_ensemble(
            lambda k: MLP(inputs, 1, config.hidden, key=k, activation=activation, layer_norm=norm),
            2,
            critic_key,
        )
        log_alpha = jnp.log(jnp.asarray(config.alpha_init, jnp.float32))
        return cls(
            actor=actor,
            critics=critics,
            target_critics=critics,
            log_alpha=log_alpha,
            actor_state=start_optimiser(optax.adam(config.actor_lr), actor),
            critic_state=start_optimiser(optax.adam(config.critic_lr), critics),
            alpha_state=start_optimiser(optax.adam(config.alpha_lr), log_alpha),
            normaliser=normaliser or Normaliser.identity(spec.observation_size),
            config=config,
        )

    @property
    def batch_rows(self) -> int:
        """Rows that one `update` consumes: `policy_delay` minibatches."""
        return self.config.batch_size * self.config.policy_delay

    @property
    def gradient_steps(self) -> int:
        """Critic steps in one `update`."""
        return self.config.policy_delay

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Sample actions, or return the squashed mean."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.normaliser(o)))(observation)
        return choose_tanh_normal(mean, log_std, key, deterministic)

    def update(
        self, batch: Transition, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> tuple["SAC", UpdateInfo]:
        """Take `policy_delay` critic steps and one step of actor and temperature.

        Args:
            batch: `batch_rows` transitions.
            key: Random key.
            weights: How much each transition counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and, per item of the last minibatch, `td_error`.
        """
        # Departs from the paper: observations are normalised, rows of replay by the statistics
        # of now and not of when they were recorded.
        normalise = jax.vmap(self.normaliser)
        batch = eqx.tree_at(
            lambda b: (b.observation, b.next_observation),
            batch,
            (normalise(batch.observation), normalise(batch.next_observation)),
        )
        steps = self.config.policy_delay
        critic_keys, actor_key = jax.random.split(key, (2, steps))[0], jax.random.fold_in(key, 1)
        # Departs from the paper: several critic steps share one step of actor and temperature.
        agent, info, part, part_weights = self, {}, batch, weights
        for i in range(steps):
            part, part_weights = minibatch((batch, weights), i, steps)
            agent, info = agent._critic_step(part, critic_keys[i], part_weights)
        agent, actor_metrics = agent._actor_step(part.observation, actor_key, part_weights)
        td_error = info.pop("td_error")
        return agent, UpdateInfo(info | actor_metrics, {"td_error": td_error})

    def _critic_step(
        self, batch: Transition, key: PRNGKeyArray, weights: Float[Array, " batch"] | None
    ) -> tuple["SAC", dict[str, Array]]:
        noise = jax.random.normal(key, batch.action.shape)
        target_keys, keys = self._dropout_keys(key, (2, noise.shape[0]))
        target = jax.lax.stop_gradient(jax.vmap(self._target)(batch, noise, target_keys))

        def loss(critics: MLP) -> tuple[Array, Array]:
            q = jax.vmap(self._q, (None, 0, 0, 0))(critics, batch.observation, batch.action, keys)
            per_item = jnp.sum((q - target[:, None]) ** 2, axis=1)
            return loss_reduction(self.config)(per_item, weights), q

        (value, q), grads = jax.value_and_grad(loss, has_aux=True)(self.critics)
        critics, state = optimise(
            optax.adam(self.config.critic_lr), self.critics, grads, self.critic_state
        )
        target_critics = polyak_update(self.target_critics, critics, self.config.tau)
        agent = eqx.tree_at(
            lambda a: (a.critics, a.target_critics, a.critic_state),
            self,
            (critics, target_critics, state),
        )
        td_error = jnp.mean(jnp.abs(q - target[:, None]), axis=1)
        return agent, {"loss_qvalue": value, "q_mean": jnp.mean(q), "td_error": td_error}

    def _q(self, critics: MLP, observation: Array, action: Array, key: Array | None) -> Array:
        """Values under every critic, in training."""
        return q_values(critics, observation, action, self.config.critic_dropout, key)

    def _dropout_keys(self, key: PRNGKeyArray, shape: tuple[int, int]) -> Any:
        """Keys of what the critics leave out, ``[purpose][item]``; none where they do not."""
        if self.config.critic_dropout == 0.0:
            return (None,) * shape[0]
        return tuple(jax.random.split(jax.random.fold_in(key, 1), shape))

    def _target(
        self, item: Transition, noise: Float[Array, " act"], key: PRNGKeyArray | None = None
    ) -> Float[Array, ""]:
        """``y = r + gamma (1 - terminated) (min_j Qbar_j(o', a') - alpha log pi(a'|o'))``."""
        mean, log_std = self.actor(item.next_observation)
        action, log_prob = sample_tanh_normal(mean, log_std, noise)
        q = lowest(self._q(self.target_critics, item.next_observation, action, key))
        value = q - jnp.exp(self.log_alpha) * log_prob
        return soft_target(item.reward, item.terminated, value, self.config.gamma)

    def _actor_step(
        self,
        observation: Float[Array, "batch obs"],
        key: PRNGKeyArray,
        weights: Float[Array, " batch"] | None,
    ) -> tuple["SAC", dict[str, Array]]:
        config, alpha = self.config, jnp.exp(self.log_alpha)
        noise = jax.random.normal(key, (observation.shape[0], self.actor.net.biases[-1].size // 2))
        (keys,) = self._dropout_keys(key, (1, noise.shape[0]))
        of_both = {"min": lowest, "mean": jnp.mean}[config.actor_q]

        def loss(actor: TanhGaussian) -> tuple[Array, Array]:
            def item(o: Array, e: Array, k: Array | None) -> tuple[Array, Array]:
                action, log_prob = sample_tanh_normal(*actor(o), e)
                return alpha * log_prob - of_both(self._q(self.critics, o, action, k)), log_prob

            per_item, log_prob = jax.vmap(item)(observation, noise, keys)
            return loss_reduction(config)(per_item, weights), log_prob

        (value, log_prob), grads = jax.value_and_grad(loss, has_aux=True)(self.actor)
        actor, actor_state = optimise(
            optax.adam(config.actor_lr), self.actor, grads, self.actor_state
        )
        size = noise.shape[1]
        target_entropy = -float(size) if config.target_entropy is None else config.target_entropy
        alpha_losses = alpha_loss(self.log_alpha, log_prob, target_entropy)
        log_alpha, alpha_state = self.log_alpha, self.alpha_state
        if config.learn_alpha:
            alpha_grad = jax.grad(
                lambda x: loss_reduction(config)(alpha_loss(x, log_prob, target_entropy), weights)
            )(log_alpha)
            log_alpha, alpha_state = optimise(
                optax.adam(config.alpha_lr), log_alpha, alpha_grad, alpha_state
            )
        agent = eqx.tree_at(
            lambda a: (a.actor, a.actor_state, a.log_alpha, a.alpha_state),
            self,
            (actor, actor_state, log_alpha, alpha_state),
        )
        return agent, {
            "loss_actor": value,
            "loss_alpha": jnp.mean(alpha_losses),
            "alpha": alpha,
            "entropy": -jnp.mean(log_prob),
        }


def soft_target(
    reward: Float[Array, ""], terminated: Array, value: Float[Array, ""], gamma: float
) -> Float[Array, ""]:
    """``r + gamma (1 - terminated) V(o')``; a time limit does not stop bootstrapping."""
    return reward + gamma * (1.0 - terminated) * value


def alpha_loss(
    log_alpha: Float[Array, ""], log_prob: Float[Array, " batch"], target_entropy: float
) -> Float[Array, " batch"]:
    """``-alpha (log pi + H)`` per item: alpha falls while the entropy exceeds its target."""
    return -jnp.exp(log_alpha) * (jax.lax.stop_gradient(log_prob) + target_entropy)
