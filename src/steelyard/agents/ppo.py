r"""Proximal policy optimisation of a residual over a frozen base policy.

Schulman et al. 2017, "Proximal Policy Optimization Algorithms", arXiv:1707.06347; as a residual:
Ankile et al. 2024, "From Imitation to Refinement", arXiv:2407.16677. The executed action is
``clip(b + s u)`` of the base action ``b`` and the policy's ``u``, whose mean is exactly 0 at the
start. Without a base, ``b = 0``, it is plain PPO.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.agents.base import ReductionName, loss_reduction
from steelyard.data.normalisation import Normaliser
from steelyard.nets import MLP
from steelyard.numerics import gaussian
from steelyard.numerics.extremes import higher
from steelyard.numerics.optimisation import start_optimiser
from steelyard.numerics.trees import select
from steelyard.types import EnvSpec, RolloutBatch, RolloutItems, UpdateInfo

MAX_LOG_RATIO = 20.0
OBSERVATION_CLIP = 3.0


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Hyper-parameters of residual PPO; keys as in the reference code."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of actor and critic (ReLU)."""
    residual: bool = True
    """Whether observations end in a base action, to which the policy adds."""
    action_scale: float = 0.3
    """Size of the residual in units of the base's action range."""
    init_logstd: float = -1.0
    """Logarithm of the policy's standard deviation at the start."""
    learn_std: bool = False
    """Whether it is learned."""
    learning_rate_actor: float = 3e-4
    """AdamW step of the actor; a cosine over the iterations, after the warm-up."""
    learning_rate_critic: float = 1e-3
    """AdamW step of the critic; a cosine over the iterations."""
    actor_warmup_iterations: int = 5
    """Iterations over which the actor's step rises."""
    weight_decay: float = 1e-6
    """Decoupled weight decay of both."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    discount: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """Exponential weight of generalised advantage estimation."""
    clip_coef: float = 0.2
    """How far the probability ratio may leave 1 before its gradient ends."""
    clip_vloss: bool = False
    """Whether the critic's change is clipped in the same way."""
    norm_adv: bool = True
    """Whether advantages are normalised, once an iteration and before any emphasis."""
    ent_coef: float = 0.0
    """Factor of the entropy bonus."""
    vf_coef: float = 1.0
    """Factor of the value loss."""
    residual_l1: float = 0.0
    """Factor of the mean size of the residual."""
    residual_l2: float = 0.0
    """Factor of its mean square."""
    max_grad_norm: float = 1.0
    """Largest norm of the actor's and, by itself, of the critic's gradient."""
    n_iterations_train_only_value: int = 2
    """First iterations in which only the critic learns."""
    reduction: ReductionName = "weighted_mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        for name in ("discount", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}.")
        for name in ("clip_coef", "max_grad_norm"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.action_scale < 0.0:
            raise ValueError(f"action_scale must be at least 0, got {self.action_scale}.")


class Actor(eqx.Module):
    """A Gaussian whose mean is a network that is exactly 0 at the start."""

    torso: MLP
    head: Float[Array, "hidden act"]
    log_std: Float[Array, " act"]

    def hidden(self, features: Float[Array, " feat"]) -> Float[Array, " hidden"]:
        """What the last layer, which has no bias, sees."""
        return jax.nn.relu(self.torso(features))

    def __call__(self, features: Float[Array, " feat"]) -> Float[Array, " act"]:
        """The mean."""
        return self.hidden(features) @ self.head


class Critic(eqx.Module):
    """A value of features, by a network of its own."""

    torso: MLP
    head: Float[Array, " hidden"]
    bias: Float[Array, ""]

    def hidden(self, features: Float[Array, " feat"]) -> Float[Array, " hidden"]:
        """What the last layer, which has a bias, sees."""
        return jax.nn.relu(self.torso(features))

    def __call__(self, features: Float[Array, " feat"]) -> Float[Array, ""]:
        """The value."""
        return self.hidden(features) @ self.head + self.bias


class Decision(NamedTuple):
    """What the policy decided for some observations.

    Attributes:
        residual: ``u``, as drawn.
        action: What is executed, learner units.
    """

    residual: Float[Array, "batch act"]
    action: Float[Array, "batch act"]


class PPO(eqx.Module):
    """Actor, critic, their optimisers' states, and the iteration."""

    actor: Actor
    critic: Critic
    actor_state: optax.OptState
    critic_state: optax.OptState
    iteration: Int[Array, ""]
    normaliser: Normaliser
    base_centre: Float[Array, " act"]
    base_half: Float[Array, " act"]
    config: PPOConfig = eqx.field(static=True)
    total_iterations: int = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: PPOConfig,
        normaliser: Normaliser | None = None,
        total_iterations: int = 1,
        base_range: tuple[Array, Array] | None = None,
    ) -> "PPO":
        """Draw networks for a task.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Of the task's observations, without the base action; none leaves them.
            total_iterations: Over which the cosines fall.
            base_range: Centre and half range of the base's actions, learner units; the residual is
                scaled by the half range. None takes the whole range, ``[-1, 1]``.
        """
        actor_key, critic_key, head_key = jax.random.split(key, 3)
        act = spec.action_size
        size = spec.observation_size + (act if config.residual else 0)
        *inner, last = config.hidden
        # Departs from the paper: the ReLU torsos are drawn uniformly, not orthogonally.
        actor = Actor(
            MLP(size, last, inner, key=actor_key),
            jnp.zeros((last, act)),
            jnp.full(act, config.init_logstd, jnp.float32),
        )
        critic = Critic(
            MLP(size, last, inner, key=critic_key),
            0.25 * jax.random.normal(head_key, (last,)) / jnp.sqrt(last),
            jnp.asarray(0.25, jnp.float32),
        )
        centre, half = base_range or (jnp.zeros(act), jnp.ones(act))
        optimiser = _optimiser(config)
        return cls(
            actor=actor,
            critic=critic,
            actor_state=start_optimiser(optimiser, actor),
            critic_state=start_optimiser(optimiser, critic),
            iteration=jnp.zeros((), jnp.int32),
            normaliser=normaliser or Normaliser.identity(spec.observation_size),
            base_centre=centre,
            base_half=half,
            config=config,
            total_iterations=total_iterations,
        )

    def features(
        self, observation: Float[Array, "batch obs"], base: Float[Array, "batch act"] | None
    ) -> Float[Array, "batch feat"]:
        """What the networks see: clipped normalised observation and normalised base action."""
        seen = jax.vmap(self.normaliser)(observation)
        seen = jnp.clip(seen, -OBSERVATION_CLIP, OBSERVATION_CLIP)
        if base is None:
            return seen
        return jnp.concatenate([seen, (base - self.base_centre[None]) / self.base_half[None]], 1)

    def decide(
        self,
        features: Float[Array, "batch feat"],
        base: Float[Array, "batch act"] | None,
        key: PRNGKeyArray,
        deterministic: bool,
    ) -> Decision:
        """Draw a residual, or take its mean, and add it to the base action.

        Args:
            features: From :meth:`features`.
            base: Base action, learner units; none without a base.
            key: Random key.
            deterministic: Whether to take the mean.
        """
        residual = jax.vmap(self.actor)(features)
        if not deterministic:
            noise = jax.random.normal(key, residual.shape)
            residual = residual + jnp.exp(self.actor.log_std)[None] * noise
        moved = self.config.action_scale * self.base_half[None] * residual
        # With a scale of 0 the base's action comes back bit for bit.
        action = moved if base is None else jnp.where(moved == 0, base, base + moved)
        return Decision(residual, jnp.clip(action, -1.0, 1.0))

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """Executed actions; with ``residual`` the observation ends in the base action."""
        base = None
        if self.config.residual:
            act = self.base_centre.shape[0]
            observation, base = observation[:, :-act], observation[:, -act:]
        features = self.features(observation, base)
        return self.decide(features, base, key, deterministic).action

    def value(self, features: Float[Array, "batch feat"]) -> Float[Array, " batch"]:
        """Values of features."""
        return jax.vmap(self.critic)(features)

    def log_prob(
        self, features: Float[Array, "batch feat"], residual: Float[Array, "batch act"]
    ) -> Float[Array, " batch"]:
        """Log-probability of residuals under the present policy."""
        return gaussian.log_prob(residual, jax.vmap(self.actor)(features), self.actor.log_std)

    def update(
        self, batch: RolloutBatch, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> tuple["PPO", UpdateInfo]:
        """Take one gradient step of actor and critic.

        Args:
            batch: Items; those of the critic may be others than the actor's.
            key: Not used; the losses draw nothing.
            weights: How much each of the actor's items counts, mean one; none for all the same.

        Returns:
            The new agent; metrics, and per item `policy_loss` and `value_loss`.
        """
        reduce, config = loss_reduction(self.config), self.config
        critic_items, critic_weights = batch.critic, batch.critic_weights
        if critic_items is None:
            critic_items, critic_weights = batch.actor, weights

        def actor_objective(actor: Actor) -> tuple[Array, tuple]:
            terms = policy_terms(actor, batch.actor, config)
            loss = reduce(terms.policy, weights)
            loss = loss + reduce(terms.l1, weights) * config.residual_l1
            loss = loss + reduce(terms.l2, weights) * config.residual_l2
            return loss - config.ent_coef * gaussian.entropy(actor.log_std), terms

        def critic_objective(critic: Critic) -> tuple[Array, Array]:
            losses = value_losses(critic, critic_items, config)
            return config.vf_coef * reduce(losses, critic_weights), losses

        (actor_loss, terms), actor_grads = jax.value_and_grad(actor_objective, has_aux=True)(
            self.actor
        )
        (critic_loss, losses), critic_grads = jax.value_and_grad(critic_objective, has_aux=True)(
            self.critic
        )
        if not config.learn_std:
            actor_grads = eqx.tree_at(lambda a: a.log_std, actor_grads, replace_fn=jnp.zeros_like)
        actor, actor_state, actor_norm = self._step(
            self.actor, actor_grads, self.actor_state, self.learning_rate_actor()
        )
        if not config.learn_std:
            actor = eqx.tree_at(lambda a: a.log_std, actor, self.actor.log_std)
        trains = self.iteration >= config.n_iterations_train_only_value
        actor, actor_state = select(trains, (actor, actor_state), (self.actor, self.actor_state))
        critic, critic_state, critic_norm = self._step(
            self.critic, critic_grads, self.critic_state, self.learning_rate_critic()
        )
        agent = dataclasses.replace(
            self,
            actor=actor,
            critic=critic,
            actor_state=actor_state,
            critic_state=critic_state,
        )
        metrics = {
            "losses/policy_loss": jnp.mean(terms.policy),
            "losses/value_loss": jnp.mean(losses),
            "losses/total_loss": actor_loss + critic_loss,
            "losses/entropy_loss": gaussian.entropy(self.actor.log_std),
            "losses/residual_l1": jnp.mean(terms.l1),
            "losses/residual_l2": jnp.mean(terms.l2),
            "losses/grad_norm_actor": actor_norm,
            "losses/grad_norm_critic": critic_norm,
        }
        return agent, UpdateInfo(metrics, {"policy_loss": terms.policy, "value_loss": losses})

    def learning_rate_actor(self) -> Float[Array, ""]:
        """Step of this iteration: a rise over the warm-up, then a cosine to 0."""
        config = self.config
        warm = (self.iteration + 1) / max(config.actor_warmup_iterations, 1)
        return config.learning_rate_actor * jnp.minimum(warm, 1.0) * self._cosine()

    def learning_rate_critic(self) -> Float[Array, ""]:
        """Step of this iteration: a cosine to 0."""
        return self.config.learning_rate_critic * self._cosine()

    def _cosine(self) -> Float[Array, ""]:
        done = jnp.minimum(self.iteration / max(self.total_iterations, 1), 1.0)
        return 0.5 * (1.0 + jnp.cos(jnp.pi * done))

    def _step(self, params: Any, grads: Any, state: Any, rate: Array) -> tuple[Any, Any, Array]:
        # Each network has its own optimiser and clip: a large critic cannot starve the actor.
        updates, state = _optimiser(self.config).update(grads, state, params)
        moved = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        return moved, state, optax.tree.norm(grads)


class PolicyTerms(NamedTuple):
    """Losses of the policy per item, before any factor."""

    policy: Float[Array, " batch"]
    l1: Float[Array, " batch"]
    l2: Float[Array, " batch"]


def log_ratio(actor: Actor, items: RolloutItems) -> Float[Array, " batch"]:
    """Logarithm of the probability ratio to the policy that drew the items, clamped to ±20."""
    mean = jax.vmap(actor)(items.features)
    now = gaussian.log_prob(items.action, mean, actor.log_std)
    return jnp.clip(now - items.log_prob, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def policy_terms(actor: Actor, items: RolloutItems, config: PPOConfig) -> PolicyTerms:
    r"""Losses of the policy, per item.

    ``policy = max(-A ρ, -A clip(ρ, 1 ± ε))``, ``l1 = mean_d |μ_d|``, ``l2 = mean_d μ_d²``.
    """
    mean = jax.vmap(actor)(items.features)
    ratio = jnp.exp(log_ratio(actor, items))
    clipped = jnp.clip(ratio, 1.0 - config.clip_coef, 1.0 + config.clip_coef)
    policy = higher(-items.advantage * ratio, -items.advantage * clipped)
    return PolicyTerms(policy, jnp.mean(jnp.abs(mean), 1), jnp.mean(mean**2, 1))


def value_losses(critic: Critic, items: RolloutItems, config: PPOConfig) -> Float[Array, " batch"]:
    """Losses of the critic, per item: ``½ (V - G)²``, or the larger one with V clipped."""
    value = jax.vmap(critic)(items.features)
    squares = (value - items.value_target) ** 2
    if config.clip_vloss:
        change = jnp.clip(value - items.value, -config.clip_coef, config.clip_coef)
        squares = higher(squares, (items.value + change - items.value_target) ** 2)
    return 0.5 * squares


def _optimiser(config: PPOConfig) -> optax.GradientTransformation:
    """Clip, Adam and weight decay; the step size, which follows the iteration, comes after."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=config.adam_eps),
        optax.add_decayed_weights(config.weight_decay),
    )
