"""Small cars, windows and models for the tests of dynamics learning."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.dynamics import (
    AdapterConfig,
    Dynamics,
    DynamicsBatch,
    DynamicsConfig,
    ModelConfig,
    Scales,
    Settings,
    make_model,
    make_plant,
)
from steelyard.agents.dynamics.models import PlantModel
from steelyard.numerics.vehicle import DART, MUSHR
from steelyard.training.dynamics import loss_emphasis, program_of
from steelyard.types import Window

SCALES = Scales(
    twist_mean=jnp.array([0.5, 0.0, 0.1]),
    twist_std=jnp.array([1.5, 0.2, 2.0]),
    command_mean=jnp.array([0.4, 0.0]),
    command_std=jnp.array([1.2, 0.25]),
    acceleration_std=jnp.array([3.0, 1.5, 8.0]),
)
KEY = jax.random.key(5)


def small(**changes) -> ModelConfig:
    """A model with tiny networks."""
    sizes = {
        "hidden_dims": (8,),
        "residual_hidden": (4,),
        "control_adapter": AdapterConfig(hidden=(4,)),
    }
    return ModelConfig(**(sizes | changes))


@functools.cache
def plant_of(config: ModelConfig, command_kind: str = "velocity"):
    """The plant of a car that takes such commands."""
    return make_plant(config, MUSHR if command_kind == "velocity" else DART, command_kind)


@functools.cache
def model_of(config: ModelConfig, command_kind: str = "velocity"):
    """The model as it is drawn, on the plant of its car."""
    make = jax.jit(make_model, static_argnums=1)
    return make(KEY, DynamicsConfig(model=config), plant_of(config, command_kind), SCALES)


@functools.cache
def awake(config: ModelConfig, command_kind: str = "velocity", size: float = 0.3):
    """A model whose networks are random to the last layer, on the plant of its car."""
    plant, rng = plant_of(config, command_kind), np.random.default_rng(3)
    if config.type in ("kinematic", "single_track"):
        return PlantModel(plant)
    shapes = eqx.filter_eval_shape(make_model, KEY, DynamicsConfig(model=config), plant, SCALES)
    nets = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape, scale=size), x.dtype), shapes
    )
    return eqx.tree_at(lambda m: (m.plant, m.scales), nets, (plant, SCALES))


def windows(count: int = 6, horizon: int = 3, history: int = 0, seed: int = 0) -> Window:
    """Random motion, unrelated from state to state."""
    rng = np.random.default_rng(seed)
    twist = rng.normal(size=(count, horizon + 1, 3)) * [1.0, 0.2, 1.5]
    pose = rng.normal(size=(count, horizon + 1, 3))
    command = rng.normal(size=(count, history + horizon, 2)) * [1.0, 0.2]
    arrays = (twist, pose, command, np.full((count, horizon), 0.1))
    return Window(*(jnp.asarray(x, jnp.float32) for x in arrays))


def batch_of(window: Window, each: int = 2) -> DynamicsBatch:
    """Windows as a batch: each group is one trajectory of its own."""
    group = jnp.arange(window.dt.shape[0]) // each
    return DynamicsBatch(window, group, group)


def with_loss(config: DynamicsConfig, **changes) -> DynamicsConfig:
    """The config with some of its loss replaced; ``rollout_cvar=dict(...)`` changes parts of it."""
    parts = {
        name: dataclasses.replace(getattr(config.loss, name), **value)
        if isinstance(value, dict)
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, loss=dataclasses.replace(config.loss, **parts))


def learner_of(config: DynamicsConfig, trajectories: int = 4, total_steps: int = 20) -> Dynamics:
    """A learner as the training makes it: options are arrays, what is left is the program."""
    return Dynamics.create(
        KEY,
        program_of(config),
        plant_of(config.model),
        SCALES,
        loss_emphasis(config),
        Settings.of(config),
        trajectories,
        total_steps,
    )


def leaves_of(tree) -> list[np.ndarray]:
    """Every array of a tree on the host."""
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def same_bits(left, right) -> bool:
    """Whether two trees hold the same bits."""
    pairs = zip(leaves_of(left), leaves_of(right), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)
