"""The MJCF against the numbers that the car was made from."""

import dataclasses
import math

import numpy as np
import pytest

from steelyard.envs.car.generate import simulate
from steelyard.envs.car.scene import MUSHR, compile_car
from steelyard.envs.car.sets import CarDraw, CarRecording

mujoco = pytest.importorskip("mujoco")


def drive(*cases: tuple[float, float, float], steps: int = 30, car=MUSHR) -> list[CarRecording]:
    """One recording per (speed, steering, friction), each held."""
    draws = [
        CarDraw(
            np.tile([speed, steering], (steps, 1)), friction, "constant", np.zeros((steps + 1, 3))
        )
        for speed, steering, friction in cases
    ]
    return simulate(draws, 0.1, car=car)


def test_car_weighs_5_80_kg():
    assert compile_car(0.8).body("base").subtreemass[0] == pytest.approx(5.80, abs=0.001)


@pytest.mark.parametrize("friction", [0.3, 0.8])
def test_friction_of_the_contact_is_the_number_asked_for_and_condim_3(friction):
    model = compile_car(friction)
    data = mujoco.MjData(model)
    for _ in range(200):
        mujoco.mj_step(model, data)
    assert data.ncon == 4
    np.testing.assert_allclose(data.contact.friction[:, :2], friction)
    np.testing.assert_array_equal(data.contact.dim, 3)


def test_friction_of_one_model_leaves_the_others():
    grippy, slippery = compile_car(0.9), compile_car(0.3)
    assert grippy.geom("rear_left").friction[0] == 0.9
    assert slippery.geom("rear_left").friction[0] == 0.3


def test_geometry_is_the_published_one():
    model = compile_car(0.8)
    assert MUSHR.wheelbase == pytest.approx(0.2965)
    assert MUSHR.ackermann == pytest.approx(0.38786, abs=1e-5)
    assert model.body("front_left").pos[:2] == pytest.approx([0.1385, 0.115])
    assert model.body("rear_right").pos[:2] == pytest.approx([-0.158, -0.115])
    assert model.jnt("steering").range == pytest.approx([-0.38, 0.38])


def test_wheels_steer_by_ackermann_within_1_3_mrad():
    model = compile_car(0.8)
    link = np.linspace(-0.38, 0.38, 201)
    for wheel, side in (("left", 1.0), ("right", -1.0)):
        exact = np.arctan(np.tan(link) / (1.0 - side * MUSHR.ackermann * np.tan(link)))
        row = [
            i
            for i in range(model.neq)
            if model.eq_obj1id[i] == model.jnt(f"front_{wheel}_steer").id
        ]
        series = np.polynomial.polynomial.polyval(link, model.eq_data[row[0], :5])
        assert np.abs(series - exact).max() < 1.3e-3
    np.testing.assert_allclose(model.eq_data[0, :5], [0, 1, 0.38786, 0.15043, -0.07094], atol=1e-5)
    np.testing.assert_allclose(model.eq_data[1, :5], [0, 1, -0.38786, 0.15043, 0.07094], atol=1e-5)


def test_slow_car_turns_as_the_kinematic_bicycle():
    for recording in drive((1.0, 0.2, 0.8), (0.5, -0.3, 0.8), (-0.5, 0.2, 0.8)):
        speed, sideways, rate = recording.twist[-1]
        kinematic = speed * math.tan(recording.command[0, 1]) / MUSHR.wheelbase
        assert rate == pytest.approx(kinematic, rel=0.02)
        assert sideways == pytest.approx(MUSHR.rear_axle * rate, rel=0.05)


def test_command_is_metres_per_second():
    for recording in drive((0.6, 0.0, 0.8), (3.0, 0.0, 0.8), (-2.0, 0.0, 0.8), (1.0, 0.2, 0.8)):
        assert recording.twist[-1, 0] == pytest.approx(recording.command[0, 0], rel=0.015)


def test_low_grip_saturates_at_the_friction_circle():
    grip, slip = drive((3.0, 0.38, 0.8), (3.0, 0.38, 0.3))

    def lateral_acceleration(recording):
        speed, sideways, rate = recording.twist[10:31].T
        return np.mean(rate * speed) + (sideways[-1] - sideways[0]) / 2.0

    assert 2.6 <= lateral_acceleration(slip) <= 2.95
    assert 7.0 <= lateral_acceleration(grip) <= 7.85
    assert grip.twist[-1, 2] == pytest.approx(2.69, rel=0.1)


def test_halving_the_time_step_moves_the_car_by_less_than_5_mm_in_1_s():
    rng = np.random.default_rng(0)
    cases = [
        (1.0, 0.2, 0.8),
        *((v, d, 0.8) for v, d in rng.uniform([-3, -0.38], [3, 0.38], (8, 2))),
    ]
    coarse = drive(*cases, steps=10)
    fine = drive(*cases, steps=10, car=dataclasses.replace(MUSHR, timestep=0.001))
    moved = [
        np.linalg.norm(a.pose[-1, :2] - b.pose[-1, :2]) for a, b in zip(coarse, fine, strict=True)
    ]
    assert moved[0] < 0.002
    assert np.median(moved) < 0.005


def test_left_and_right_are_mirror_images():
    left, right = drive((1.5, 0.3, 0.8), (1.5, -0.3, 0.8))
    np.testing.assert_allclose(left.twist, right.twist * [1, -1, -1], atol=1e-6)
    np.testing.assert_allclose(left.pose, right.pose * [1, -1, -1], atol=1e-6)


def test_pose_is_the_integral_of_the_twist_at_the_physics_rate():
    draw = CarDraw(np.tile([2.0, 0.3], (1000, 1)), 0.8, "constant", np.zeros((1001, 3)))
    recording = simulate([draw], 0.002)[0]
    heading = recording.pose[:, 2]
    vx, vy, rate = recording.twist.T
    velocity = np.stack(
        [
            np.cos(heading) * vx - np.sin(heading) * vy,
            np.sin(heading) * vx + np.cos(heading) * vy,
            rate,
        ]
    )
    integral = (0.001 * (velocity[:, 1:] + velocity[:, :-1])).sum(axis=1)
    np.testing.assert_allclose(integral, recording.pose[-1] - recording.pose[0], atol=5e-3)
    assert recording.pose[-1, 2] > 2.0


@pytest.mark.parametrize("friction", [0.0, -0.1, math.inf, math.nan])
def test_friction_that_is_not_positive_and_finite_is_refused(friction):
    with pytest.raises(ValueError, match=f"positive and finite: got {friction}"):
        compile_car(friction)


def test_control_step_that_is_no_multiple_of_the_time_step_is_refused():
    draw = CarDraw(np.zeros((2, 2)), 0.8, "constant", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"multiple of the time step: got 0\.0333 s with 0\.002 s"):
        simulate([draw], 0.0333)
