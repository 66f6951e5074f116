"""The car with known parameters: same commands, exact motion, agreement with the simulated one."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.envs.car.sets import CAR_SETS, CarSet
from steelyard.envs.car.single_track import generate_single_track, with_friction
from steelyard.numerics.vehicle import MUSHR, single_track_step

CONSTANT = CarSet(
    "constant", (0.3, 0.6), laws={"constant": 1.0}, friction=(0.8, 0.8), rare_share=0.0, steps=20
)


@pytest.fixture(scope="module")
def recordings():
    return generate_single_track("mixed", 24, 0)


def test_commands_friction_and_kinds_are_those_of_the_set(recordings):
    for index, recording in enumerate(recordings):
        draw = CAR_SETS["mixed"].draw(0, index)
        np.testing.assert_array_equal(recording.command, draw.command)
        assert (recording.friction, recording.kind) == (draw.friction, draw.kind)
        assert recording.twist.shape == recording.pose.shape == (101, 3)
        assert not recording.terminated


def test_car_starts_at_rest_and_moves_finitely(recordings):
    twist = np.stack([recording.twist for recording in recordings])
    assert (twist[:, 0] == 0.0).all()
    assert np.isfinite(twist).all()
    assert 2.0 < np.abs(twist[..., 0]).max() < 3.3


def test_a_trajectory_does_not_depend_on_the_count():
    few, many = (generate_single_track(CONSTANT, count, 0) for count in (1, 5))
    np.testing.assert_allclose(few[0].twist, many[0].twist, atol=1e-5)
    np.testing.assert_array_equal(few[0].command, many[0].command)


def test_slow_steady_turn_is_the_kinematic_one():
    for recording in generate_single_track(CONSTANT, 5, 0):
        vx, vy, rate = recording.twist[-1]
        speed, steering = recording.command[-1]
        assert vx == pytest.approx(speed, rel=0.02)
        assert rate == pytest.approx(vx * np.tan(steering) / 0.2965, rel=0.02)
        assert vy == pytest.approx(0.158 * rate, rel=0.05)


def test_lateral_acceleration_stays_within_the_tyres_grip(recordings):
    for recording in recordings:
        fast = np.abs(recording.twist[:, 0]) > 0.8
        lateral = np.gradient(recording.twist[:, 1], 0.1) + recording.twist.prod(
            axis=1, where=[True, False, True]
        )
        assert np.abs(lateral[fast]).max(initial=0.0) < 13.0 * recording.friction


def test_other_parameters_give_another_car():
    slow = eqx.tree_at(lambda car: car.tau_steer, MUSHR.single_track, 0.3)
    quick = generate_single_track(CONSTANT, 1, 0)[0]
    lagging = generate_single_track(CONSTANT, 1, 0, parameters=slow)[0]
    assert np.abs(lagging.twist[3, 2]) < 0.9 * np.abs(quick.twist[3, 2])


def test_a_model_with_the_same_substeps_predicts_the_recording():
    recording = generate_single_track(CONSTANT, 1, 0, substeps=4)[0]
    car = with_friction(MUSHR.single_track, recording.friction)
    twist, actuators = jnp.zeros(3), jnp.zeros(2)
    predict = eqx.filter_jit(functools.partial(single_track_step, substeps=4))
    for step in range(5):
        command = jnp.asarray(recording.command[step], jnp.float32)
        twist, actuators = predict(car, twist, command, jnp.float32(0.1), actuators)
        np.testing.assert_allclose(twist, recording.twist[step + 1], atol=1e-5)


def test_simulated_car_of_the_same_commands_drives_alike():
    pytest.importorskip("mujoco")
    from steelyard.envs.car.generate import generate

    for exact, simulated in zip(
        generate_single_track(CONSTANT, 5, 0), generate(CONSTANT, 5, 0), strict=True
    ):
        assert np.linalg.norm(exact.pose[-1, :2] - simulated.pose[-1, :2]) < 0.06


def test_bad_request_is_refused():
    with pytest.raises(ValueError, match="no car set is named 'slow'"):
        generate_single_track("slow", 1, 0)
    with pytest.raises(ValueError, match="at least 1 trajectory: got 0"):
        generate_single_track("mixed", 0, 0)
    with pytest.raises(ValueError, match="substeps is at least 1: got 0"):
        generate_single_track("mixed", 1, 0, substeps=0)
