"""IPMD, inverse policy mirror descent: a reward and a policy from demonstrations alone.

Wu, Ke, Wu 2023, "Inverse Reinforcement Learning with the Average Reward Criterion", NeurIPS,
arXiv:2305.14608. The dual of maximum-entropy inverse RL, ``min_r max_pi E_pi[r] + alpha H(pi) -
E_expert[r] + psi(r)``, by one reward step and one soft actor-critic step per batch. The task's own
reward is absent by type. Departures from the paper are marked and listed in docs/methods/ipmd.md.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.base import loss_reduction
from steelyard.agents.ipmd_config import IPMDConfig, parse_policy_rows
from steelyard.data.normalisation import Normaliser
from steelyard.nets import (
    MLP,
    TanhGaussian,
    choose_tanh_normal,
    make_ensemble,
    q_values,
    sample_tanh_normal,
    tanh_normal_log_prob,
)
from steelyard.numerics.extremes import lowest
from steelyard.numerics.inverse_rl import bounded_reward, ipmd_reward_loss, mirror_step_loss
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import minibatch, polyak_update, select
from steelyard.types import EnvSpec, ImitationBatch, RewardFreeTransition, Transition, UpdateInfo

__all__ = ["IPMD", "IPMDConfig", "parse_policy_rows"]


class IPMD(eqx.Module):
    """Actor, critics, reward network, temperature, average reward and the optimisers' states."""

    actor: TanhGaussian
    mirror_actor: TanhGaussian | None
    critics: MLP
    target_critics: MLP
    reward: MLP
    log_alpha: Float[Array, ""]
    average_reward: Float[Array, ""]
    step: Array
    actor_state: optax.OptState
    critic_state: optax.OptState
    reward_state: optax.OptState
    alpha_state: optax.OptState
    normaliser: Normaliser
    config: IPMDConfig = eqx.field(static=True)
    absorbing: bool = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: IPMDConfig,
        normaliser: Normaliser | None = None,
    ) -> "IPMD":
        """Draw networks for a task.

        Args:
            key: Random key.
            spec: The task's sizes, and whether it can terminate.
            config: Hyper-parameters.
            normaliser: Observation normaliser; none leaves observations as they are.

        Raises:
            ValueError: Average reward, or no absorbing state, on a task that can terminate.
        """
        absorbing = spec.can_terminate if config.absorbing is None else config.absorbing
        if spec.can_terminate and (config.gamma == 1.0 or not absorbing):
            raise ValueError(
                f"{spec.id} can terminate, and a reward of one sign would then pay for living or "
                f"dying by itself: keep gamma < 1 (got {config.gamma}) and absorbing=True (got "
                f"{config.absorbing})."
            )
        # Folded, because an expert of the same seed splits this very key for its networks.
        actor_key, critic_key, reward_key = jax.random.split(jax.random.fold_in(key, 1), 3)
        observed, acted = spec.observation_size + absorbing, spec.action_size
        actor = TanhGaussian(observed, acted, config.hidden, actor_key)
        normed = config.critic_layer_norm
        critics = make_ensemble(
            lambda k: MLP(observed + acted, 1, config.hidden, key=k, layer_norm=normed),
            2,
            critic_key,
        )
        sizes = {"oa": observed + acted, "oao": 2 * observed + acted}
        reward_size = sizes.get(config.reward_input, observed)
        reward = MLP(reward_size, 1, config.reward_num_cells, key=reward_key)
        log_alpha = jnp.log(jnp.asarray(config.alpha_init * config.reward_max, jnp.float32))
        return cls(
            actor=actor,
            mirror_actor=None if math.isinf(config.mirror_step) else actor,
            critics=critics,
            target_critics=critics,
            reward=reward,
            log_alpha=log_alpha,
            average_reward=jnp.zeros(()),
            step=jnp.zeros((), jnp.int32),
            actor_state=start_optimiser(optax.adam(config.actor_lr), actor),
            critic_state=start_optimiser(optax.adam(config.critic_lr), critics),
            reward_state=start_optimiser(optax.adam(config.reward_lr), reward),
            alpha_state=start_optimiser(optax.adam(config.alpha_lr), log_alpha),
            normaliser=normaliser or Normaliser.identity(spec.observation_size),
            config=config,
            absorbing=absorbing,
        )

    @property
    def batch_rows(self) -> int:
        """Policy rows that one `update` consumes: `policy_delay` minibatches."""
        return self.config.batch_size * self.config.policy_delay

    @property
    def gradient_steps(self) -> int:
        """Critic steps in one `update`."""
        return self.config.policy_delay

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Sample actions, or return the squashed mean."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.observe(o)))(observation)
        return choose_tanh_normal(mean, log_std, key, deterministic)

    def update(
        self,
        batch: ImitationBatch,
        key: PRNGKeyArray,
        weights: Float[Array, " batch"] | None = None,
    ) -> tuple["IPMD", UpdateInfo]:
        """Take `policy_delay` reward and critic steps and one actor step.

        Args:
            batch: `batch_rows` policy rows and `expert_batch_size * policy_delay` demonstration
                rows; `fresh` ones, where there are any, are as many as the policy rows.
            key: Random key.
            weights: How much each demonstration row counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and, per item, `td_error` of the last critic batch and
            `expert_reward` of the last demonstration rows.
        """
        steps = self.config.policy_delay
        critic_keys, actor_key = jax.random.split(key, (2, steps))[0], jax.random.fold_in(key, 1)
        reward_keys = jax.random.split(jax.random.fold_in(key, 2), steps)
        agent, metrics, items, part = self, {}, {}, batch
        observation = batch.policy.observation
        for i in range(steps):
            part, part_weights = minibatch((batch, weights), i, steps)
            agent, reward_metrics, expert = agent._reward_step(part, reward_keys[i], part_weights)
            rows = agent.rewarded_rows(part)
            agent, critic_metrics, td_error = agent._critic_step(rows, critic_keys[i])
            metrics, observation = reward_metrics | critic_metrics, rows.observation
            items = {"td_error": td_error, "expert_reward": expert}
        demonstration = self.normalised(part.demonstration)
        agent, actor_metrics = agent._actor_step(observation, demonstration, actor_key)
        return agent, UpdateInfo(metrics | actor_metrics, items)

    def observe(self, observation: Float[Array, " obs"]) -> Float[Array, " _observed"]:
        """Normalise an observation and append the absorbing bit where the task has one."""
        normal = self.normaliser(observation)
        return jnp.append(normal, 0.0) if self.absorbing else normal

    def normalised(self, rows: RewardFreeTransition | Transition) -> RewardFreeTransition:
        """Rows as the networks see them; what follows a termination is the absorbing state."""
        observe = jax.vmap(self.observe)
        following = observe(rows.next_observation)
        if self.absorbing:
            following = jnp.where(rows.terminated[:, None], self._absorbed()[None], following)
        return RewardFreeTransition(
            observe(rows.observation), rows.action, rows.terminated, following
        )

    def reward_of(self, x: Float[Array, " reward_input"]) -> Float[Array, ""]:
        """``reward_max · tanh f(x)`` of one reward input."""
        return bounded_reward(self.reward(x)[0], self.config.reward_max)

    def estimated_rewards(self, rows: RewardFreeTransition) -> Float[Array, " batch"]:
        """Learned reward of raw rows, for evaluation."""
        return jax.vmap(lambda r: self.reward_of(self._reward_input(r)))(self.normalised(rows))

    def rewarded_rows(self, batch: ImitationBatch) -> Transition:
        """Policy rows, a share of them replaced by demonstrations, with the learned reward."""
        size = batch.policy.action.shape[0]
        from_expert = round(self.config.demonstration_share * size)
        own = mixed = self.normalised(batch.policy)
        if from_expert:
            expert = self.normalised(batch.demonstration)
            mixed = jax.tree.map(
                lambda e, p: jnp.concatenate([e[:from_expert], p[: size - from_expert]]),
                expert,
                own,
            )
        reward = jax.vmap(lambda r: self.reward_of(self._reward_input(r)))(mixed)
        if self.config.env_reward_weight:
            assert isinstance(batch.policy, Transition), "a mixed reward needs rows with rewards"
            task = jnp.pad(batch.policy.reward[: size - from_expert], (from_expert, 0))
            reward = reward + self.config.env_reward_weight * task
        reward = jax.lax.stop_gradient(reward)
        parts = (mixed.terminated, mixed.next_observation)
        return Transition(mixed.observation, mixed.action, reward, *parts)

    def clone_step(self, rows: RewardFreeTransition) -> "IPMD":
        """One behaviour-cloning step of the actor, for a warm start."""
        expert = self.normalised(rows)
        grads = jax.grad(lambda actor: jnp.mean(_clone_errors(actor, expert)))(self.actor)
        actor, state = optimise(
            optax.adam(self.config.actor_lr), self.actor, grads, self.actor_state
        )
        return dataclasses.replace(self, actor=actor, actor_state=state)

    def _reward_step(
        self, batch: ImitationBatch, key: PRNGKeyArray, weights: Float[Array, " batch"] | None
    ) -> tuple["IPMD", dict[str, Array], Float[Array, " batch"]]:
        config = self.config
        own = self.normalised(batch.policy if batch.fresh is None else batch.fresh)
        if config.policy_rows == "resampled":
            mean, log_std = jax.vmap(self.actor)(own.observation)
            noise = jax.random.normal(jax.random.fold_in(key, 1), mean.shape)
            fresh_action = jnp.tanh(mean + jnp.exp(log_std) * noise)
            own = dataclasses.replace(own, action=fresh_action)
        expert = self.normalised(batch.demonstration)
        own_x, expert_x = jax.vmap(self._reward_input)(own), jax.vmap(self._reward_input)(expert)
        mix = jax.random.uniform(key, (min(own_x.shape[0], expert_x.shape[0]),))
        absorbed = self._reward_input(self._absorbing_row()) if self.absorbing else None

        def loss(net: MLP) -> tuple[Array, dict[str, Array]]:
            return ipmd_reward_loss(
                lambda x: bounded_reward(net(x)[0], config.reward_max),
                own_x,
                expert_x,
                mix,
                loss_reduction(config),
                coefficient=config.reward_loss_coeff,
                gradient_penalty=config.reward_gradient_penalty,
                l2=config.reward_l2_coeff,
                expert_weights=weights,
                absorbed=absorbed,
                ends=(own.terminated, expert.terminated),
            )

        grads, parts = jax.grad(loss, has_aux=True)(self.reward)
        reward, state = optimise(
            optax.adam(config.reward_lr), self.reward, grads, self.reward_state
        )
        if config.reward_update_interval > 1:
            due = self.step % config.reward_update_interval == 0
            reward, state = select(due, (reward, state), (self.reward, self.reward_state))
        agent = dataclasses.replace(self, reward=reward, reward_state=state, step=self.step + 1)
        expert_reward = parts.pop("expert_reward")
        norm = optax.tree.norm(grads)
        return agent, parts | {"reward_gradient_norm": norm}, expert_reward

    def _critic_step(
        self, rows: Transition, key: PRNGKeyArray
    ) -> tuple["IPMD", dict[str, Array], Float[Array, " batch"]]:
        config = self.config
        noise = jax.random.normal(key, rows.action.shape)
        target = jax.lax.stop_gradient(jax.vmap(self._target)(rows, noise))

        def loss(critics: MLP) -> tuple[Array, Array]:
            q = jax.vmap(q_values, (None, 0, 0))(critics, rows.observation, rows.action)
            return loss_reduction(config)(jnp.sum((q - target[:, None]) ** 2, axis=1), None), q

        (value, q), grads = jax.value_and_grad(loss, has_aux=True)(self.critics)
        critics, state = optimise(
            optax.adam(config.critic_lr), self.critics, grads, self.critic_state
        )
        target_critics = polyak_update(self.target_critics, critics, config.tau)
        average_reward = self.average_reward
        if config.gamma == 1.0:  # differential TD (Wan, Naik, Sutton 2020, arXiv:2006.16318)
            average_reward += config.average_reward_lr * jnp.mean(target[:, None] - q)
        elif config.reward_centering:
            average_reward += config.average_reward_lr * (jnp.mean(rows.reward) - average_reward)
        agent = dataclasses.replace(
            self,
            critics=critics,
            target_critics=target_critics,
            critic_state=state,
            average_reward=average_reward,
        )
        td_error = jnp.mean(jnp.abs(q - target[:, None]), axis=1)
        metrics = {
            "loss_qvalue": value,
            "q_mean": jnp.mean(q),
            "average_reward": average_reward,
            "demo_share": jnp.asarray(config.demonstration_share),
        }
        return agent, metrics, td_error

    def _target(self, item: Transition, noise: Float[Array, " act"]) -> Float[Array, ""]:
        """``r - rho + gamma V(o')``; a termination's V is ``(r_absorbing - rho) / (1 - gamma)``.

        ``rho`` is 0 unless rewards are centred or averaged.
        """
        mean, log_std = self.actor(item.next_observation)
        action, log_prob = sample_tanh_normal(mean, log_std, noise)
        q = lowest(q_values(self.target_critics, item.next_observation, action))
        value = q - jnp.exp(self.log_alpha) * log_prob
        reward = item.reward - self.average_reward
        if self.config.gamma == 1.0:
            return reward + value
        if not self.absorbing:
            return reward + self.config.gamma * (1.0 - item.terminated) * value
        absorbed = self.reward_of(self._reward_input(self._absorbing_row()))
        after_end = (absorbed - self.average_reward) / (1.0 - self.config.gamma)
        return reward + self.config.gamma * jnp.where(item.terminated, after_end, value)

    def _actor_step(
        self,
        observation: Float[Array, "batch obs"],
        demonstration: RewardFreeTransition,
        key: PRNGKeyArray,
    ) -> tuple["IPMD", dict[str, Array]]:
        config, alpha = self.config, jnp.exp(self.log_alpha)
        size = demonstration.action.shape[1]
        noise = jax.random.normal(key, (observation.shape[0], size))

        def loss(actor: TanhGaussian) -> tuple[Array, Array]:
            def item(o: Array, e: Array) -> tuple[Array, Array]:
                mean, log_std = actor(o)
                action, log_prob = sample_tanh_normal(mean, log_std, e)
                q, before = lowest(q_values(self.critics, o, action)), None
                if self.mirror_actor is not None:
                    pre_tanh = mean + jnp.exp(log_std) * e
                    before = tanh_normal_log_prob(pre_tanh, *self.mirror_actor(o))
                return mirror_step_loss(log_prob, q, alpha, before, config.mirror_step), log_prob

            per_item, log_prob = jax.vmap(item)(observation, noise)
            total = loss_reduction(config)(per_item, None)
            if config.bc_coef:
                total += config.bc_coef * jnp.mean(_clone_errors(actor, demonstration))
            return total, log_prob

        (value, log_prob), grads = jax.value_and_grad(loss, has_aux=True)(self.actor)
        actor, actor_state = optimise(
            optax.adam(config.actor_lr), self.actor, grads, self.actor_state
        )
        mirror = self.mirror_actor and polyak_update(self.mirror_actor, actor, config.tau)
        target_entropy = -float(size) if config.target_entropy is None else config.target_entropy

        def alpha_loss(log_alpha: Array) -> tuple[Array, Array]:
            per_item = -jnp.exp(log_alpha) * (log_prob + target_entropy)
            return loss_reduction(config)(per_item, None), jnp.mean(per_item)

        alpha_grad, alpha_value = jax.grad(alpha_loss, has_aux=True)(self.log_alpha)
        log_alpha, alpha_state = self.log_alpha, self.alpha_state
        if config.learn_alpha:
            log_alpha, alpha_state = optimise(
                optax.adam(config.alpha_lr), log_alpha, alpha_grad, alpha_state
            )
        agent = dataclasses.replace(
            self,
            actor=actor,
            mirror_actor=mirror,
            actor_state=actor_state,
            log_alpha=log_alpha,
            alpha_state=alpha_state,
        )
        return agent, {
            "loss_actor": value,
            "loss_alpha": alpha_value,
            "alpha": alpha,
            "entropy": -jnp.mean(log_prob),
        }

    def _reward_input(self, row: RewardFreeTransition) -> Float[Array, " reward_input"]:
        """One normalised row as the reward network sees it."""
        before, after = row.observation, row.next_observation
        match self.config.reward_input:
            case "oa":
                return jnp.concatenate([before, row.action])
            case "oao":
                return jnp.concatenate([before, row.action, after])
            case "o":
                return before
            case "next_o":
                return after

    def _absorbed(self) -> Float[Array, " _observed"]:
        return jnp.zeros(self.normaliser.mean.shape[0] + 1).at[-1].set(1.0)

    def _absorbing_row(self) -> RewardFreeTransition:
        action = jnp.zeros(self.actor.net.biases[-1].shape[0] // 2)
        return RewardFreeTransition(self._absorbed(), action, jnp.array(False), self._absorbed())


def _clone_errors(actor: TanhGaussian, rows: RewardFreeTransition) -> Float[Array, " batch"]:
    mean, _ = jax.vmap(actor)(rows.observation)
    return jnp.mean((jnp.tanh(mean) - rows.action) ** 2, axis=1)
