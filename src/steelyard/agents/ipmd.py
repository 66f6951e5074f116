"""IPMD, inverse policy mirror descent: a reward and a policy from demonstrations alone.

Wu, Ke, Wu 2023, "Inverse Reinforcement Learning with the Average Reward Criterion", NeurIPS,
arXiv:2305.14608. The dual of maximum-entropy inverse RL, ``min_r max_pi E_pi[r] + alpha H(pi) -
E_expert[r] + psi(r)``, by one reward step and one soft actor-critic step per batch. The task's own
reward is absent by type. Departures from the paper are marked and listed in docs/methods/ipmd.md.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.base import ReductionName, loss_reduction
from steelyard.data.normalisation import Normaliser
from steelyard.emphasis.reductions import Reduction
from steelyard.nets import (
    MLP,
    TanhGaussian,
    apply_ensemble,
    make_ensemble,
    sample_tanh_normal,
    tanh_normal_log_prob,
)
from steelyard.numerics.trees import polyak_update, select
from steelyard.types import EnvSpec, ImitationBatch, RewardFreeTransition, Transition, UpdateInfo

RewardInput = Literal["oa", "oao", "o", "next_o"]


@dataclasses.dataclass(frozen=True)
class IPMDConfig:
    """Hyper-parameters of IPMD; names follow the reference code where they mean the same."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of actor and critics (ReLU)."""
    batch_size: int = 256
    """Rows of one critic step."""
    expert_batch_size: int = 256
    """Demonstration rows of one reward step."""
    gamma: float = 0.99
    """Discount per step; 1 is the paper's average-reward setting."""
    tau: float = 0.005
    """Share of the way that target critics, and the mirror policy, move at each step."""
    actor_lr: float = 3e-4
    """Adam step of the actor."""
    critic_lr: float = 1e-3
    """Adam step of the critics."""
    alpha_lr: float = 3e-4
    """Adam step of the logarithm of the temperature, where it is learned."""
    alpha_init: float = 0.1
    """Temperature at the start, in units of `reward_max`."""
    learn_alpha: bool = False
    """Whether the temperature follows the target entropy."""
    target_entropy: float | None = None
    """Entropy (nats, of the normalised action) to hold; none means minus the action size."""
    policy_delay: int = 1
    """Critic steps per actor step."""
    reward_num_cells: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of the reward network (ReLU)."""
    reward_input: RewardInput = "oa"
    """What the reward sees: observation and action, these and the next observation, or one of the
    observations alone."""
    reward_max: float = 1.0
    """Bound of the reward: `reward_max · tanh f`."""
    reward_lr: float = 3e-4
    """Adam step of the reward network; 0 never trains it."""
    reward_loss_coeff: float = 1.0
    """Factor on the difference of mean rewards."""
    reward_gradient_penalty: float = 1.0
    """Factor on the squared norm of the reward's gradient between policy and expert rows."""
    reward_l2_coeff: float = 0.0
    """Factor on half the mean squared reward of both sources."""
    reward_update_interval: int = 1
    """Critic steps per reward step."""
    demonstration_share: float = 0.25
    """Share of each critic and actor batch that is demonstration rows."""
    policy_rows: str = "replay"
    """Policy rows in the reward's loss: `replay`, `recent:N` frames, or `resampled` actions."""
    mirror_step: float = math.inf
    """Step eta of the mirror descent; infinite is plain soft actor-critic."""
    average_reward_lr: float = 1e-2
    """Step of the average reward, where `gamma` is 1."""
    absorbing: bool | None = None
    """Whether termination leads to an absorbing state with a learned reward; none: where a task
    can terminate."""
    bc_coef: float = 0.0
    """Factor on the squared error between policy mean and demonstrated action in the actor loss."""
    env_reward_weight: float = 0.0
    """Factor on the task's own reward, added to the learned one; positive is no longer imitation."""
    use_estimated_rewards_for_sac: bool = True
    """Always true: the policy learns from the estimated reward."""
    reduction: ReductionName = "mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        if not self.use_estimated_rewards_for_sac:
            raise ValueError(
                "use_estimated_rewards_for_sac is always true: a policy that learns from the task's "
                "reward is `steelyard train sac`."
            )
        if self.gamma == 1.0 and self.absorbing:
            raise ValueError("gamma=1 (average reward) has no absorbing state; set absorbing=False.")
        parse_policy_rows(self.policy_rows)


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
        actor_key, critic_key, reward_key = jax.random.split(key, 3)
        observed, acted = spec.observation_size + absorbing, spec.action_size
        actor = TanhGaussian(observed, acted, config.hidden, actor_key)
        critics = make_ensemble(
            lambda k: MLP(observed + acted, 1, config.hidden, key=k), 2, critic_key
        )
        reward_size = {"oa": observed + acted, "oao": 2 * observed + acted}
        reward_size = reward_size.get(config.reward_input, observed)
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
            actor_state=optax.adam(config.actor_lr).init(actor),
            critic_state=optax.adam(config.critic_lr).init(critics),
            reward_state=optax.adam(config.reward_lr).init(reward),
            alpha_state=optax.adam(config.alpha_lr).init(log_alpha),
            normaliser=normaliser or Normaliser.identity(spec.observation_size),
            config=config,
            absorbing=absorbing,
        )

    @property
    def batch_rows(self) -> int:
        """Policy rows that one `update` consumes: `policy_delay` minibatches."""
        return self.config.batch_size * self.config.policy_delay

    @property
    def expert_rows(self) -> int:
        """Demonstration rows that one `update` consumes."""
        return self.config.expert_batch_size * self.config.policy_delay

    @property
    def gradient_steps(self) -> int:
        """Critic steps in one `update`."""
        return self.config.policy_delay

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Sample actions, or return the squashed mean."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.observe(o)))(observation)
        if deterministic:
            return jnp.tanh(mean)
        return jnp.tanh(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape))

    def update(
        self, batch: ImitationBatch, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> tuple["IPMD", UpdateInfo]:
        """Take `policy_delay` reward and critic steps and one actor step.

        Args:
            batch: `batch_rows` policy rows and `expert_rows` demonstration rows.
            key: Random key.
            weights: How much each demonstration row counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and, per item, `td_error` of the last critic batch and
            `expert_reward` of the last demonstration rows.
        """
        steps = self.config.policy_delay
        critic_keys, actor_key = jax.random.split(key, (2, steps))[0], jax.random.fold_in(key, 1)
        reward_keys = jax.random.split(jax.random.fold_in(key, 2), steps)
        agent, metrics, items, rows, demonstration = self, {}, {}, None, None
        for i in range(steps):
            part, part_weights = _minibatch((batch, weights), i, steps)
            agent, reward_metrics, expert_reward = agent._reward_step(
                part, reward_keys[i], part_weights
            )
            rows, demonstration = agent.rewarded_rows(part), self.normalised(part.demonstration)
            agent, critic_metrics, td_error = agent._critic_step(rows, critic_keys[i])
            metrics = reward_metrics | critic_metrics
            items = {"td_error": td_error, "expert_reward": expert_reward}
        assert rows is not None and demonstration is not None
        agent, actor_metrics = agent._actor_step(rows.observation, demonstration, actor_key)
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
            following = jnp.where(rows.terminated[:, None], self._absorbed(), following)
        return RewardFreeTransition(
            observe(rows.observation), rows.action, rows.terminated, following
        )

    def reward_of(self, x: Float[Array, " reward_input"]) -> Float[Array, ""]:
        """``reward_max · tanh f(x)`` of one reward input."""
        return bounded_reward(self.reward, x, self.config.reward_max)

    def estimated_rewards(self, rows: RewardFreeTransition) -> Float[Array, " batch"]:
        """Learned reward of raw rows, for evaluation."""
        return jax.vmap(lambda r: self.reward_of(self._reward_input(r)))(self.normalised(rows))

    def rewarded_rows(self, batch: ImitationBatch) -> Transition:
        """Policy rows, a share of them replaced by demonstrations, with the learned reward."""
        size = batch.policy.action.shape[0]
        from_expert = round(self.config.demonstration_share * size)
        own = self.normalised(batch.policy)
        mixed = own
        if from_expert:
            expert = self.normalised(batch.demonstration)
            mixed = jax.tree.map(
                lambda e, p: jnp.concatenate([e[:from_expert], p[: size - from_expert]]), expert, own
            )
        reward = jax.vmap(lambda r: self.reward_of(self._reward_input(r)))(mixed)
        if self.config.env_reward_weight:
            assert isinstance(batch.policy, Transition), "a mixed reward needs rows with rewards"
            task = jnp.concatenate([jnp.zeros(from_expert), batch.policy.reward[: size - from_expert]])
            reward = reward + self.config.env_reward_weight * task
        return Transition(
            mixed.observation,
            mixed.action,
            jax.lax.stop_gradient(reward),
            mixed.terminated,
            mixed.next_observation,
        )

    def clone_step(self, rows: RewardFreeTransition) -> "IPMD":
        """One behaviour-cloning step of the actor, for a warm start."""
        expert = self.normalised(rows)
        loss = lambda actor: jnp.mean(_clone_errors(actor, expert))  # noqa: E731
        grads = jax.grad(loss)(self.actor)
        updates, state = optax.adam(self.config.actor_lr).update(grads, self.actor_state)
        actor = optax.apply_updates(self.actor, updates)
        return eqx.tree_at(lambda a: (a.actor, a.actor_state), self, (actor, state))

    def _reward_step(
        self, batch: ImitationBatch, key: PRNGKeyArray, weights: Float[Array, " batch"] | None
    ) -> tuple["IPMD", dict[str, Array], Float[Array, " batch"]]:
        config = self.config
        own = self.normalised(batch.policy if batch.fresh is None else batch.fresh)
        if config.policy_rows == "resampled":
            mean, log_std = jax.vmap(self.actor)(own.observation)
            noise = jax.random.normal(jax.random.fold_in(key, 1), mean.shape)
            fresh_action = jnp.tanh(mean + jnp.exp(log_std) * noise)
            own = eqx.tree_at(lambda r: r.action, own, fresh_action)
        expert = self.normalised(batch.demonstration)
        own_x, expert_x = jax.vmap(self._reward_input)(own), jax.vmap(self._reward_input)(expert)
        mix = jax.random.uniform(key, (min(own_x.shape[0], expert_x.shape[0]),))
        absorbed = self._reward_input(self._absorbing_row()) if self.absorbing else None

        def loss(net: MLP) -> tuple[Array, dict[str, Array]]:
            return ipmd_reward_loss(
                lambda x: bounded_reward(net, x, config.reward_max),
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
        updates, state = optax.adam(config.reward_lr).update(grads, self.reward_state)
        reward = optax.apply_updates(self.reward, updates)
        if config.reward_update_interval > 1:
            due = self.step % config.reward_update_interval == 0
            reward, state = select(due, (reward, state), (self.reward, self.reward_state))
        agent = eqx.tree_at(
            lambda a: (a.reward, a.reward_state, a.step), self, (reward, state, self.step + 1)
        )
        expert_reward = parts.pop("expert_reward")
        norm = optax.global_norm(grads)
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
        updates, state = optax.adam(config.critic_lr).update(grads, self.critic_state)
        critics = optax.apply_updates(self.critics, updates)
        target_critics = polyak_update(self.target_critics, critics, config.tau)
        average_reward = self.average_reward
        if config.gamma == 1.0:  # differential TD (Wan, Naik, Sutton 2020, arXiv:2006.16318)
            average_reward += config.average_reward_lr * jnp.mean(target[:, None] - q)
        agent = eqx.tree_at(
            lambda a: (a.critics, a.target_critics, a.critic_state, a.average_reward),
            self,
            (critics, target_critics, state, average_reward),
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
        """``r + gamma V(o')``, ``r - rho + V(o')``, or ``r + gamma r_absorbing / (1 - gamma)``."""
        mean, log_std = self.actor(item.next_observation)
        action, log_prob = sample_tanh_normal(mean, log_std, noise)
        q = jnp.min(q_values(self.target_critics, item.next_observation, action))
        value = q - jnp.exp(self.log_alpha) * log_prob
        if self.config.gamma == 1.0:
            return item.reward - self.average_reward + value
        after_end = 0.0
        if self.absorbing:
            absorbed = self._reward_input(self._absorbing_row())
            after_end = self.reward_of(absorbed) / (1.0 - self.config.gamma)
        return item.reward + self.config.gamma * jnp.where(item.terminated, after_end, value)

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
                value = alpha * log_prob - jnp.min(q_values(self.critics, o, action))
                if self.mirror_actor is not None:
                    before = tanh_normal_log_prob(mean + jnp.exp(log_std) * e, *self.mirror_actor(o))
                    value += (log_prob - before) / config.mirror_step
                return value, log_prob

            per_item, log_prob = jax.vmap(item)(observation, noise)
            total = loss_reduction(config)(per_item, None)
            if config.bc_coef:
                total += config.bc_coef * jnp.mean(_clone_errors(actor, demonstration))
            return total, log_prob

        (value, log_prob), grads = jax.value_and_grad(loss, has_aux=True)(self.actor)
        updates, actor_state = optax.adam(config.actor_lr).update(grads, self.actor_state)
        actor = optax.apply_updates(self.actor, updates)
        mirror = self.mirror_actor
        if mirror is not None:
            mirror = polyak_update(mirror, actor, config.tau)
        target_entropy = -float(size) if config.target_entropy is None else config.target_entropy
        alpha_loss = lambda x: -jnp.exp(x) * jnp.mean(log_prob + target_entropy)  # noqa: E731
        alpha_value, alpha_grad = jax.value_and_grad(alpha_loss)(self.log_alpha)
        log_alpha, alpha_state = self.log_alpha, self.alpha_state
        if config.learn_alpha:
            step, alpha_state = optax.adam(config.alpha_lr).update(alpha_grad, alpha_state)
            log_alpha = optax.apply_updates(log_alpha, step)
        agent = eqx.tree_at(
            lambda a: (a.actor, a.mirror_actor, a.actor_state, a.log_alpha, a.alpha_state),
            self,
            (actor, mirror, actor_state, log_alpha, alpha_state),
            is_leaf=lambda x: x is None,
        )
        return agent, {
            "loss_actor": value,
            "loss_alpha": alpha_value,
            "alpha": alpha,
            "entropy": -jnp.mean(log_prob),
        }

    def _reward_input(self, row: RewardFreeTransition | Transition) -> Float[Array, " reward_input"]:
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


def ipmd_reward_loss(
    reward: Callable[[Array], Array],
    policy_x: Float[Array, "policy x"],
    expert_x: Float[Array, "expert x"],
    mix: Float[Array, " mixed"],
    reduction: Reduction,
    *,
    coefficient: float = 1.0,
    gradient_penalty: float = 0.0,
    l2: float = 0.0,
    policy_weights: Float[Array, " policy"] | None = None,
    expert_weights: Float[Array, " expert"] | None = None,
    absorbed: Float[Array, " x"] | None = None,
    ends: tuple[Array, Array] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Loss whose gradient is that of the dual, by Danskin's theorem, and two regularisers.

    ``c (mean_i r(x_i^pi) - mean_j r(x_j^E)) + lambda_gp mean_k |grad_x r(x_k)|^2 + lambda_2 1/2
    (mean r_pi^2 + mean r_E^2)`` with ``x_k = w x_k^pi + (1 - w) x_k^E``. Each mean is over its own
    rows, so unequal batch sizes do not bias it.

    Args:
        reward: Reward of one input.
        policy_x: Inputs of the policy's rows.
        expert_x: Inputs of the demonstrations' rows.
        mix: ``w`` in ``[0, 1]`` per interpolated row; at most as many as the shorter source.
        reduction: Per-item values to one number.
        coefficient: Factor ``c``.
        gradient_penalty: Factor ``lambda_gp``.
        l2: Factor ``lambda_2``.
        policy_weights: How much each policy row counts.
        expert_weights: How much each demonstration row counts.
        absorbed: Input of the absorbing state; each row that ends there is followed by one.
        ends: Which policy and which expert rows terminated; needed with ``absorbed``.

    Returns:
        The loss and its parts; ``expert_reward`` is per item.
    """
    own, expert = jax.vmap(reward)(policy_x), jax.vmap(reward)(expert_x)
    own_mean, expert_mean = reduction(own, policy_weights), reduction(expert, expert_weights)
    if absorbed is not None and ends is not None:
        own_mean, expert_mean = (
            (mean + share * reward(absorbed)) / (1.0 + share)
            for mean, share in zip((own_mean, expert_mean), map(jnp.mean, ends), strict=True)
        )
    difference = own_mean - expert_mean
    count = mix.shape[0]
    between = mix[:, None] * policy_x[:count] + (1.0 - mix[:, None]) * expert_x[:count]
    slopes = jax.vmap(jax.grad(reward))(between)
    penalty = jnp.mean(jnp.sum(slopes**2, axis=1))
    squares = 0.5 * (jnp.mean(own**2) + jnp.mean(expert**2))
    total = coefficient * difference + gradient_penalty * penalty + l2 * squares
    return total, {
        "loss_reward_diff": difference,
        "loss_reward_l2": squares,
        "loss_reward_gradient_penalty": penalty,
        "estimated_reward_mean": jnp.mean(own),
        "estimated_reward_std": jnp.std(own),
        "expert_reward_mean": jnp.mean(expert),
        "expert_reward_std": jnp.std(expert),
        "expert_reward": expert,
    }


def bounded_reward(net: MLP, x: Float[Array, " x"], bound: float) -> Float[Array, ""]:
    """``bound · tanh f(x)``: a linear loss needs a bounded reward or it runs away."""
    return bound * jnp.tanh(net(x)[0])


def q_values(
    critics: MLP, observation: Float[Array, " obs"], action: Float[Array, " act"]
) -> Float[Array, " critic"]:
    """Value of one normalised observation and action under every critic."""
    return apply_ensemble(critics, jnp.concatenate([observation, action]))[:, 0]


def parse_policy_rows(value: str) -> int | None:
    """Number of recent frames of ``recent:N``; none for ``replay`` and ``resampled``.

    Raises:
        ValueError: It is none of the three.
    """
    if value in ("replay", "resampled"):
        return None
    name, _, count = value.partition(":")
    if name != "recent" or not count.isdigit() or int(count) < 1:
        raise ValueError(
            f"policy_rows is 'replay', 'recent:N' with N ≥ 1, or 'resampled'; got {value!r}."
        )
    return int(count)


def _clone_errors(actor: TanhGaussian, rows: RewardFreeTransition) -> Float[Array, " batch"]:
    mean, _ = jax.vmap(actor)(rows.observation)
    return jnp.mean((jnp.tanh(mean) - rows.action) ** 2, axis=1)


def _minibatch(tree: tuple, index: int, count: int) -> tuple:
    """Rows of minibatch ``index`` of ``count``; every source is cut into its own equal parts."""

    def cut(x: Array) -> Array:
        size = x.shape[0] // count
        return x[index * size : (index + 1) * size]

    return jax.tree.map(cut, tree)
