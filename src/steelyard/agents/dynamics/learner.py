"""Learning a vehicle's dynamics from windows of its motion, with any emphasis on the windows.

Losses are per window; ``rollout_cvar`` learns a tail of them (CVaR: Rockafellar and Uryasev 2000,
"Optimization of Conditional Value-at-Risk"), otherwise their mean, both by the same weighted sum.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from steelyard.agents.dynamics.config import DynamicsConfig
from steelyard.agents.dynamics.losses import (
    ItemLosses,
    Settings,
    item_losses,
    rollout,
    scored,
    unscored,
)
from steelyard.agents.dynamics.models import DirectModel, Model, PlantModel, StructuredModel
from steelyard.agents.dynamics.plants import Plant
from steelyard.agents.dynamics.scales import Scales
from steelyard.emphasis.loss_emphasis import LossEmphasis
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import polyak_update, select
from steelyard.types import UpdateInfo, Window

MAX_NON_FINITE = 0.01  # share of a batch's windows that may have no finite loss


class DynamicsBatch(eqx.Module):
    """Windows, and which belong together.

    Attributes:
        window: The windows.
        group: Which draw of a trajectory each belongs to, ``0 … groups - 1``.
        trajectory: Index of its trajectory in the training data.
    """

    window: Window
    group: Int[Array, " batch"]
    trajectory: Int[Array, " batch"]


class Dynamics(eqx.Module):
    """A model, the average of its parameters, and what its training has to remember.

    What differs between the runs of one program (``settings``, ``emphasis``) are arrays; ``config``
    is what they share.

    Attributes:
        model: As it is trained.
        average: Exponential average of the model's parameters; what is evaluated and kept.
        selected: How much each training trajectory has counted so far, in units of the mean.
        last_loss: Mean score of each training trajectory's windows when it was last drawn, the
            largest number before that.
    """

    model: Model
    average: Model
    optimiser_state: optax.OptState
    emphasis: LossEmphasis
    emphasis_state: Any
    settings: Settings
    twist_std: Float[Array, "3"]
    selected: Float[Array, " trajectory"]
    last_loss: Float[Array, " trajectory"]
    step: Int[Array, ""]
    config: DynamicsConfig = eqx.field(static=True)
    total_steps: int = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        config: DynamicsConfig,
        plant: Plant,
        scales: Scales,
        emphasis: LossEmphasis,
        settings: Settings | None = None,
        num_trajectories: int = 1,
        total_steps: int = 1,
    ) -> "Dynamics":
        """Draw a model.

        Args:
            key: Random key.
            config: Hyper-parameters.
            plant: Physics it starts from.
            scales: Sizes of its inputs and outputs.
            emphasis: How much each window counts.
            settings: The config's numbers; none takes them from ``config``.
            num_trajectories: Of the training data.
            total_steps: Gradient steps over which the cosine falls and the emphasis is annealed.
        """
        model = make_model(key, config, plant, scales)
        params = eqx.filter(model, trainable(model))
        return cls(
            model=model,
            average=model,
            optimiser_state=start_optimiser(_optimiser(config, total_steps), params),
            emphasis=emphasis,
            emphasis_state=emphasis.start(),
            settings=Settings.of(config) if settings is None else settings,
            twist_std=scales.twist_std,
            selected=jnp.zeros(num_trajectories),
            last_loss=jnp.full(num_trajectories, jnp.finfo(jnp.float32).max),
            step=jnp.zeros((), jnp.int32),
            config=config,
            total_steps=total_steps,
        )

    def update(
        self,
        batch: DynamicsBatch,
        key: PRNGKeyArray,
        weights: Float[Array, " batch"] | None = None,
    ) -> tuple["Dynamics", UpdateInfo]:
        """Take one gradient step.

        Args:
            batch: Windows and their groups.
            key: Random key.
            weights: How much each window counts, mean one, besides the emphasis; none for all the
                same.

        Returns:
            The new learner; metrics, and per window its `loss` and `weight`. Windows without a
            finite loss count for nothing; where they are more than ``MAX_NON_FINITE`` of the batch,
            or the gradient is not finite, no step is taken and ``grad_norm`` is NaN.
        """
        progress = self.step / self.total_steps
        spec = trainable(self.model)
        params, constants = eqx.partition(self.model, spec)
        keys = jax.random.split(key, batch.group.shape[0])
        owed = jnp.ones(batch.group.shape[0]) if weights is None else weights

        def objective(params: Any) -> tuple[Array, tuple]:
            losses = self.losses(eqx.combine(params, constants), batch.window, keys)
            score, rest = scored(losses, self.settings), unscored(losses, self.settings)
            value, state, info = self.emphasis(
                owed * score, batch.group, self.emphasis_state, progress
            )
            return value + _finite_mean(owed * rest), (losses, score, state, info)

        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(params)
        losses, score, state, info = aux
        norm = optax.tree.norm(grads)
        norm = jnp.where(info.non_finite > MAX_NON_FINITE, jnp.nan, norm)
        moved = optimise(
            _optimiser(self.config, self.total_steps), params, grads, self.optimiser_state
        )
        # A step that is not finite is not taken; the loop sees its norm and stops the run.
        usable = jnp.isfinite(norm)
        params, optimiser_state = select(usable, moved, (params, self.optimiser_state))
        model = eqx.combine(params, constants)
        seen = self.step.astype(jnp.float32)
        decay = jnp.minimum(self.config.optim.average_decay, (1.0 + seen) / (10.0 + seen))
        item_weights = info.weights
        agent = dataclasses.replace(
            self,
            model=model,
            average=polyak_update(self.average, model, 1.0 - decay),
            optimiser_state=optimiser_state,
            emphasis_state=state,
            selected=self.selected.at[batch.trajectory].add(item_weights),
            last_loss=_replaced(self.last_loss, batch.trajectory, score),
            step=self.step + 1,
        )
        metrics = {
            "train_loss": value,
            "train_one_step": _finite_mean(losses.one_step),
            "train_rollout": _finite_mean(losses.rollout),
            "train_pose": _finite_mean(losses.pose),
            "reg_adapter_identity": _finite_mean(losses.parts.adapter),
            "reg_residual_l2": _finite_mean(losses.parts.residual),
            "reg_friction_prior": _finite_mean(losses.parts.friction),
            "grad_norm": norm,
            "clip_rate": (norm > self.config.optim.grad_clip_norm).astype(jnp.float32),
            "lr": _schedule(self.config, self.total_steps)(self.step),
            **info.metrics(),
        }
        return agent, UpdateInfo(metrics, {"loss": score, "weight": item_weights})

    def losses(self, model: Model, window: Window, keys: Key[Array, " batch"]) -> ItemLosses:
        """Losses of a batch of windows under a model."""
        return jax.vmap(item_losses, (None, 0, 0, None, None, None))(
            model, window, keys, self.settings, self.config, self.twist_std
        )

    def predict(
        self,
        twist: Float[Array, "batch 3"],
        command: Float[Array, "batch commands 2"],
        dt: Float[Array, "batch steps"],
        bias: Float[Array, "batch 3"] | None = None,
    ) -> Float[Array, "batch states 3"]:
        """Open-loop twists of the averaged model at all states.

        Args:
            twist: At the start.
            command: ``history`` past commands, then one per step.
            dt: Length of each step in seconds.
            bias: Added to the twist after every step, see :meth:`context`.
        """
        bias = jnp.zeros_like(twist) if bias is None else bias
        return predict(self.average, twist, command, dt, self.config.model.history, bias)

    def context(self, past: Window) -> Float[Array, "batch 3"]:
        """What the averaged model has been missing of late: the mean error of its single steps.

        A trim that differs between days, a slope or a worn tyre shows in every step of the recent
        past; added to each predicted step it is corrected for, without any training.

        Args:
            past: The recent past of each item, ``history`` commands before it.
        """
        steps, history = past.dt.shape[1], self.config.model.history

        def one(window: Window) -> Array:
            def step(k: Array) -> Array:
                twist = jax.lax.dynamic_slice_in_dim(window.twist, k, 1)[0]
                command = jax.lax.dynamic_slice_in_dim(window.command, k, history + 1)
                dt = jax.lax.dynamic_slice_in_dim(window.dt, k, 1)
                following = jax.lax.dynamic_slice_in_dim(window.twist, k + 1, 1)[0]
                single = Window(jnp.stack([twist, following]), jnp.zeros((2, 3)), command, dt)
                return following - rollout(self.average, single, history)[0][1]

            return jnp.mean(jax.vmap(step)(jnp.arange(steps)), axis=0)

        return jax.vmap(one)(past)


def predict(
    model: Model,
    twist: Float[Array, "batch 3"],
    command: Float[Array, "batch commands 2"],
    dt: Float[Array, "batch steps"],
    history: int,
    bias: Float[Array, "batch 3"],
) -> Float[Array, "batch states 3"]:
    """Open-loop twists of a model at all states, the first one given."""

    def one(twist: Array, command: Array, dt: Array, bias: Array) -> Array:
        blank = jnp.zeros((dt.shape[0] + 1, 3))
        window = Window(blank.at[0].set(twist), blank, command, dt)
        return rollout(model, window, history, bias=bias)[0]

    return jax.vmap(one)(twist, command, dt, bias)


def make_model(key: PRNGKeyArray, config: DynamicsConfig, plant: Plant, scales: Scales) -> Model:
    """The model that a config names, its networks drawn."""
    match config.model.type:
        case "structured":
            return StructuredModel.create(key, config.model, plant, scales)
        case "direct":
            return DirectModel.create(key, config.model, plant, scales)
        case "kinematic" | "single_track":
            return PlantModel(plant)


def trainable(model: Model) -> Any:
    """Which leaves of a model are learned: all of a plant alone, else only the networks."""
    spec = jax.tree.map(eqx.is_inexact_array, model)
    if isinstance(model, PlantModel):
        return spec
    constants = (model.plant, model.scales)  # pyright: ignore[reportAttributeAccessIssue]
    frozen = jax.tree.map(lambda _: False, constants)
    return eqx.tree_at(lambda m: (m.plant, m.scales), spec, frozen)


def parameter_count(model: Model) -> int:
    """Numbers that are learned."""
    return sum(x.size for x in jax.tree.leaves(eqx.filter(model, trainable(model))))


def _replaced(
    old: Float[Array, " trajectory"],
    trajectory: Int[Array, " batch"],
    values: Float[Array, " batch"],
) -> Float[Array, " trajectory"]:
    """Put the mean of each drawn trajectory's finite values in the place of its old one."""
    finite = jnp.isfinite(values)
    total = jnp.zeros_like(old).at[trajectory].add(jnp.where(finite, values, 0.0))
    count = jnp.zeros_like(old).at[trajectory].add(finite.astype(old.dtype))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), old)


def _finite_mean(values: Float[Array, " batch"]) -> Float[Array, ""]:
    """Mean of the values that are finite; 0 where none is."""
    finite = jnp.isfinite(values)
    return jnp.sum(jnp.where(finite, values, 0.0)) / jnp.maximum(jnp.sum(finite), 1)


def _schedule(config: DynamicsConfig, total_steps: int) -> optax.Schedule:
    optim = config.optim
    return optax.cosine_decay_schedule(
        optim.lr, max(total_steps, 1), alpha=optim.lr_eta_min / optim.lr
    )


def _optimiser(config: DynamicsConfig, total_steps: int) -> optax.GradientTransformation:
    optim = config.optim
    return optax.chain(
        optax.clip_by_global_norm(optim.grad_clip_norm),
        optax.adamw(_schedule(config, total_steps), weight_decay=optim.weight_decay),
    )
