"""Behaviour cloning of action chunks: one plan of the next actions from one observation, offline.

Chunks after Zhao, Kumar, Levine, Finn 2023, "Learning Fine-Grained Bimanual Manipulation with
Low-Cost Hardware" (ACT), arXiv:2304.13705. Two heads: ``flow`` draws a chunk from the demonstrated
distribution (Lipman et al. 2022, arXiv:2210.02747; see :mod:`steelyard.nets.flow`), ``mse``
regresses its mean. Frozen, it is the base that a residual policy corrects (Ankile et al. 2024,
"From Imitation to Refinement", arXiv:2407.16677).
"""

import dataclasses
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from steelyard.agents.base import ReductionName, loss_reduction
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.nets import MLP
from steelyard.nets.flow import VelocityField, flow_errors, integrate
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import polyak_update
from steelyard.types import ActionChunk, EnvSpec, UpdateInfo

Head: TypeAlias = VelocityField | MLP


@dataclasses.dataclass(frozen=True)
class ChunkedBCConfig:
    """Hyper-parameters of behaviour cloning of action chunks."""

    head: Literal["flow", "mse"] = "flow"
    """Draw a chunk by flow matching, or regress the mean chunk."""
    chunk: int = 8
    """Actions of one plan."""
    executed: int = 8
    """How many of them are played before the next plan; at most `chunk`."""
    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer (ReLU)."""
    flow_steps: int = 4
    """Euler steps from noise to a chunk, where `head` is `flow`."""
    time_frequencies: int = 0
    """Fourier frequencies of the flow's time; 0 gives the network time alone."""
    batch_size: int = 256
    """Chunks of one gradient step."""
    lr: float = 1e-3
    """AdamW step at the start; it falls to 0 along a cosine."""
    weight_decay: float = 1e-4
    """AdamW's decoupled decay."""
    average_decay: float = 0.999
    """Decay of the exponential average of the weights, which is what is kept."""
    reduction: ReductionName = "mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        if not 1 <= self.executed <= self.chunk:
            raise ValueError(
                f"executed must lie between 1 and chunk: got executed = {self.executed}, "
                f"chunk = {self.chunk}"
            )
        if self.flow_steps < 1:
            raise ValueError(f"flow_steps must be at least 1, got {self.flow_steps}")


