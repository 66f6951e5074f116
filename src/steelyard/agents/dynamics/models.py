"""Models of a vehicle: from a twist and a command to the next twist, one item at a time.

All share one interface: ``start`` makes what a rollout carries (past commands, actuators), ``step``
predicts one step. Physics works in SI units; networks see standardised values and are zero at the
start, so that a structured model begins as its plant and a direct one as "nothing changes".
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from steelyard.agents.dynamics.config import FrictionConfig, ModelConfig
from steelyard.agents.dynamics.plants import Plant
from steelyard.agents.dynamics.scales import Scales
from steelyard.nets import MLP

SIGN_WIDTH = 0.05  # m/s over which the direction of travel turns, so that it has a gradient


class Carry(NamedTuple):
    """What a rollout hands from step to step.

    Attributes:
        past: The last commands, oldest first.
        actuators: State of drive and steering, where the plant has any.
    """

    past: Float[Array, "history 2"]
    actuators: Float[Array, "2"]


class Parts(NamedTuple):
    """What the networks of a model did in one step, for its regularisers.

    Attributes:
        adapter: Sum of the squares of what the adapter adds, m/s² and shares of the bound.
        residual: Mean squared residual in units of the accelerations' standard deviation.
        friction: Squared difference of the friction factor from 1.
    """

    adapter: Float[Array, ""]
    residual: Float[Array, ""]
    friction: Float[Array, ""]

    @classmethod
    def none(cls) -> "Parts":
        """Nothing was done."""
        return cls(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


class Model(eqx.Module):
    """One item's dynamics."""

    plant: eqx.AbstractVar[Plant]

    def start(
        self,
        past: Float[Array, "history 2"],
        command: Float[Array, "2"],
    ) -> Carry:
        """What a rollout carries at its beginning: actuators at rest at the last known command."""
        last = past[-1] if past.shape[0] else command
        return Carry(past, self.plant.settled(last))

    @abc.abstractmethod
    def step(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "3"], Carry, Parts]:
        """Predict the twist ``dt`` seconds later while ``command`` is held."""


class PlantModel(Model):
    """A plant alone, all of its parameters fitted."""

    plant: Plant

    def step(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "3"], Carry, Parts]:
        """One step of the plant."""
        following, actuators = self.plant.step(twist, command, dt, carry.actuators)
        return following, Carry(_shifted(carry.past, command), actuators), Parts.none()


class StructuredModel(Model):
    """A plant with an adapter before it, a residual after it and an optional friction factor."""

    plant: Plant
    scales: Scales
    steer_net: MLP | None
    drive_net: MLP | None
    residual_net: MLP | None
    friction_net: MLP | None
    config: ModelConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls, key: PRNGKeyArray, config: ModelConfig, plant: Plant, scales: Scales
    ) -> "StructuredModel":
        """Draw the networks; all start at zero output."""
        keys = jax.random.split(key, 4)
        steer, drive = _adapter_nets(config, keys[0], keys[1])
        past = 2 * config.history
        used = (config.friction_use_delta, config.friction_use_vy, config.friction_use_dt)
        residual = _tanh_net(5 + past, 3, config.residual_hidden, keys[2])
        friction = _tanh_net(1 + sum(used) + past, 1, config.residual_hidden, keys[3])
        return cls(
            plant,
            scales,
            steer,
            drive,
            residual if config.learn_residual else None,
            friction if config.learn_friction else None,
            config,
        )

    def step(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "3"], Carry, Parts]:
        """Adapter, plant with friction, residual."""
        scales = self.scales
        past = scales.standard_command(carry.past).reshape(-1)
        correction = _corrections(self, twist, command, past)
        steering, drive = self.plant.targets(twist, command, correction)
        factor = self._friction(twist, steering, dt, past)
        following, actuators = self.plant.forward(
            twist, drive, steering, dt, carry.actuators, factor
        )
        residual = jnp.zeros(3)
        if self.residual_net is not None:
            seen = [scales.standard_twist(twist), jnp.stack([steering, drive]), past]
            residual = self.residual_net(jnp.concatenate(seen))
            following = following + dt * scales.acceleration_std * residual
        parts = Parts(jnp.sum(correction**2), jnp.mean(residual**2), (factor - 1.0) ** 2)
        return following, Carry(_shifted(carry.past, command), actuators), parts

    def _friction(
        self,
        twist: Float[Array, "3"],
        steering: Float[Array, ""],
        dt: Float[Array, ""],
        past: Float[Array, " past"],
    ) -> Float[Array, ""]:
        config = self.config
        if self.friction_net is None:
            return jnp.ones(())
        standard = self.scales.standard_twist(twist)
        seen = [standard[2]]
        seen += [steering] if config.friction_use_delta else []
        seen += [standard[1]] if config.friction_use_vy else []
        seen += [dt] if config.friction_use_dt else []
        output = self.friction_net(jnp.concatenate([jnp.stack(seen), past]))[0]
        return friction_factor(output, config.friction_param)


