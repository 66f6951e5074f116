"""Plants of a car: by hand, by symmetry, by smoothness, and against fine-step references."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.numerics import se2, vehicle
from steelyard.numerics.vehicle import DART, MUSHR

KINEMATIC = jax.jit(vehicle.kinematic_step)
STEP = jax.jit(vehicle.single_track_step, static_argnames=("command_kind", "substeps"))
CONTROLS = jax.jit(vehicle.kinematic_controls, static_argnames="command_kind")
DRIVE = jax.jit(jax.vmap(vehicle.drive_acceleration, (None, 0, 0, None)), static_argnums=3)


def single_track(twist, command, dt=0.05, actuators=None, car=MUSHR, kind="velocity", substeps=5):
    command = jnp.asarray(command, jnp.float32)
    actuators = command if actuators is None else jnp.asarray(actuators, jnp.float32)
    twist = jnp.asarray(twist, jnp.float32)
    return STEP(car.single_track, twist, command, dt, actuators, kind, substeps=substeps)


def kinematic(twist, acceleration, steering, dt=0.1, k=1.0, car=MUSHR):
    twist = jnp.asarray(twist, jnp.float32)
    return KINEMATIC(
        car.kinematic, twist, jnp.float32(acceleration), jnp.float32(steering), dt, jnp.float32(k)
    )


# Kinematic bicycle


def test_a_steady_turn_by_hand():
    """L 0.2965, arm 0.158, v 1, steering 0.2; a second of it moves the tracked point along an arc.

    The pose is that of the tracked point, so the arc starts at its slip angle.
    """
    twist = kinematic((1.0, 0.0, 0.0), 0.0, 0.2)
    np.testing.assert_allclose(twist, [1.0, 0.10802, 0.68368], atol=5e-6)
    expected = [0.88839, 0.42853, 0.68368]
    np.testing.assert_allclose(se2.exp(twist, 1.0), expected, atol=5e-6)


def test_one_kinematic_step_with_partial_grip_by_hand():
    """v⁺ = 1.2, w⁺ = 0.3 + (1.2 tan(.1)/.2965 - 0.3)/2, vy⁺ = l w⁺ + (0.2 - 0.3 l)/2."""
    twist = kinematic((1.0, 0.2, 0.3), 2.0, 0.1, k=0.5)
    w = 0.3 + 0.5 * (1.2 * math.tan(0.1) / 0.2965 - 0.3)
    expected = [1.2, 0.158 * w + 0.5 * (0.2 - 0.158 * 0.3), w]
    np.testing.assert_allclose(twist, expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1.0, 0.4])
def test_the_mirrored_kinematic_car_goes_the_mirrored_way_exactly(k):
    mirror = np.array([1, -1, -1], np.float32)
    twist = np.array([1.3, -0.2, 0.7], np.float32)
    there = kinematic(twist, 1.1, 0.23, k=k)
    np.testing.assert_array_equal(kinematic(mirror * twist, 1.1, -0.23, k=k), mirror * there)


def test_no_direction_of_travel_is_taken_from_the_sign_of_the_acceleration():
    """A car at 0.5 m/s that is braked by 0.001 m/s² goes on at 0.4999 m/s, and turns as before."""
    for acceleration in (-1e-3, 0.0, 1e-3):
        twist = kinematic((0.5, 0.0, 0.0), acceleration, 0.2)
        np.testing.assert_allclose(twist[0], 0.5 + 0.1 * acceleration, rtol=1e-6)
        np.testing.assert_allclose(twist[2], twist[0] * math.tan(0.2) / 0.2965, rtol=1e-6)


def test_controls_start_as_the_fitted_plant_and_stay_within_their_bounds():
    twist, small = jnp.asarray([1.0, 0.0, 0.0]), jnp.asarray([1.002, 0.01])
    acceleration, steering = CONTROLS(MUSHR.kinematic, twist, small)
    np.testing.assert_allclose(acceleration, 0.02, rtol=1e-4)
    np.testing.assert_allclose(steering, 0.01, rtol=1e-4)
    pushed = CONTROLS(MUSHR.kinematic, twist, small, correction=jnp.asarray([1e3, -1e3]))
    np.testing.assert_allclose(pushed, (12.0, -0.6), rtol=1e-6)
    _, trimmed = CONTROLS(DART.kinematic, twist, jnp.zeros(2), "throttle")
    np.testing.assert_allclose(trimmed, 0.6 * math.tanh(-0.014 / 0.6), rtol=1e-5)


# Drive


def test_throttle_and_velocity_drives_by_hand():
    drive = vehicle.Drive(tau_v=0.2, c1=10.0, c2=2.0, u0=0.1, beta=20.0, r0=0.5, r1=0.3, r2=0.05)
    speed, throttle = np.array([-1.0, 0.0, 0.5, 2.0]), np.array([0.5, -0.8, 0.2, 1.0])
    opening = np.log1p(np.exp(20.0 * (throttle - 0.1))) / 20.0
    drag = 0.5 * np.tanh(5 * speed) + 0.3 * speed + 0.05 * speed * abs(speed)
    found = DRIVE(drive, jnp.asarray(speed), jnp.asarray(throttle), "throttle")
    np.testing.assert_allclose(found, (10.0 - 2.0 * speed) * opening - drag, rtol=1e-5, atol=1e-6)
    wanted = DRIVE(drive, jnp.asarray(speed), jnp.asarray(throttle), "velocity")
    np.testing.assert_allclose(wanted, 5.0 * (throttle - speed), rtol=1e-6)


def test_the_implicit_part_of_the_drive_is_its_slope_where_the_car_moves():
    for kind in vehicle.COMMAND_KINDS:
        for speed in (-2.0, 0.7, 3.0):
            speed, command = jnp.float32(speed), jnp.float32(0.4)
            _, slope = vehicle._drive_and_slope(DART.single_track.drive, speed, command, kind)
            exact = jax.grad(vehicle.drive_acceleration, 1)(
                DART.single_track.drive, speed, command, kind
            )
            np.testing.assert_allclose(slope, exact, rtol=1e-5)
            assert slope < 0


def test_actuators_go_an_exact_share_of_the_way_so_halves_make_a_whole():
    car, start = MUSHR.single_track, jnp.asarray([1.0, -0.1])
    command = jnp.asarray([2.0, 0.3])
    whole = vehicle.actuator_lag(car, start, command, 0.06)
    expected = [2.0 - math.exp(-1.0), 0.3 - 0.4 * math.exp(-1.5)]
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    half = vehicle.actuator_lag(car, start, command, 0.03)
    np.testing.assert_allclose(vehicle.actuator_lag(car, half, command, 0.03), whole, rtol=1e-6)
    _, stepped = single_track((1.0, 0.0, 0.0), command, 0.06, start)
    np.testing.assert_allclose(stepped, whole, rtol=1e-6)


# Single track


def field(velocity, drive, steering, car):
    """The equations of motion at the centre of mass, written for the reader in float64."""
    vx, vy, w = velocity

    def grip(tyre, load, lateral, along):
        along = abs(along) if abs(along) > 0.4 else 0.2 + along**2 / 0.8
        slip = tyre.stiffness * math.atan2(lateral, along)
        return -tyre.peak * load * math.sin(tyre.shape * math.atan(slip))

    sin, cos, base = math.sin(steering), math.cos(steering), car.front + car.rear
    front_y = vy + car.front * w
    lateral, along = cos * front_y - sin * vx, cos * vx + sin * front_y
    front = grip(car.front_tyre, car.mass * 9.81 * car.rear / base, lateral, along)
    rear = grip(car.rear_tyre, car.mass * 9.81 * car.front / base, vy - car.rear * w, vx)
    return np.array(
        [
            (drive - vx) / car.drive.tau_v + w * vy - front * sin / car.mass,
            -w * vx + (front * cos + rear) / car.mass,
            (car.front * front * cos - car.rear * rear) / car.yaw_inertia,
        ]
    )


def explicit(twist, command, dt, actuators, steps, car=MUSHR.single_track):
    """Midpoint rule with exact actuators."""
    ahead, h = car.arm - car.rear, dt / steps
    velocity = np.array([twist[0], twist[1] - ahead * twist[2], twist[2]])
    command, actuators = np.array(command), np.array(actuators)
    tau = np.array([car.tau_drive, car.tau_steer])
    for k in range(steps):
        held = [command + (actuators - command) * np.exp(-(k + s) * h / tau) for s in (0.0, 0.5)]
        half = velocity + 0.5 * h * field(velocity, *held[0], car)
        velocity = velocity + h * field(half, *held[1], car)
    return np.array([velocity[0], velocity[1] + ahead * velocity[2], velocity[2]])


def test_more_substeps_converge_to_a_fine_explicit_reference_at_first_order():
    """A lane change at 2 m/s from a state that slips; 0.05 s."""
    case = ((2.0, 0.1, 0.6), (2.4, 0.3), 0.05, (2.0, 0.05))
    reference = explicit(*case, steps=2000)
    counts = np.array([4, 8, 16, 32])
    errors = [np.abs(single_track(*case, substeps=int(n))[0] - reference).max() for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    np.testing.assert_allclose(slope, 1.0, atol=0.15)
    assert errors[-1] < 0.02


def drive_on(twist, command, dt, count, **options):
    """Repeat a command until the actuators and, if it is stable, the car have settled."""
    path = [np.asarray(twist, np.float32)]
    actuators = command
    for _ in range(count):
        twist, actuators = single_track(path[-1], command, dt, actuators, **options)
        path.append(np.asarray(twist))
    return np.stack(path)


@pytest.mark.parametrize("dt", [0.05, 0.1])
@pytest.mark.parametrize("speed", [0.3, 1.0])
def test_stiff_tyres_are_stable_at_low_speed_without_substeps(speed, dt):
    """Explicit steps would need dt below 3.5 ms at 0.3 m/s and 12 ms at 1 m/s."""
    path = drive_on((speed, 0.3, -2.0), (speed, 0.2), dt, 30, substeps=1)
    expected = speed * math.tan(0.2) / 0.2965
    np.testing.assert_allclose(path[-1][2], expected, rtol=0.01)
    assert np.abs(path[15:, 2] - path[-1][2]).max() < 1e-3
    assert np.abs(path[:, 2]).max() < 2.5


def test_explicit_steps_of_that_size_do_not_settle():
    """The counterpart of the test above: 3 s at 0.05 s and at 2.5 ms a step."""
    case = ((1.0, 0.0, 0.0), (1.0, 0.2), 3.0, (1.0, 0.2))
    long, short = (explicit(*case, steps=steps)[2] for steps in (60, 1200))
    steady = math.tan(0.2) / 0.2965
    assert abs(short - steady) < 0.01 * steady
    assert abs(long - steady) > 0.1 * steady


def test_steady_motions_do_not_depend_on_the_step_and_satisfy_the_equations():
    """At 3 m/s and full steering the tyres slide: a_y within mu g, far from the kinematic turn."""
    car, last = MUSHR.single_track, []
    for dt, substeps, count in ((0.1, 1, 60), (0.05, 5, 80)):
        last.append(drive_on((3.0, 0.0, 0.0), (3.0, 0.38), dt, count, substeps=substeps)[-1])
    np.testing.assert_allclose(last[0], last[1], rtol=1e-4)
    vx, vy, w = last[1].astype(np.float64)
    rates = field((vx, vy - (car.arm - car.rear) * w, w), 3.0, 0.38, car)
    np.testing.assert_allclose(rates, 0.0, atol=0.01)
    assert 6.5 < vx * w < 0.8 * 9.81
    assert w < 0.7 * vx * math.tan(0.38) / 0.2965


@pytest.mark.parametrize("speed", [-0.2, 0.1, 0.2])
def test_below_the_blend_the_single_track_is_the_kinematic_car(speed):
    twist, _ = single_track((speed, 0.05, -0.5), (speed, 0.25), 0.1)
    w = speed * math.tan(0.25) / 0.2965
    np.testing.assert_allclose(twist, [speed, 0.158 * w, w], rtol=1e-4)


@pytest.mark.parametrize("speed", [0.3, 2.0])
def test_the_mirrored_single_track_goes_the_mirrored_way_exactly(speed):
    mirror = np.array([1, -1, -1], np.float32)
    twist = np.array([speed, -0.2, 0.7], np.float32)
    there, _ = single_track(twist, (speed + 0.5, 0.3), 0.1, (speed, -0.1))
    back, _ = single_track(mirror * twist, (speed + 0.5, -0.3), 0.1, (speed, 0.1))
    np.testing.assert_array_equal(back, mirror * there)


def test_where_the_tracked_point_lies_does_not_change_how_the_car_moves():
    """The rear axle and the nose of one car, started alike, keep vy apart by their distance w."""
    rear, nose = (eqx.tree_at(lambda v: v.single_track.arm, MUSHR, arm) for arm in (0.0, 0.3))
    first, _ = single_track((2.0, -0.1, 0.8), (2.0, 0.3), car=rear)
    second, _ = single_track((2.0, -0.1 + 0.3 * 0.8, 0.8), (2.0, 0.3), car=nose)
    np.testing.assert_allclose(second[jnp.array([0, 2])], first[jnp.array([0, 2])], rtol=1e-5)
    np.testing.assert_allclose(second[1], first[1] + 0.3 * first[2], rtol=1e-5)


def test_tyres_never_add_energy_to_a_spinning_car_whatever_the_step():
    """Nearly no drive, wheels turned, sideways, spinning; 0.2 s at once."""
    idle = eqx.tree_at(lambda v: v.single_track.drive.tau_v, MUSHR, 1e6)
    weights = np.array([5.8, 5.8, 0.12])
    ahead = MUSHR.single_track.arm - MUSHR.single_track.rear
    for twist in ((2.0, 3.0, 6.0), (0.5, -2.0, 4.0), (-2.0, 1.0, -3.0)):
        path = drive_on(twist, (0.0, 0.35), 0.2, 10, car=idle, substeps=5)
        path[:, 1] -= ahead * path[:, 2]
        energy = 0.5 * (weights * path**2).sum(axis=1)
        assert (energy[1:] <= energy[:-1] * (1 + 1e-5)).all()


# Smoothness


def kinematic_map(x, kind, car):
    controls = vehicle.kinematic_controls(car.kinematic, x[:3], x[3:5], kind)
    return vehicle.kinematic_step(car.kinematic, x[:3], *controls, 0.05, k=0.7)


def single_track_map(x, kind, car):
    return vehicle.single_track_step(car.single_track, x[:3], x[3:5], 0.05, x[5:], kind)[0]


@functools.cache
def jacobians(plant, kind):
    heavy_air = eqx.tree_at(lambda v: v.single_track.drive.r2, DART, 2.0)
    car = MUSHR if kind == "velocity" else heavy_air
    return jax.jit(jax.vmap(jax.jacfwd(lambda x: plant(x, kind, car))))


@pytest.mark.parametrize("kind", vehicle.COMMAND_KINDS)
@pytest.mark.parametrize("plant", [kinematic_map, single_track_map])
def test_step_is_continuous_through_zero_acceleration_and_speed(plant, kind):
    """Its Jacobian in state, command and actuators is finite and does not jump.

    Rows are (vx, vy, w, drive, steering, drive and steering of the actuators). A kink would leave
    a jump that halving the distance does not halve.
    """
    zero, origin = np.zeros(7, np.float32), np.array([0, 0, 0, 0, 0.2, 0, 0.1], np.float32)
    coasting = np.array([0.5, 0, 0.3, 0.5, 0.2, 0.5, 0.2], np.float32)
    backing = np.array([-1.0, 0.1, 0.3, -1.0, -0.2, -0.5, 0.2], np.float32)
    edge = np.array([0.4, 0.6, 0.0, 0.4, 0.0, 0.4, 0.0], np.float32)
    centres = np.stack([zero, origin, coasting, backing, edge])
    nudges = np.eye(7, dtype=np.float32)
    jacobian = jacobians(plant, kind)

    def jump(size):
        sides = [(centres[:, None] + s * size * nudges).reshape(-1, 7) for s in (1, -1)]
        above, below = (np.asarray(jacobian(side)) for side in sides)
        assert np.isfinite(above).all()
        return np.abs(above - below).reshape(len(centres), -1).max(axis=1)

    coarse, fine = jump(1e-3), jump(2.5e-4)
    assert (fine < 0.35 * coarse + 2e-3 * np.maximum(coarse, 1)).all(), (coarse, fine)


def rollout_loss(free, twist, commands, dt):
    car = vehicle.from_unconstrained(free)

    def advance(carry, command):
        following, actuators = vehicle.single_track_step(
            car, carry[0], command, dt, carry[1], "throttle"
        )
        return (following, actuators), following

    _, path = jax.lax.scan(advance, (twist, commands[0]), commands)
    return jnp.mean(path**2)


def test_gradients_of_a_rollout_are_finite_everywhere_and_reach_every_parameter_in_use():
    """20 steps from standstill, in reverse, and at speed; ``tau_v`` is not used by a throttle."""
    free = vehicle.to_unconstrained(DART.single_track)
    gradient = jax.jit(jax.grad(rollout_loss, argnums=(0, 1, 2)))
    commands = jnp.stack([jnp.linspace(0.6, 0.2, 20), jnp.linspace(0.4, -0.7, 20)], axis=1)
    for twist in ((0.0, 0.0, 0.0), (-1.5, 0.2, -0.4), (2.5, 0.1, 1.0)):
        found = gradient(free, jnp.asarray(twist), commands, jnp.float32(0.05))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    parameters = eqx.tree_at(lambda g: g.drive.tau_v, found[0], jnp.float32(1.0))
    assert all(np.abs(leaf) > 1e-7 for leaf in jax.tree.leaves(parameters))
    standing = gradient(free, jnp.zeros(3), jnp.zeros((20, 2)), jnp.float32(0.05))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(standing))


# Parameters


@pytest.mark.parametrize("car", [MUSHR, DART], ids=["mushr", "dart"])
def test_unconstrained_parameters_come_back_and_any_number_is_legal(car):
    for params in (car.kinematic, car.single_track):
        free = vehicle.to_unconstrained(params)
        back = vehicle.from_unconstrained(free)
        for found, expected in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-6)
        low = vehicle.from_unconstrained(jax.tree.map(lambda x: x - 5.0, free))
        high = vehicle.from_unconstrained(jax.tree.map(lambda x: x + 5.0, free))
        assert float(low.drive.c1) > 0
        assert float(low.steering_trim) < -4.9
    assert float(high.front_tyre.shape) < 2.0


def test_the_cars_are_as_published():
    for car, wheelbase, arm, mass in ((MUSHR, 0.2965, 0.158, 5.80), (DART, 0.1735, 0.115, 1.58)):
        assert (car.kinematic.wheelbase, car.kinematic.arm) == (wheelbase, arm)
        assert (car.single_track.mass, car.single_track.arm) == (mass, arm)
        np.testing.assert_allclose(car.single_track.front + car.single_track.rear, wheelbase)
    tyre = MUSHR.single_track.front_tyre
    np.testing.assert_allclose(tyre.stiffness * tyre.shape * tyre.peak * 9.81, 173.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vehicle.Tyre(10.0, 2.5, 0.8), r"Tyre.shape must be in \(0.0, 2\), got 2.5"),
        (lambda: vehicle.Tyre(-1.0, 1.5, 0.8), r"Tyre.stiffness must be .* got -1.0"),
        (lambda: vehicle.Tyre(10.0, 1.5, math.nan), r"Tyre.peak must be .* got nan"),
        (lambda: single_track((1.0, 0, 0), (1.0, 0), substeps=0), "at least 1, got 0"),
        (
            lambda: single_track((1.0, 0, 0), (1.0, 0), kind="torque"),
            "'velocity', 'throttle', got 'torque'",
        ),
    ],
)
def test_bad_input_is_refused_with_the_rule_and_the_value(build, message):
    with pytest.raises(ValueError, match=message):
        build()
