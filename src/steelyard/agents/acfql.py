r"""Flow Q-learning over action chunks: offline and online with the same update.

Li, Zhou, Levine 2025, "Reinforcement Learning with Action Chunking" (QC), arXiv:2507.07969, on
Park, Li, Levine 2025, "Flow Q-Learning", arXiv:2502.02538. A flow is cloned from the data's chunks;
a one-step policy is distilled from it and pulled to where the critics are high; the critics learn
from chunks as if a chunk were one action.
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
from steelyard.nets import MLP
from steelyard.nets.ensemble import apply_ensemble, make_ensemble
from steelyard.nets.flow import VelocityField, flow_errors, integrate
from steelyard.numerics.extremes import lowest
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import polyak_update
from steelyard.types import ChunkBatch, ChunkTransition, EnvSpec, UpdateInfo

ActorType = Literal["distill-ddpg", "best-of-n"]
Aggregate = Literal["mean", "min", "lcb"]
Tail = Literal["batch", "zero", "repeat"]


@dataclasses.dataclass(frozen=True)
class ACFQLConfig:
    """Hyper-parameters of flow Q-learning over chunks; keys as in the reference code."""

    actor_type: ActorType = "distill-ddpg"
    """A distilled one-step policy, or the best of several draws from the flow."""
    action_chunking: bool = True
    """Whether a decision is a chunk; else a single action, its value over as many steps."""
    horizon_length: int = 5
    """Actions of a chunk, and steps of a return."""
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Width of each hidden layer (GELU) of all networks."""
    batch_size: int = 256
    """Chunks of one gradient step."""
    lr: float = 3e-4
    """Adam step of all networks."""
    discount: float = 0.99
    """Discount per step."""
    tau: float = 0.005
    """Share of the way that target critics move in a step."""
    num_qs: int = 10
    """Critics."""
    q_agg: Aggregate = "lcb"
    """How target critics become one value: `mean` (the reference), `min`, or `lcb`."""
    rho: float = 0.5
    """Standard deviations that `lcb` stays below the mean."""
    flow_steps: int = 10
    """Euler steps from noise to a chunk."""
    alpha: float = 100.0
    """Factor of the distillation: how near the policy stays to the data."""
    normalize_q_loss: bool = False
    """Whether the policy's Q loss is divided by the mean size of Q."""
    actor_num_samples: int = 32
    """Draws of `best-of-n`."""
    critic_layer_norm: bool = True
    """Whether critics normalise their layers."""
    use_weighted_target: bool = False
    """Whether the data's own next chunk has a part in the target."""
    beta: float = 0.5
    """Weight of the policy's chunk in that target; the data's has the rest."""
    tail_actions: Tail = "batch"
    """What fills slots that were not played: another item's actions, zeros, or the last action."""
    reduction: ReductionName = "weighted_mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        for name in ("horizon_length", "num_qs", "flow_steps", "actor_num_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("discount", "tau", "beta"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.alpha < 0.0 or self.rho < 0.0:
            raise ValueError(f"alpha and rho must be at least 0, got {self.alpha}, {self.rho}")

    @property
    def chunk(self) -> int:
        """Actions of one decision."""
        return self.horizon_length if self.action_chunking else 1


class ACFQL(eqx.Module):
    """Flow, distilled policy, critics and their targets, and the optimisers' states."""

    flow: VelocityField
    policy: MLP
    critics: MLP
    target_critics: MLP
    actor_state: optax.OptState
    critic_state: optax.OptState
    normaliser: Normaliser
    config: ACFQLConfig = eqx.field(static=True)
    action_size: int = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: ACFQLConfig,
        normaliser: Normaliser | None = None,
    ) -> "ACFQL":
        """Draw networks for a task.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Of observations; none leaves them (the reference).
        """
        flow_key, policy_key, critic_key = jax.random.split(key, 3)
        seen, size, act = spec.observation_size, config.chunk * spec.action_size, jax.nn.gelu
        flow = VelocityField(size, seen, config.hidden, flow_key, activation=act)
        policy = MLP(seen + size, size, config.hidden, key=policy_key, activation=act)

        def critic(key: PRNGKeyArray) -> MLP:
            norm = config.critic_layer_norm
            return MLP(seen + size, 1, config.hidden, key=key, activation=act, layer_norm=norm)

        critics = make_ensemble(critic, config.num_qs, critic_key)
        optimiser = optax.adam(config.lr)
        return cls(
            flow=flow,
            policy=policy,
            critics=critics,
            target_critics=critics,
            actor_state=start_optimiser(optimiser, (flow, policy)),
            critic_state=start_optimiser(optimiser, critics),
            normaliser=normaliser or Normaliser.identity(seen),
            config=config,
            action_size=spec.action_size,
        )

    def plan(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool = False
    ) -> Float[Array, "batch chunk act"]:
        """Plan a chunk for every observation.

        Args:
            observation: What is seen.
            key: Random key.
            deterministic: Whether noise is at its mean, 0; `best-of-n` then has one key for all.

        Returns:
            Actions in ``[-1, 1]``.
        """
        seen = jax.vmap(self.normaliser)(observation)
        key = jax.random.key(0) if deterministic else key
        keys = jax.random.split(key, observation.shape[0])
        zero = deterministic and self.config.actor_type == "distill-ddpg"
        flat = jax.vmap(lambda o, k: self._decide(self.critics, o, k, zero))(seen, keys)
        return flat.reshape(observation.shape[0], self.config.chunk, self.action_size)

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """First action of a new plan."""
        return self.plan(observation, key, deterministic)[:, 0]

    def update(
        self, batch: ChunkBatch, key: PRNGKeyArray, weights: Float[Array, " batch"] | None = None
    ) -> tuple["ACFQL", UpdateInfo]:
        """Take one gradient step of all networks.

        Args:
            batch: Chunks; those of the policy may be others than the critic's.
            key: Random key.
            weights: How much each of the critic's chunks counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and, per item, `td_error` and `critic_loss` of the critic's
            chunks, `actor_loss` of the policy's.
        """
        target_key, actor_key = jax.random.split(key)
        policy_part, policy_weights = batch.actor, batch.actor_weights
        if policy_part is None:
            policy_part, policy_weights = batch.critic, weights
        critic_part, policy_part = self._seen(batch.critic), self._seen(policy_part)
        target = jax.lax.stop_gradient(self._target(critic_part, target_key))
        chunk = self._filled(critic_part)
        reduce = loss_reduction(self.config)

        def critic_objective(critics: MLP) -> tuple[Array, Array]:
            q = jax.vmap(_values, (None, 0, 0))(critics, critic_part.observation, chunk)
            losses = jnp.mean((q - target[:, None]) ** 2, axis=1)
            return reduce(losses, weights), q

        def actor_objective(actor: tuple[VelocityField, MLP]) -> tuple[Array, dict[str, Array]]:
            terms = self._actor_terms(actor, policy_part, actor_key)
            losses = terms["bc_flow_loss"] + terms["q_loss"]
            losses = losses + self.config.alpha * terms["distill_loss"]
            return reduce(losses, policy_weights), terms | {"actor_loss": losses}

        (critic_loss, q), critic_grads = jax.value_and_grad(critic_objective, has_aux=True)(
            self.critics
        )
        (actor_loss, terms), actor_grads = jax.value_and_grad(actor_objective, has_aux=True)(
            (self.flow, self.policy)
        )
        optimiser = optax.adam(self.config.lr)
        critics, critic_state = optimise(optimiser, self.critics, critic_grads, self.critic_state)
        (flow, policy), actor_state = optimise(
            optimiser, (self.flow, self.policy), actor_grads, self.actor_state
        )
        agent = dataclasses.replace(
            self,
            flow=flow,
            policy=policy,
            critics=critics,
            target_critics=polyak_update(self.target_critics, critics, self.config.tau),
            actor_state=actor_state,
            critic_state=critic_state,
        )
        error = q - target[:, None]
        metrics = {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "bc_flow_loss": jnp.mean(terms["bc_flow_loss"]),
            "distill_loss": jnp.mean(terms["distill_loss"]),
            "q_mean": jnp.mean(q),
            "q_std": jnp.mean(jnp.std(q, axis=1)),
            "td_error_mean": jnp.mean(error),
            "td_error_abs_mean": jnp.mean(jnp.abs(error)),
            "td_error_abs_max": jnp.max(jnp.abs(error)),
        }
        items = {
            "td_error": jnp.mean(jnp.abs(error), axis=1),
            "critic_loss": jnp.mean(error**2, axis=1),
            "actor_loss": terms["actor_loss"],
        }
        return agent, UpdateInfo(metrics, items)

    def td_errors(self, batch: ChunkTransition, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """Mean over critics of ``|Q - y|`` of each chunk, for scores of what was not drawn."""
        part = self._seen(batch)
        target = self._target(part, key)
        q = jax.vmap(_values, (None, 0, 0))(self.critics, part.observation, self._filled(part))
        return jnp.mean(jnp.abs(q - target[:, None]), axis=1)

    def _seen(self, batch: ChunkTransition) -> ChunkTransition:
        normalise = jax.vmap(self.normaliser)
        return eqx.tree_at(
            lambda b: (b.observation, b.next_observation),
            batch,
            (normalise(batch.observation), normalise(batch.next_observation)),
        )

    def _filled(self, batch: ChunkTransition) -> Float[Array, "batch size"]:
        """The critic's chunk, flat; slots that were not played hold what shall not matter."""
        rows = batch.actions.shape[0]
        actions, mask = batch.actions[:, : self.config.chunk], batch.mask[:, : self.config.chunk]
        if self.config.tail_actions == "batch":
            # Departs from the paper: the last starts train, their tails are another item's.
            filler = jnp.roll(actions, rows // 2, axis=0)
        elif self.config.tail_actions == "zero":
            filler = jnp.zeros_like(actions)
        else:
            last = jnp.maximum(jnp.sum(mask, axis=1) - 1, 0)
            filler = jnp.broadcast_to(actions[jnp.arange(rows), last][:, None], actions.shape)
        return jnp.where(mask[..., None], actions, filler).reshape(rows, -1)

    def _target(self, batch: ChunkTransition, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """``y = R + γ^n c_n V(s_{t+n})``, ``V`` of the policy's chunk under the target critics."""
        keys = jax.random.split(key, batch.reward.shape[0])

        def value(observation: Array, key: PRNGKeyArray) -> Array:
            chunk = self._decide(self.target_critics, observation, key, False)
            return self._aggregate(_values(self.target_critics, observation, chunk))

        found = jax.vmap(value)(batch.next_observation, keys)
        if self.config.use_weighted_target:
            if batch.next_actions is None or batch.next_known is None:
                raise ValueError("use_weighted_target needs next_actions and next_known")
            flat = batch.next_actions[:, : self.config.chunk].reshape(found.shape[0], -1)
            data = jax.vmap(lambda o, a: self._aggregate(_values(self.target_critics, o, a)))(
                batch.next_observation, flat
            )
            share = jnp.where(batch.next_known, self.config.beta, 1.0)
            found = share * found + (1.0 - share) * data
        return batch.reward + batch.discount * found

    def _aggregate(self, q: Float[Array, " critic"]) -> Float[Array, ""]:
        if self.config.q_agg == "min":
            return lowest(q)
        if self.config.q_agg == "lcb":
            return jnp.mean(q) - self.config.rho * jnp.std(q)
        return jnp.mean(q)

    def _decide(
        self, critics: MLP, observation: Float[Array, " obs"], key: PRNGKeyArray, zero: bool
    ) -> Float[Array, " size"]:
        """One flat chunk for one normalised observation."""
        size = self.config.chunk * self.action_size
        if self.config.actor_type == "distill-ddpg":
            noise = jnp.zeros(size) if zero else jax.random.normal(key, (size,))
            return jnp.clip(self.policy(jnp.concatenate([observation, noise])), -1.0, 1.0)
        noises = jax.random.normal(key, (self.config.actor_num_samples, size))
        draws = jax.vmap(lambda noise: self._flowed(self.flow, noise, observation))(noises)
        q = jax.vmap(lambda a: jnp.mean(_values(critics, observation, a)))(draws)
        return draws[jnp.argmax(q)]

    def _flowed(
        self, flow: VelocityField, noise: Float[Array, " size"], observation: Float[Array, " obs"]
    ) -> Float[Array, " size"]:
        return jnp.clip(integrate(flow, noise, observation, self.config.flow_steps), -1.0, 1.0)

    def _actor_terms(
        self, actor: tuple[VelocityField, MLP], batch: ChunkTransition, key: PRNGKeyArray
    ) -> dict[str, Float[Array, " batch"]]:
        """Cloning, distillation and Q loss of the actor, per item, before their factors."""
        flow, policy = actor
        rows, chunk = batch.reward.shape[0], self.config.chunk
        flow_key, noise_key = jax.random.split(key)
        actions, mask = batch.actions[:, :chunk], batch.mask[:, :chunk]

        def cloned(a: Array, m: Array, o: Array, k: PRNGKeyArray) -> Array:
            errors = jnp.mean(flow_errors(flow, a.reshape(-1), o, k).reshape(a.shape), axis=1)
            return jnp.sum(jnp.where(m, errors, 0.0)) / jnp.maximum(jnp.sum(m), 1)

        seen = batch.observation
        flow_losses = jax.vmap(cloned)(actions, mask, seen, jax.random.split(flow_key, rows))
        if self.config.actor_type == "best-of-n":
            none = jnp.zeros(rows)
            return {"bc_flow_loss": flow_losses, "distill_loss": none, "q_loss": none}
        noise = jax.random.normal(noise_key, (rows, chunk * self.action_size))
        wanted = jax.vmap(lambda z, o: self._flowed(self.flow, z, o))(noise, seen)
        found = jax.vmap(lambda z, o: policy(jnp.concatenate([o, z])))(noise, seen)
        distilled = jnp.mean((found - jax.lax.stop_gradient(wanted)) ** 2, axis=1)
        clipped = jnp.clip(found, -1.0, 1.0)
        q = jnp.mean(jax.vmap(_values, (None, 0, 0))(self.critics, seen, clipped), axis=1)
        size = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
        factor = 1.0 / jnp.maximum(size, 1e-8) if self.config.normalize_q_loss else 1.0
        return {"bc_flow_loss": flow_losses, "distill_loss": distilled, "q_loss": -factor * q}


def _values(
    critics: MLP, observation: Float[Array, " obs"], chunk: Float[Array, " size"]
) -> Float[Array, " critic"]:
    return apply_ensemble(critics, jnp.concatenate([observation, chunk]))[:, 0]
