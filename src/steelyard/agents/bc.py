"""Behaviour cloning: regress the expert's actions, offline.

Three losses around one squashed mean ``m = tanh mean(o)``: squared error, Gaussian negative
log-likelihood, and beta-NLL (Seitzer et al. 2022, "On the Pitfalls of Heteroscedastic Uncertainty
Estimation with Probabilistic Neural Networks", arXiv:2203.09168). The Gaussian lies *around* the
squashed mean, so actions at the bounds need no inverse tanh.
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
from steelyard.nets import TanhGaussian
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import polyak_update
from steelyard.types import EnvSpec, RewardFreeTransition, UpdateInfo


@dataclasses.dataclass(frozen=True)
class BCConfig:
    """Hyper-parameters of behaviour cloning."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer (ReLU)."""
    batch_size: int = 256
    """Rows of one gradient step."""
    lr: float = 1e-3
    """AdamW step at the start; it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay."""
    loss: Literal["mse", "nll", "beta_nll"] = "mse"
    """Squared error, Gaussian negative log-likelihood, or that times `sigma^(2 beta)`."""
    beta: float = 0.5
    """Exponent of `beta_nll`: 0 is `nll`, 1 weighs errors as `mse` does."""
    input_noise: float = 0.0
    """Standard deviation of noise on normalised observations while training."""
    average_decay: float = 0.999
    """Decay of the exponential average of the weights, which is what is kept."""
    reduction: ReductionName = "mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""


class BC(eqx.Module):
    """The policy, its averaged copy and the optimiser's state."""

    actor: TanhGaussian
    average: TanhGaussian
    optimiser_state: optax.OptState
    step: Array
    normaliser: Normaliser
    config: BCConfig = eqx.field(static=True)
    total_steps: int = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: BCConfig,
        normaliser: Normaliser,
        total_steps: int,
    ) -> "BC":
        """Draw a policy for a task.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Statistics of the demonstrations' observations.
            total_steps: Gradient steps over which the cosine falls.
        """
        # Departs from the paper: there is no one paper of cloning; against the common form, the
        # output is squashed into the bounds instead of clipped.
        actor = TanhGaussian(spec.observation_size, spec.action_size, config.hidden, key)
        optimiser = _optimiser(config, total_steps)
        step = jnp.zeros((), jnp.int32)
        return cls(
            actor, actor, start_optimiser(optimiser, actor), step, normaliser, config, total_steps
        )

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """The averaged policy's mean, or a draw around it, clipped to the bounds."""
        mean, log_std = jax.vmap(lambda o: self.average(self.normaliser(o)))(observation)
        if deterministic:
            return jnp.tanh(mean)
        noise = jax.random.normal(key, mean.shape)
        return jnp.clip(jnp.tanh(mean) + jnp.exp(log_std) * noise, -1.0, 1.0)

    def update(
        self,
        batch: RewardFreeTransition,
        key: PRNGKeyArray,
        weights: Float[Array, " batch"] | None = None,
    ) -> tuple["BC", UpdateInfo]:
        """Take one gradient step.

        Args:
            batch: Demonstrated observations and actions.
            key: Random key.
            weights: How much each row counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and the rows' losses as `loss`.
        """
        # Departs from the paper: observations are normalised by the demonstrations' statistics.
        observation = jax.vmap(self.normaliser)(batch.observation)
        if self.config.input_noise:
            noise = jax.random.normal(key, observation.shape)
            observation = observation + self.config.input_noise * noise

        def objective(actor: TanhGaussian) -> tuple[Array, Array]:
            losses = jax.vmap(cloning_loss, (None, 0, 0, None))(
                actor, observation, batch.action, self.config
            )
            return loss_reduction(self.config)(losses, weights), losses

        (value, losses), grads = jax.value_and_grad(objective, has_aux=True)(self.actor)
        optimiser = _optimiser(self.config, self.total_steps)
        actor, state = optimise(optimiser, self.actor, grads, self.optimiser_state)
        # Departs from the paper: what is kept and acts is an average of the weights.
        seen = self.step.astype(jnp.float32)
        decay = jnp.minimum(self.config.average_decay, (1.0 + seen) / (10.0 + seen))
        average = polyak_update(self.average, actor, 1.0 - decay)
        agent = BC(
            actor, average, state, self.step + 1, self.normaliser, self.config, self.total_steps
        )
        return agent, UpdateInfo({"train/loss": value}, {"loss": losses})

    def losses(self, batch: RewardFreeTransition) -> Float[Array, " batch"]:
        """Losses per row of the averaged policy, for validation and for scores."""
        observation = jax.vmap(self.normaliser)(batch.observation)
        return jax.vmap(cloning_loss, (None, 0, 0, None))(
            self.average, observation, batch.action, self.config
        )


def cloning_loss(
    actor: TanhGaussian,
    observation: Float[Array, " obs"],
    action: Float[Array, " act"],
    config: BCConfig,
) -> Float[Array, ""]:
    r"""Loss of one row.

    ``mse = mean_d (tanh m_d - a_d)^2``; ``nll = sum_d [ ½ ((a_d - tanh m_d) / sigma_d)^2 + log
    sigma_d + ½ log 2 pi ]``; ``beta_nll`` multiplies each term of ``nll`` by ``sigma_d^(2 beta)``
    without gradient.
    """
    mean, log_std = actor(observation)
    error = action - jnp.tanh(mean)
    if config.loss == "mse":
        return jnp.mean(error**2)
    terms = 0.5 * (error * jnp.exp(-log_std)) ** 2 + log_std + 0.5 * jnp.log(2.0 * jnp.pi)
    if config.loss == "beta_nll":
        terms *= jax.lax.stop_gradient(jnp.exp(2.0 * config.beta * log_std))
    return jnp.sum(terms)


def _optimiser(config: BCConfig, total_steps: int) -> optax.GradientTransformation:
    # Departs from the paper: the step falls along a cosine, where plain cloning has a fixed one.
    schedule = optax.cosine_decay_schedule(config.lr, max(total_steps, 1))
    return optax.adamw(schedule, weight_decay=config.weight_decay)
