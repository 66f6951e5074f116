r"""Plants of a small car: a kinematic bicycle, and a single track with tyres and actuators.

Both step the body twist ``(vx, vy, w)`` (m/s, m/s, rad/s) of the **tracked point**, which lies on
the centre line, ``arm`` ahead of the rear axle; steering is positive to the left. Every branch is
continuously differentiable in state and command: standstill, reverse and zero acceleration are
ordinary points. Functions are for one item; batch with :func:`jax.vmap`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from steelyard.numerics.vehicle_parameters import (
    COMMAND_KINDS,
    DART,
    MUSHR,
    CommandKind,
    Drive,
    KinematicParameters,
    Scalar,
    SingleTrackParameters,
    Twist,
    Tyre,
    Vehicle,
    from_unconstrained,
    to_unconstrained,
)

__all__ = [
    "COMMAND_KINDS",
    "DART",
    "MUSHR",
    "CommandKind",
    "Drive",
    "KinematicParameters",
    "SingleTrackParameters",
    "Tyre",
    "Vehicle",
    "actuator_lag",
    "drive_acceleration",
    "from_unconstrained",
    "kinematic_controls",
    "kinematic_step",
    "saturate",
    "single_track_step",
    "to_unconstrained",
]

GRAVITY = 9.81
SLIP_SPEED_FLOOR = 0.2
"""m/s; slip angles are taken as if no wheel rolled slower."""
KINEMATIC_BELOW = 0.4
"""m/s; where tyres and kinematics have equal odds."""
_BLEND_WIDTH = 0.03
_BLEND_SECONDS = 0.01
_LATERAL_SPEED_FLOOR = 1e-4


def saturate(value: Float[Array, ""], limit: Scalar) -> Float[Array, ""]:
    """``limit · tanh(value/limit)``: within ``±limit``, slope 1 at 0."""
    return limit * jnp.tanh(value / limit)


def drive_acceleration(
    drive: Drive, speed: Float[Array, ""], command: Float[Array, ""], command_kind: str = "velocity"
) -> Float[Array, ""]:
    r"""Forward acceleration in m/s² before any tyre resists.

    ``velocity``: ``(v_cmd - v)/tau_v``. ``throttle``: ``(c1 - c2 v) softplus_beta(u - u0) -
    r0 tanh(5 v) - r1 v - r2 v|v|`` with ``softplus_beta(x) = log(1 + exp(beta x))/beta``.

    Args:
        drive: Its parameters.
        speed: Forward speed in m/s, any sign.
        command: Velocity in m/s, or throttle in ``[-1, 1]``.
        command_kind: ``"velocity"`` or ``"throttle"``.

    Raises:
        ValueError: If the kind of the command is unknown.
    """
    return _drive_and_slope(drive, speed, command, command_kind)[0]


def kinematic_controls(
    params: KinematicParameters,
    twist: Twist,
    command: Float[Array, "2"],
    command_kind: str = "velocity",
    correction: Float[Array, "2"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Acceleration and steering angle that a command asks of the kinematic car.

    ``a = a_max tanh((drive + n_a)/a_max)`` and ``delta = d_max tanh((g u + trim)/d_max + n_s)``.

    Args:
        params: Parameters of the car.
        twist: Present twist of the tracked point.
        command: Velocity (m/s) or throttle, and steering.
        command_kind: ``"velocity"`` or ``"throttle"``.
        correction: What a learned adapter adds: ``n_a`` (m/s²) and ``n_s`` (shares of ``d_max``).

    Returns:
        Acceleration in m/s² and steering angle in rad, both within their bounds.
    """
    added_acceleration, added_steering = jnp.zeros(2) if correction is None else correction
    drive = drive_acceleration(params.drive, twist[0], command[0], command_kind)
    angle = params.steering_gain * command[1] + params.steering_trim
    return (
        saturate(drive + added_acceleration, params.max_acceleration),
        saturate(angle + params.max_steering * added_steering, params.max_steering),
    )


def kinematic_step(
    params: KinematicParameters,
    twist: Twist,
    acceleration: Float[Array, ""],
    steering: Float[Array, ""],
    dt: Scalar,
    k: Scalar = 1.0,
) -> Twist:
    r"""One step of the kinematic bicycle.

    ``v⁺ = vx + a dt``, ``w⁺ = w + k (v⁺ tan(delta)/L - w)``, ``vy⁺ = l w⁺ + (1 - k)(vy - l w)``.

    Args:
        params: Parameters of the car; only ``wheelbase`` and ``arm`` are read.
        twist: ``(vx, vy, w)`` of the tracked point.
        acceleration: ``a`` in m/s², any sign.
        steering: ``delta`` in rad, within ``±pi/2``, positive to the left.
        dt: Step in seconds.
        k: Share of the slip that the wheels take away in the step; 1 is no slip.

    Returns:
        The next twist of the tracked point.
    """
    vx, vy, w = twist
    next_vx = vx + acceleration * dt
    next_w = w + k * (next_vx * jnp.tan(steering) / params.wheelbase - w)
    next_vy = params.arm * next_w + (1.0 - k) * (vy - params.arm * w)
    return jnp.stack([next_vx, next_vy, next_w])


