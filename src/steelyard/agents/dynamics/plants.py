"""The physics inside a model: a car's parameters, free to be fitted, behind one interface."""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from steelyard.agents.dynamics.config import ModelConfig
from steelyard.numerics.vehicle import (
    CommandKind,
    KinematicParameters,
    SingleTrackParameters,
    Vehicle,
    from_unconstrained,
    kinematic_controls,
    kinematic_step,
    single_track_step,
    to_unconstrained,
)
from steelyard.types import Window

MAX_FIT_WINDOWS = 1_000


class Plant(eqx.Module):
    """Physics in SI units; its parameters are kept on the whole real line, where steps are free."""

    command_kind: eqx.AbstractVar[CommandKind]

    @abc.abstractmethod
    def settled(self, command: Float[Array, "2"]) -> Float[Array, "2"]:
        """Actuators that have followed a command for long."""

    @abc.abstractmethod
    def targets(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        correction: Float[Array, "2"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Steering and drive that :meth:`forward` takes, for a command and a correction of it.

        Args:
            twist: Present twist.
            command: Velocity or throttle, and steering.
            correction: What is added to the drive, m/s², and to the steering, in shares of its
                bound.
        """

    @abc.abstractmethod
    def forward(
        self,
        twist: Float[Array, "3"],
        drive: Float[Array, ""],
        steering: Float[Array, ""],
        dt: Float[Array, ""],
        actuators: Float[Array, "2"],
        factor: Float[Array, ""],
    ) -> tuple[Float[Array, "3"], Float[Array, "2"]]:
        """The next twist and actuators under a friction factor, 1 for none."""

    def step(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        dt: Float[Array, ""],
        actuators: Float[Array, "2"],
    ) -> tuple[Float[Array, "3"], Float[Array, "2"]]:
        """One step of the plant alone."""
        steering, drive = self.targets(twist, command, jnp.zeros(2))
        return self.forward(twist, drive, steering, dt, actuators, jnp.ones(()))


class KinematicPlant(Plant):
    """Wheels that do not slip; the drive is an acceleration in m/s², the steering an angle."""

    free: KinematicParameters
    command_kind: CommandKind = eqx.field(static=True)

    @property
    def parameters(self) -> KinematicParameters:
        """In SI units."""
        return from_unconstrained(self.free)

    def settled(self, command: Float[Array, "2"]) -> Float[Array, "2"]:
        """No actuator has a state here."""
        return jnp.zeros(2)

    def targets(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        correction: Float[Array, "2"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """See :func:`steelyard.numerics.vehicle.kinematic_controls`."""
        drive, steering = kinematic_controls(
            self.parameters, twist, command, self.command_kind, correction
        )
        return steering, drive

    def forward(
        self,
        twist: Float[Array, "3"],
        drive: Float[Array, ""],
        steering: Float[Array, ""],
        dt: Float[Array, ""],
        actuators: Float[Array, "2"],
        factor: Float[Array, ""],
    ) -> tuple[Float[Array, "3"], Float[Array, "2"]]:
        """See :func:`steelyard.numerics.vehicle.kinematic_step`."""
        return kinematic_step(self.parameters, twist, drive, steering, dt, factor), actuators


class SingleTrackPlant(Plant):
    """Tyres and lagging actuators; drive and steering are commands."""

    free: SingleTrackParameters
    command_kind: CommandKind = eqx.field(static=True)
    drive_unit: float = eqx.field(static=True, default=1.0)
    steering_unit: float = eqx.field(static=True, default=1.0)

    @property
    def parameters(self) -> SingleTrackParameters:
        """In SI units."""
        return from_unconstrained(self.free)

    def settled(self, command: Float[Array, "2"]) -> Float[Array, "2"]:
        """Both actuators stand at the command."""
        return command

    def targets(
        self,
        twist: Float[Array, "3"],
        command: Float[Array, "2"],
        correction: Float[Array, "2"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Commands, moved by the correction in units of `steering_unit` and `drive_unit`."""
        steering = command[1] + self.steering_unit * correction[1]
        return steering, command[0] + self.drive_unit * correction[0]

    def forward(
        self,
        twist: Float[Array, "3"],
        drive: Float[Array, ""],
        steering: Float[Array, ""],
        dt: Float[Array, ""],
        actuators: Float[Array, "2"],
        factor: Float[Array, ""],
    ) -> tuple[Float[Array, "3"], Float[Array, "2"]]:
        """See :func:`steelyard.numerics.vehicle.single_track_step`; the factor scales the grip."""
        params = self.parameters
        front = dataclasses.replace(params.front_tyre, peak=factor * params.front_tyre.peak)
        rear = dataclasses.replace(params.rear_tyre, peak=factor * params.rear_tyre.peak)
        params = dataclasses.replace(params, front_tyre=front, rear_tyre=rear)
        command = jnp.stack([drive, steering])
        return single_track_step(params, twist, command, dt, actuators, self.command_kind)


def make_plant(config: ModelConfig, vehicle: Vehicle, command_kind: CommandKind) -> Plant:
    """The plant that a model starts from: what is known of the car, with the model's bounds."""
    kind = config.physics if config.type == "structured" else config.type
    if kind == "single_track":
        return SingleTrackPlant(
            free=to_unconstrained(vehicle.single_track), command_kind=command_kind
        )
    adapter, kinematic = config.control_adapter, vehicle.kinematic
    if adapter.acc_output_scale is not None:
        kinematic = dataclasses.replace(kinematic, max_acceleration=adapter.acc_output_scale)
    kinematic = dataclasses.replace(kinematic, max_steering=adapter.steer_output_scale)
    return KinematicPlant(free=to_unconstrained(kinematic), command_kind=command_kind)


def fit_kinematic(vehicle: Vehicle, windows: Window) -> Vehicle:
    """Fit wheelbase, arm, the velocity loop and its bound to rollouts of a second or so.

    Least squares over all steps of all windows, with a robust loss (soft L1 above one standard
    deviation of a twist), so that windows in which the wheels slip, which no such car explains, do
    not bend the others. Rollouts and not single steps, because these say little about the lag. For
    cars with velocity commands.

    Args:
        vehicle: What is known of the car; where the search starts.
        windows: Recorded motion, without past commands; `MAX_FIT_WINDOWS` of them, evenly spaced,
            are looked at.

    Raises:
        ValueError: The fit ends at a car that cannot be, such as one that steers the wrong way.
    """
    count = windows.dt.shape[0]
    chosen = np.linspace(0, count - 1, min(count, MAX_FIT_WINDOWS)).astype(int)
    windows = jax.tree.map(lambda x: x[chosen], windows)
    std = jnp.maximum(jnp.std(windows.twist.reshape(-1, 3), axis=0), 1e-6)
    known = vehicle.kinematic

    def car(free: Float[Array, "4"]) -> KinematicParameters:
        wheelbase, tau, bound = jnp.exp(free[:3])
        drive = dataclasses.replace(known.drive, tau_v=tau)
        return dataclasses.replace(
            known, wheelbase=wheelbase, arm=free[3], drive=drive, max_acceleration=bound
        )

    @jax.jit
    def errors(free: Float[Array, "4"]) -> Float[Array, " residual"]:
        fitted = car(free)

        def one(window: Window) -> Array:
            def body(twist: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
                drive, steering = kinematic_controls(fitted, twist, step[0])
                following = kinematic_step(fitted, twist, drive, steering, step[1])
                return following, following

            _, twists = jax.lax.scan(body, window.twist[0], (window.command, window.dt))
            return (twists - window.twist[1:]) / std[None]

        return jax.vmap(one)(windows).reshape(-1)

    slopes = jax.jit(jax.jacfwd(errors))
    start = [known.wheelbase, known.drive.tau_v, known.max_acceleration]
    found = scipy.optimize.least_squares(
        lambda x: np.asarray(errors(jnp.asarray(x, jnp.float32)), np.float64),
        np.array([*np.log(np.asarray(start, np.float64)), float(known.arm)]),
        jac=lambda x: np.asarray(slopes(jnp.asarray(x, jnp.float32)), np.float64),  # pyright: ignore[reportArgumentType]
        loss="soft_l1",
        f_scale=1.0,
        max_nfev=50,
    )
    fitted = np.exp(found.x[:3])
    if not (np.isfinite(found.x).all() and 0.01 < fitted[0] < 10.0):
        raise ValueError(
            f"fitting the kinematic car ended at a wheelbase of {fitted[0]:.3g} m: does the "
            "steering of the data have the other sign, or another unit than rad?"
        )
    return dataclasses.replace(vehicle, kinematic=car(jnp.asarray(found.x, jnp.float32)))