class ChunkedBC(eqx.Module):
    """The policy, its averaged copy, the optimiser's state and both normalisers."""

    policy: Head
    average: Head
    optimiser_state: optax.OptState
    step: Array
    normaliser: Normaliser
    action_range: ActionRange
    config: ChunkedBCConfig = eqx.field(static=True)
    total_steps: int = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: ChunkedBCConfig,
        normaliser: Normaliser,
        action_range: ActionRange,
        total_steps: int,
    ) -> "ChunkedBC":
        """Draw a policy for a task.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Statistics of the demonstrations' observations.
            action_range: Range of the demonstrated actions, learner units.
            total_steps: Gradient steps over which the cosine falls.
        """
        size, seen = config.chunk * spec.action_size, spec.observation_size
        if config.head == "flow":
            frequencies = config.time_frequencies
            policy = VelocityField(size, seen, config.hidden, key, time_frequencies=frequencies)
        else:
            # Departs from the paper: the mean is clipped to the range, not squashed, since
            # min–max normalised demonstrations touch both ends, where tanh never arrives.
            policy = MLP(seen, size, config.hidden, key=key)
        state = start_optimiser(_optimiser(config, total_steps), policy)
        step = jnp.zeros((), jnp.int32)
        return cls(policy, policy, state, step, normaliser, action_range, config, total_steps)

    def plan(
        self, observation: Float[Array, "batch obs"], keys: Key[Array, " batch"]
    ) -> Float[Array, "batch chunk act"]:
        """Plan a chunk of actions for every observation.

        A row's plan depends on its own observation and key alone: it is the same bit for bit
        whatever stands in the other rows, and to rounding (1e-6) however many there are, since XLA
        sums a matrix product in an order that depends on its size.

        Args:
            observation: What is seen.
            keys: One random key a row; the `mse` head ignores them.

        Returns:
            Actions in ``[-1, 1]`` of the averaged policy, within the demonstrated range.
        """
        return jax.vmap(self._chunk)(observation, jax.vmap(self._noise)(keys))

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """First action of a new plan; a deterministic one starts the flow at the mean noise, 0."""
        noise = jax.vmap(self._noise)(jax.random.split(key, observation.shape[0]))
        noise = jnp.zeros_like(noise) if deterministic else noise
        return jax.vmap(self._chunk)(observation, noise)[:, 0]

    def update(
        self,
        batch: ActionChunk,
        key: PRNGKeyArray,
        weights: Float[Array, " batch"] | None = None,
    ) -> tuple["ChunkedBC", UpdateInfo]:
        """Take one gradient step.

        Args:
            batch: Demonstrated observations and the actions that followed.
            key: Random key of the flow's times and noises.
            weights: How much each chunk counts, mean one; none for all the same.

        Returns:
            The new agent; metrics and the chunks' losses as `loss`.
        """

        def objective(policy: Head) -> tuple[Array, Array]:
            losses = self._losses(policy, batch, key)
            return loss_reduction(self.config)(losses, weights), losses

        (value, losses), grads = jax.value_and_grad(objective, has_aux=True)(self.policy)
        optimiser = _optimiser(self.config, self.total_steps)
        policy, state = optimise(optimiser, self.policy, grads, self.optimiser_state)
        # Departs from the paper: what is kept and acts is an average of the weights.
        seen = self.step.astype(jnp.float32)
        decay = jnp.minimum(self.config.average_decay, (1.0 + seen) / (10.0 + seen))
        average = polyak_update(self.average, policy, 1.0 - decay)
        agent = ChunkedBC(
            policy,
            average,
            state,
            self.step + 1,
            self.normaliser,
            self.action_range,
            self.config,
            self.total_steps,
        )
        return agent, UpdateInfo({"train/loss": value}, {"loss": losses})

    def losses(self, batch: ActionChunk, key: PRNGKeyArray) -> Float[Array, " batch"]:
        """Losses per chunk of the averaged policy, for validation and for scores.

        Args:
            batch: Chunks.
            key: Random key of the flow's times and noises; the `mse` head ignores it.
        """
        return self._losses(self.average, batch, key)

    def _losses(
        self, policy: Head, batch: ActionChunk, key: PRNGKeyArray
    ) -> Float[Array, " batch"]:
        condition = jax.vmap(self.normaliser)(batch.observation)
        actions = self.action_range.normalise(batch.actions)
        keys = jax.random.split(key, batch.actions.shape[0])
        losses = jax.vmap(chunk_loss, (None, 0, 0, 0, 0))
        return losses(policy, condition, actions, batch.mask, keys)

    def _noise(self, key: PRNGKeyArray) -> Float[Array, " size"]:
        """Where the flow of one plan starts."""
        return jax.random.normal(key, (self.config.chunk * self.action_range.half.shape[0],))

    def _chunk(
        self, observation: Float[Array, " obs"], noise: Float[Array, " size"]
    ) -> Float[Array, "chunk act"]:
        """The plan of one observation that starts from one noise."""
        condition = self.normaliser(observation)
        if isinstance(self.average, VelocityField):
            flat = integrate(self.average, noise, condition, self.config.flow_steps)
        else:
            flat = self.average(condition)
        normalised = jnp.clip(flat, -1.0, 1.0).reshape(self.config.chunk, -1)
        return jnp.clip(self.action_range.denormalise(normalised), -1.0, 1.0)


def chunk_loss(
    policy: Head,
    condition: Float[Array, " obs"],
    actions: Float[Array, "chunk act"],
    mask: Bool[Array, " chunk"],
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    r"""Loss of one chunk: mean squared error over its actions that are no padding.

    ``Σ_h mask_h mean_d e_{hd}² / Σ_h mask_h``, ``e`` being the error of the flow's velocity
    (:func:`~steelyard.nets.flow.flow_errors`) or of the predicted action. Dividing by the actions
    that count makes every start weigh the same, however near the end of its episode.

    Args:
        policy: Either head.
        condition: Normalised observation.
        actions: In the demonstrated range, ``[-1, 1]``.
        mask: False where an action is padding. What stands there is no target; the flow's noisy
            input still holds it, as its input holds what it makes of those places when it plans.
        key: Random key of the flow's time and noise.
    """
    target = actions.reshape(-1)
    if isinstance(policy, VelocityField):
        errors = flow_errors(policy, target, condition, key)
    else:
        errors = (policy(condition) - target) ** 2
    per_action = jnp.mean(errors.reshape(actions.shape), axis=1)
    # Departs from the paper: ACT masks padding but divides by the whole chunk.
    return jnp.sum(jnp.where(mask, per_action, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


def _optimiser(config: ChunkedBCConfig, total_steps: int) -> optax.GradientTransformation:
    # Departs from the paper: the step falls along a cosine, where ACT's is fixed.
    schedule = optax.cosine_decay_schedule(config.lr, max(total_steps, 1))
    return optax.adamw(schedule, weight_decay=config.weight_decay)