def actuator_lag(
    params: SingleTrackParameters,
    actuators: Float[Array, "2"],
    command: Float[Array, "2"],
    dt: Scalar,
) -> Float[Array, "2"]:
    """Advance the actuators towards a held command: a share ``1 - exp(-dt/tau)`` of the way.

    Args:
        params: Parameters of the car; only the two lags are read.
        actuators: Drive and steering as they are, in the units of the command. The last command
            before, where nothing better is known.
        command: Drive and steering as they are asked for.
        dt: How long the command is held, s; two halves are as good as a whole.
    """
    way = jnp.stack([-jnp.expm1(-dt / params.tau_drive), -jnp.expm1(-dt / params.tau_steer)])
    return actuators + way * (command - actuators)


def single_track_step(
    params: SingleTrackParameters,
    twist: Twist,
    command: Float[Array, "2"],
    dt: Scalar,
    actuators: Float[Array, "2"],
    command_kind: str = "velocity",
    substeps: int = 5,
) -> tuple[Twist, Float[Array, "2"]]:
    r"""One step of the single-track model under a held command.

    At the centre of mass ``vx' = a + w vy - F_f sin(delta)/m``, ``vy' = -w vx + (F_f cos(delta) +
    F_r)/m``, ``w' = (l_f F_f cos(delta) - l_r F_r)/I``; tyres as in :class:`Tyre`, under the static
    load of their axle. The twist is of the tracked point, ``p = arm - l_r`` ahead of the centre of
    mass, so ``vy`` there is ``vy + p w``; ``vx`` and ``w`` are the same.

    Tyres at low speed are stiff (hundreds per second), so a substep is linearly implicit: each
    tyre damps its own lateral velocity, ``F = F(u) - S (u⁺ - u)`` with ``S >= 0`` from the start,
    and the two forces solve a 2×2 system, whose determinant is at least 1 whatever the step is.
    It is of first order; steady motions are exact at any step. Around ``KINEMATIC_BELOW`` it is
    drawn to the kinematic bicycle: per 10 ms, at the odds of a sigmoid in the speed.

    Args:
        params: Parameters of the car.
        twist: ``(vx, vy, w)`` of the tracked point; any sign.
        command: Velocity (m/s) or throttle, and steering.
        dt: Step in seconds.
        actuators: Drive and steering as the actuators have them so far; see :func:`actuator_lag`.
        command_kind: ``"velocity"`` or ``"throttle"``.
        substeps: Into how many equal parts the step is cut, at least 1; static.

    Returns:
        The next twist of the tracked point and the next actuators.

    Raises:
        ValueError: If the kind of the command is unknown or there is no substep.
    """
    if substeps < 1:
        raise ValueError(f"single_track_step: substeps must be at least 1, got {substeps}")
    ahead = params.arm - params.rear
    substep = dt / substeps
    velocity = (twist[0], twist[1] - ahead * twist[2], twist[2])

    def advance(carry, _):
        velocity, actuators = carry
        following = actuator_lag(params, actuators, command, substep)
        drive, steering = 0.5 * (actuators + following)
        angle = params.steering_gain * steering + params.steering_trim
        velocity = _single_track_substep(params, velocity, drive, angle, substep, command_kind)
        return (velocity, following), None

    (velocity, actuators), _ = jax.lax.scan(
        jax.checkpoint(advance), (velocity, actuators), length=substeps
    )
    vx, vy, w = velocity
    return jnp.stack([vx, vy + ahead * w, w]), actuators


