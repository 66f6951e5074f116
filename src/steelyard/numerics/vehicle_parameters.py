"""Parameters of a small car's plants, and what is known of two cars.

They are pytrees of scalars in SI units; :func:`to_unconstrained` maps them to the whole real line,
where gradient descent may move them freely, and :func:`from_unconstrained` maps them back.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar: TypeAlias = Float[Array, ""] | float
Twist: TypeAlias = Float[Array, "3"]
CommandKind: TypeAlias = Literal["velocity", "throttle"]
COMMAND_KINDS: tuple[str, ...] = get_args(CommandKind)


class _Parameters(eqx.Module):
    """Numbers of a model; all positive, except those in ``signed``; some below a bound."""

    signed: ClassVar[frozenset[str]] = frozenset()
    below: ClassVar[Mapping[str, float]] = MappingProxyType({})

    def __check_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float):
                continue
            bound = self.below.get(field.name, math.inf)
            least = -math.inf if field.name in self.signed else 0.0
            if not least < value < bound:
                place = f"{type(self).__name__}.{field.name}"
                raise ValueError(f"{place} must be in ({least}, {bound:.4g}), got {value}")


class Tyre(_Parameters):
    """Magic formula ``F = -D N sin(C atan(B alpha))`` of one axle.

    Attributes:
        stiffness: ``B``, 1/rad.
        shape: ``C`` in ``(0, 2)``; above 1 grip falls beyond the peak.
        peak: ``D``, the largest force as a share of the load ``N``.
    """

    below: ClassVar[Mapping[str, float]] = MappingProxyType({"shape": 2.0})

    stiffness: Scalar
    shape: Scalar
    peak: Scalar


class Drive(_Parameters):
    """Acceleration from a velocity command or from a throttle; see :func:`drive_acceleration`.

    Attributes:
        tau_v: Time constant of the velocity loop, s.
        c1: Acceleration per throttle at standstill, m/s².
        c2: Loss of it per speed, 1/s.
        u0: Throttle at which the motor starts; signed.
        beta: Sharpness of that start.
        r0: Rolling resistance, m/s².
        r1: Resistance linear in speed, 1/s.
        r2: Resistance quadratic in speed, 1/m.
    """

    signed: ClassVar[frozenset[str]] = frozenset({"u0"})

    tau_v: Scalar
    c1: Scalar
    c2: Scalar
    u0: Scalar
    beta: Scalar
    r0: Scalar
    r1: Scalar
    r2: Scalar


class KinematicParameters(_Parameters):
    """A bicycle whose wheels do not slip.

    Attributes:
        wheelbase: ``L``, m.
        arm: Tracked point ahead of the rear axle, ``l``, m; signed.
        max_steering: Bound of the steering angle, rad, below ``pi/2``.
        max_acceleration: Bound of the acceleration, m/s².
        steering_gain: Angle per unit of the steering command.
        steering_trim: Angle at a command of 0, rad; signed.
        drive: What the velocity or throttle command does.
    """

    signed: ClassVar[frozenset[str]] = frozenset({"arm", "steering_trim"})
    below: ClassVar[Mapping[str, float]] = MappingProxyType({"max_steering": 0.5 * math.pi})

    wheelbase: Scalar
    arm: Scalar
    max_steering: Scalar
    max_acceleration: Scalar
    steering_gain: Scalar
    steering_trim: Scalar
    drive: Drive


class SingleTrackParameters(_Parameters):
    """A bicycle on tyres, driven on all wheels, its actuators lagging.

    Attributes:
        mass: kg.
        yaw_inertia: About the centre of mass, kg m².
        front: Front axle ahead of the centre of mass, m.
        rear: Rear axle behind the centre of mass, m.
        arm: Tracked point ahead of the rear axle, m; signed.
        front_tyre: Tyre of the front axle.
        rear_tyre: Tyre of the rear axle.
        drive: What the velocity or throttle command does.
        tau_drive: Lag of the velocity or throttle command, s.
        tau_steer: Lag of the steering command, s.
        steering_gain: Angle per unit of the steering command; angles stay within ``±pi/2``.
        steering_trim: Angle at a command of 0, rad; signed.
    """

    signed: ClassVar[frozenset[str]] = frozenset({"arm", "steering_trim"})

    mass: Scalar
    yaw_inertia: Scalar
    front: Scalar
    rear: Scalar
    arm: Scalar
    front_tyre: Tyre
    rear_tyre: Tyre
    drive: Drive
    tau_drive: Scalar
    tau_steer: Scalar
    steering_gain: Scalar
    steering_trim: Scalar


ParametersT = TypeVar("ParametersT", bound=_Parameters)


def to_unconstrained(parameters: ParametersT) -> ParametersT:
    """Parameters on the whole real line, in the same structure, as float32 arrays.

    Logarithms of the positive ones, logits of those with an upper bound, the signed as they are.
    A step of 0.01 there changes a positive parameter by one per cent, whatever its unit.
    """

    def transform(value, signed, bound):
        if signed:
            return value
        return jnp.log(value) if math.isinf(bound) else jnp.log(value / (bound - value))

    return _map(parameters, transform)


def from_unconstrained(unconstrained: ParametersT) -> ParametersT:
    """Undo :func:`to_unconstrained`; whatever the numbers are, the parameters are legal."""

    def transform(value, signed, bound):
        if signed:
            return value
        return jnp.exp(value) if math.isinf(bound) else bound * jax.nn.sigmoid(value)

    return _map(unconstrained, transform)


def _map(parameters, transform):
    def domains(node: _Parameters) -> list[tuple[bool, float]]:
        found = []
        for field in dataclasses.fields(node):
            value, name = getattr(node, field.name), field.name
            nested = isinstance(value, _Parameters)
            own = [(name in node.signed, node.below.get(name, math.inf))]
            found += domains(value) if nested else own
        return found

    leaves, structure = jax.tree.flatten(parameters)
    pairs = zip(leaves, domains(parameters), strict=True)
    mapped = [transform(jnp.asarray(leaf, jnp.float32), *domain) for leaf, domain in pairs]
    return jax.tree.unflatten(structure, mapped)


class Vehicle(eqx.Module):
    """What is known of one car before any fit.

    Attributes:
        kinematic: Its kinematic bicycle.
        single_track: Its single track.
        track: Distance between left and right wheels, m.
    """

    kinematic: KinematicParameters
    single_track: SingleTrackParameters
    track: float


def _vehicle(
    *,
    track: float,
    wheelbase: float,
    centre: float,
    arm: float,
    gain: float,
    trim: float,
    max_acceleration: float,
    drive: Drive,
    **dynamics: Any,
) -> Vehicle:
    """Two models of one car; ``centre`` is its centre of mass ahead of the rear axle, m."""
    shared = {"arm": arm, "steering_gain": gain, "steering_trim": trim, "drive": drive}
    kinematic = KinematicParameters(
        wheelbase=wheelbase, max_steering=0.6, max_acceleration=max_acceleration, **shared
    )
    single_track = SingleTrackParameters(
        front=wheelbase - centre, rear=centre, **shared, **dynamics
    )
    return Vehicle(kinematic, single_track, track)


MUSHR = _vehicle(
    track=0.23,
    wheelbase=0.2965,
    centre=0.155,
    arm=0.158,
    gain=1.0,
    trim=0.0,
    max_acceleration=12.0,
    drive=Drive(tau_v=0.1, c1=8.0, c2=2.0, u0=0.05, beta=50.0, r0=0.3, r1=0.1, r2=0.01),
    mass=5.80,
    yaw_inertia=0.12,
    front_tyre=Tyre(stiffness=14.7, shape=1.5, peak=0.8),
    rear_tyre=Tyre(stiffness=14.7, shape=1.5, peak=0.8),
    tau_drive=0.06,
    tau_steer=0.04,
)
"""Steering in rad, velocity in m/s. Geometry and mass as published; inertia summed over the parts;
tyres for a friction of 0.8: (Cf + Cr)/m is 173 m/s². It is driven by velocity: its throttle map is
nominal, with a top speed near 3.6 m/s."""

DART = _vehicle(
    track=0.08,
    wheelbase=0.1735,
    centre=0.093,
    arm=0.115,
    gain=0.51,
    trim=-0.014,
    max_acceleration=10.0,
    drive=Drive(tau_v=0.3, c1=16.0, c2=3.05, u0=0.164, beta=50.0, r0=0.8, r1=0.28, r2=0.01),
    mass=1.58,
    yaw_inertia=0.0048,
    front_tyre=Tyre(stiffness=8.6, shape=0.84, peak=0.84),
    rear_tyre=Tyre(stiffness=11.5, shape=0.96, peak=0.85),
    tau_drive=0.084,
    tau_steer=0.13,
)
"""Steering and throttle in ``[-1, 1]``. Geometry, masses, tyres, lags and drive after the authors'
identification (Lyons, Niesten, Ferranti 2024, arXiv:2402.07602, and its repository), rounded;
the rolling resistance is theirs refitted to this form, the velocity loop is nominal."""