class DirectModel(Model):
    """A network from twist, command and step length to the next twist."""

    plant: Plant
    scales: Scales
    net: MLP
    steer_net: MLP | None
    drive_net: MLP | None
    config: ModelConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls, key: PRNGKeyArray, config: ModelConfig, plant: Plant, scales: Scales
    ) -> "DirectModel":
        """Draw the networks; ``predict: delta`` starts at "nothing changes"."""
        net_key, steer_key, drive_key = jax.random.split(key, 3)
        steer, drive = _adapter_nets(config, steer_key, drive_key)
        last_scale = 0.0 if config.predict == "delta" else 1.0
        net = _tanh_net(6 + 2 * config.history, 3, config.hidden_dims, net_key, last_scale)
        return cls(plant, scales, net, steer, drive, config)

    def step(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "3"], Carry, Parts]:
        """One evaluation of the network, behind the adapter where there is one."""
        scales = self.scales
        past = scales.standard_command(carry.past).reshape(-1)
        given, parts = scales.standard_command(command), Parts.none()
        if self.steer_net is not None:
            correction = _corrections(self, twist, command, past)
            steering, drive = self.plant.targets(twist, command, correction)
            given = jnp.stack(
                [drive / scales.acceleration_std[0], steering / scales.command_std[1]]
            )
            parts = parts._replace(adapter=jnp.sum(correction**2))
        seen = [scales.standard_twist(twist), given, dt[None], past]
        output = self.net(jnp.concatenate(seen))
        if self.config.predict == "delta":
            following = twist + dt * scales.acceleration_std * output
        else:
            following = scales.twist_mean + scales.twist_std * output
        return following, Carry(_shifted(carry.past, command), carry.actuators), parts


def friction_factor(output: Float[Array, ""], config: FrictionConfig) -> Float[Array, ""]:
    """The friction factor ``k`` of a network's output; 1 at output 0, whatever the mode."""
    if config.mode == "softplus_offset_1":
        return 1.0 + jax.nn.softplus(output) - jnp.log(2.0)
    if config.mode == "exp":
        return jnp.exp(jnp.clip(output, jnp.log(config.k_min), jnp.log(config.k_max)))
    # The logistic curve through (0, 1) with ends k_min and k_max.
    share = (1.0 - config.k_min) / (config.k_max - config.k_min)
    shift = jnp.log(share / (1.0 - share))
    return config.k_min + (config.k_max - config.k_min) * jax.nn.sigmoid(output + shift)


def _adapter_nets(
    config: ModelConfig, steer_key: PRNGKeyArray, drive_key: PRNGKeyArray
) -> tuple[MLP | None, MLP | None]:
    adapter, past = config.control_adapter, 2 * config.history
    if not adapter.enabled:
        return None, None
    steer = 5 + adapter.include_speed_mag_steer + adapter.include_speed_sign_steer
    drive = 3 + adapter.include_speed_mag_acc + adapter.include_speed_sign_acc
    drive += adapter.include_vy_acc + adapter.include_w_acc
    return (
        _tanh_net(steer + past, 1, adapter.hidden, steer_key),
        _tanh_net(drive + past, 1, adapter.hidden, drive_key),
    )


def _corrections(
    model: StructuredModel | DirectModel,
    twist: Float[Array, "3"],
    command: Float[Array, "2"],
    past: Float[Array, " past"],
) -> Float[Array, "2"]:
    """What the adapter adds: to the drive in standard deviations of acceleration, to steering."""
    adapter, scales = model.config.control_adapter, model.scales
    if model.steer_net is None or model.drive_net is None:
        return jnp.zeros(2)
    (drive, steer), (vx, vy, w) = scales.standard_command(command), scales.standard_twist(twist)
    speed = jnp.sqrt(twist[0] ** 2 + SIGN_WIDTH**2) / scales.twist_std[0]
    sign = jnp.tanh(twist[0] / SIGN_WIDTH)
    steer_seen = [steer, drive, vx, vy, w]
    steer_seen += [speed] if adapter.include_speed_mag_steer else []
    steer_seen += [sign] if adapter.include_speed_sign_steer else []
    drive_seen = [drive, steer, vx]
    drive_seen += [speed] if adapter.include_speed_mag_acc else []
    drive_seen += [sign] if adapter.include_speed_sign_acc else []
    drive_seen += [vy] if adapter.include_vy_acc else []
    drive_seen += [w] if adapter.include_w_acc else []
    drive_by = model.drive_net(jnp.concatenate([jnp.stack(drive_seen), past]))[0]
    steer_by = model.steer_net(jnp.concatenate([jnp.stack(steer_seen), past]))[0]
    return jnp.stack([drive_by * scales.acceleration_std[0], steer_by])


def _tanh_net(
    inputs: int, outputs: int, hidden: tuple[int, ...], key: PRNGKeyArray, last_scale: float = 0.0
) -> MLP:
    return MLP(inputs, outputs, hidden, key=key, activation=jnp.tanh, last_scale=last_scale)


def _shifted(past: Float[Array, "history 2"], command: Float[Array, "2"]) -> Array:
    return jnp.concatenate([past, command[None]])[1:] if past.shape[0] else past