def _single_track_substep(params, velocity, drive_command, steering, h, command_kind):
    """Advance the velocity of the centre of mass by ``h`` seconds.

    With ``K`` the implicit part of drive and rotation, ``N`` the lateral directions of the axles,
    ``g`` all but the tyres, ``D`` the change: ``K D = h g + h M⁻¹ N F``, ``F = F(u) - S N' D``.
    """
    vx, vy, w = velocity
    base = params.front + params.rear
    # Pairs are front, rear.
    sin = jnp.stack([jnp.sin(steering), 0.0])
    cos = jnp.stack([jnp.cos(steering), 1.0])
    ahead = jnp.stack([params.front, -params.rear])
    load = params.mass * GRAVITY / base * jnp.stack([params.rear, params.front])
    tyres = jax.tree.map(lambda *pair: jnp.stack(pair), params.front_tyre, params.rear_tyre)

    def lateral(x, y, yaw):
        return cos * (y + ahead * yaw) - sin * x

    along = cos * vx + sin * (vy + ahead * w)
    force, damping = _tyre_forces(tyres, load, lateral(vx, vy, w), along)
    acceleration, slope = _drive_and_slope(params.drive, vx, drive_command, command_kind)

    # K = [[stay, -q], [q, 1]] on (vx, vy): the mid-point rule turns without adding energy.
    stay, q = 1.0 - h * slope, 0.5 * h * w

    def solve(x, y):
        return (x + q * y) / (stay + q * q), (stay * y - q * x) / (stay + q * q)

    free_x, free_y = solve(h * (acceleration + w * vy), -h * w * vx)
    per_x, per_y = solve(-h * sin / params.mass, h * cos / params.mass)
    per_w = h * ahead * cos / params.yaw_inertia
    a11, a21 = damping * lateral(per_x[0], per_y[0], per_w[0])
    a12, a22 = damping * lateral(per_x[1], per_y[1], per_w[1])
    b1, b2 = force - damping * lateral(free_x, free_y, 0.0)
    determinant = (1.0 + a11) * (1.0 + a22) - a12 * a21
    front = ((1.0 + a22) * b1 - a12 * b2) / determinant
    rear = ((1.0 + a11) * b2 - a21 * b1) / determinant
    sliding_x = vx + free_x + per_x[0] * front + per_x[1] * rear
    sliding_y = vy + free_y + per_y[0] * front + per_y[1] * rear
    sliding_w = w + per_w[0] * front + per_w[1] * rear

    rolling_x = vx + h * acceleration / stay
    rolling_w = rolling_x * jnp.tan(steering) / base
    # Odds of the sigmoid, as a rate, so that finer substeps converge.
    excess = (KINEMATIC_BELOW**2 - vx * vx - vy * vy) / (2.0 * KINEMATIC_BELOW * _BLEND_WIDTH)
    share = -jnp.expm1(-h / _BLEND_SECONDS * jnp.exp(excess))
    return (
        sliding_x + share * (rolling_x - sliding_x),
        sliding_y + share * (params.rear * rolling_w - sliding_y),
        sliding_w + share * (rolling_w - sliding_w),
    )


def _tyre_forces(tyre: Tyre, load, lateral, along):
    """Lateral force, N, and its implicit part, N s/m: the mean of secant and tangent.

    For ``C < 2`` it is not negative, so the step is stable; the secant alone lags twice as much.
    """
    along = _floored_speed(along)
    # Even and smooth in the lateral velocity; no 0/0 at rest.
    speed = jnp.sqrt(lateral * lateral + _LATERAL_SPEED_FLOOR**2)
    slip = tyre.stiffness * jnp.arctan2(speed, along)
    angle = tyre.shape * jnp.arctan(slip)
    slip_slope = tyre.stiffness * along / (along * along + speed * speed)
    secant = tyre.peak * load * jnp.sin(angle) / speed
    tangent = tyre.peak * load * jnp.cos(angle) * tyre.shape * slip_slope / (1.0 + slip * slip)
    return -secant * lateral, 0.5 * (secant + tangent)


def _floored_speed(speed):
    """``|v|`` above twice the floor, below it a parabola that touches it and is never under it."""
    low = SLIP_SPEED_FLOOR + speed * speed / (4.0 * SLIP_SPEED_FLOOR)
    return jnp.where(jnp.abs(speed) < 2.0 * SLIP_SPEED_FLOOR, low, jnp.abs(speed))


def _drive_and_slope(drive: Drive, speed, command, command_kind: str):
    """Acceleration and its derivative in the speed, which is never positive."""
    if command_kind == "velocity":
        return (command - speed) / drive.tau_v, -1.0 / drive.tau_v
    if command_kind != "throttle":
        legal = ", ".join(map(repr, COMMAND_KINDS))
        raise ValueError(f"vehicle: command_kind must be one of {legal}, got {command_kind!r}")
    opening = jax.nn.softplus(drive.beta * (command - drive.u0)) / drive.beta
    sign = jnp.tanh(5.0 * speed)
    drag = drive.r0 * sign + drive.r1 * speed + drive.r2 * speed * jnp.abs(speed)
    slope = -(
        drive.c2 * opening
        + 5.0 * drive.r0 * (1.0 - sign * sign)
        + drive.r1
        # |v| itself has a kink, which the step would inherit.
        + 2.0 * drive.r2 * _floored_speed(speed)
    )
    return (drive.c1 - drive.c2 * speed) * opening - drag, slope
