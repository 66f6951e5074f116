"""SE(2): by hand, against float64 arcs, and by measured orders of convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.numerics import se2

BATCH_EXP = jax.jit(jax.vmap(se2.exp))
INTEGRATE = jax.jit(se2.integrate, static_argnums=3)


def exact_arc(twist, dt):
    """The textbook form, in float64, where it loses little for |a| > 1e-6."""
    vx, vy, w = np.asarray(twist, np.float64)
    a = w * dt
    s, c = np.sin(a) / a, 2.0 * np.sin(a / 2) ** 2 / a
    return np.array([(s * vx - c * vy) * dt, (c * vx + s * vy) * dt, a])


def moved(pose, motion):
    """A rigid motion of the world applied to poses, written out independently."""
    angle = motion[2]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = np.asarray(pose, np.float64)
    return np.concatenate([pose[..., :2] @ turn.T + motion[:2], pose[..., 2:] + angle], axis=-1)


@pytest.mark.parametrize(
    ("twist", "expected"),
    [
        ((1.0, 0.2, 0.5), (0.90988, 0.43661, 0.5)),
        ((1.0, 0.0, np.pi / 2), (0.63662, 0.63662, np.pi / 2)),
        ((1.0, 0.0, -np.pi / 2), (0.63662, -0.63662, -np.pi / 2)),
        ((1.0, -0.5, 0.0), (1.0, -0.5, 0.0)),
    ],
)
def test_one_second_of_a_twist_by_hand(twist, expected):
    np.testing.assert_allclose(se2.exp(jnp.asarray(twist), 1.0), expected, atol=5e-6)


def test_float32_relative_error_is_at_most_1e_6_from_tiny_to_large_yaw_rates():
    rates = np.geomspace(1e-6, 1.0, 400).astype(np.float32)
    for vx, vy in ((1.0, 0.0), (0.0, 1.0)):
        twists = np.stack([np.full_like(rates, vx), np.full_like(rates, vy), rates], 1)
        found = BATCH_EXP(twists, np.ones_like(rates))
        exact = np.stack([exact_arc(twist, 1.0) for twist in twists])
        np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_value_and_every_derivative_are_finite_and_right_at_zero_yaw_rate():
    """To first order in w: dx = vx - vy w/2, dy = vy + vx w/2."""
    twist = jnp.asarray([2.0, -0.5, 0.0])
    np.testing.assert_allclose(se2.exp(twist, 1.0), twist)
    jacobian = jax.jacrev(se2.exp)(twist, 1.0)
    np.testing.assert_allclose(jacobian, [[1, 0, 0.25], [0, 1, 1.0], [0, 0, 1]], atol=1e-7)
    assert np.isfinite(jax.hessian(se2.exp)(twist, 1.0)).all()
    np.testing.assert_allclose(jax.jacfwd(se2.exp, argnums=1)(twist, 0.0), twist)


def test_taylor_and_closed_form_meet_where_they_change_over():
    rates = jnp.asarray([0.00999999, 0.01000001])
    twists = jnp.stack([jnp.ones(2), jnp.full(2, 0.3), rates], 1)
    below, above = BATCH_EXP(twists, jnp.ones(2))
    np.testing.assert_allclose(below[:2], above[:2], atol=3e-7)
    slopes = jax.vmap(jax.jacfwd(se2.exp))(twists, jnp.ones(2))
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-5)


def test_relative_undoes_compose_and_headings_are_not_wrapped():
    pose, delta = jnp.asarray([3.0, -2.0, 7.0]), jnp.asarray([0.5, 0.25, 9.0])
    there = se2.compose(pose, delta)
    np.testing.assert_allclose(there[2], 16.0)
    np.testing.assert_allclose(se2.relative(pose, there), delta, rtol=2e-6)
    quarter = se2.compose(jnp.asarray([1.0, 1.0, np.pi / 2]), jnp.asarray([2.0, 1.0, 0.0]))
    np.testing.assert_allclose(quarter[:2], [0.0, 3.0], atol=1e-6)


def test_heading_errors_count_no_whole_turns():
    headings, references = jnp.asarray([0.1, 3.1, -3.1, 7.0]), jnp.asarray([0.3, -3.1, 3.1, 0.7])
    turn = 2 * np.pi
    expected = [-0.2, 6.2 - turn, turn - 6.2, 6.3 - turn]
    np.testing.assert_allclose(se2.heading_error(headings, references), expected, atol=1e-6)


def test_a_rigid_motion_of_the_world_changes_no_error_and_no_step():
    rng = np.random.default_rng(0)
    poses, references = rng.normal(size=(2, 20, 3)).astype(np.float32)
    motion = np.array([1.5, -2.0, 2.2])
    error, step = jax.vmap(se2.pose_error), jax.vmap(se2.relative)
    before = error(poses, references), step(poses, references)
    poses, references = (moved(p, motion).astype(np.float32) for p in (poses, references))
    np.testing.assert_allclose(error(poses, references), before[0], atol=3e-6)
    np.testing.assert_allclose(step(poses, references), before[1], atol=3e-6)


def test_a_pose_error_is_ahead_and_left_of_the_reference_by_hand():
    """Looking along +y from (1, 1): a point at (0, 3) is 2 ahead and 1 to the left."""
    error = se2.pose_error(jnp.asarray([0.0, 3.0, 0.1]), jnp.asarray([1.0, 1.0, np.pi / 2]))
    np.testing.assert_allclose(error, [2.0, 1.0, 0.1 - np.pi / 2], atol=1e-6)


@pytest.mark.parametrize("integrator", se2.INTEGRATORS)
def test_integration_is_step_by_step_composition_from_any_start(integrator):
    rng = np.random.default_rng(1)
    twists = rng.normal(size=(9, 3)).astype(np.float32)
    dt = rng.uniform(0.02, 0.3, 8).astype(np.float32)
    pose = jnp.asarray([4.0, -1.0, 2.5])
    found = INTEGRATE(pose, twists, dt, integrator)
    steps = (twists[:-1] + twists[1:]) / 2 if integrator == "trapezoid" else twists[1:]
    np.testing.assert_array_equal(found[0], pose)
    for k, delta in enumerate(BATCH_EXP(steps, dt)):
        pose = se2.compose(pose, delta)
        np.testing.assert_allclose(found[k + 1], pose, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("integrator", "order"), [("trapezoid", 2.0), ("next", 1.0)])
def test_each_integrator_converges_at_its_order(integrator, order):
    """Poses x = 2 sin t, y = 1 - cos 1.5t, theta = 0.7 sin 2t, whose twists are known exactly."""
    errors = []
    counts = np.array([10, 20, 40, 80])
    for count in counts:
        t = np.linspace(0.0, 2.0, count + 1)
        theta, rate = 0.7 * np.sin(2 * t), 1.4 * np.cos(2 * t)
        x_rate, y_rate = 2 * np.cos(t), 1.5 * np.sin(1.5 * t)
        ahead = np.cos(theta) * x_rate + np.sin(theta) * y_rate
        left = -np.sin(theta) * x_rate + np.cos(theta) * y_rate
        twists = np.stack([ahead, left, rate], 1).astype(np.float32)
        dt = np.full(count, 2.0 / count, np.float32)
        last = INTEGRATE(jnp.zeros(3), twists, dt, integrator)[-1]
        exact = [2 * np.sin(2.0), 1 - np.cos(3.0), 0.7 * np.sin(4.0)]
        errors.append(np.linalg.norm(last - np.asarray(exact)))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    np.testing.assert_allclose(slope, order, atol=0.1)


def test_gradients_through_the_poses_of_a_standing_car_are_finite_and_not_zero():
    def distance(twists):
        return jnp.sum(INTEGRATE(jnp.zeros(3), twists, jnp.full(3, 0.1), "trapezoid")[:, :2])

    gradient = jax.grad(distance)(jnp.zeros((4, 3)))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient[:, :2]) > 0.01).all()


def test_bad_input_is_refused_with_the_rule_and_the_value():
    twists, dt = jnp.zeros((3, 3)), jnp.ones(2)
    with pytest.raises(ValueError, match=r"'trapezoid', 'next', got 'trapezoidal'; did you mean"):
        se2.integrate(jnp.zeros(3), twists, dt, "trapezoidal")
    with pytest.raises(ValueError, match=r"one state more than dt has steps, got 3 .* and 3"):
        se2.integrate(jnp.zeros(3), twists, jnp.ones(3))
