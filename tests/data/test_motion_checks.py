"""Clocks, local fits and the meaning of recorded velocities, against exact motion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_examples import circle, in_world

from steelyard.data.clock import check_time, fit_uniform_clock
from steelyard.data.findings import DatasetError
from steelyard.data.motion_checks import (
    Motion,
    Reading,
    apply_reading,
    check_command_order,
    check_moves,
    check_yaw_unit,
    find_reading,
    misses,
)
from steelyard.data.smoothing import local_quadratic

TIME, POSE, TWIST = circle()
DT = np.diff(TIME)
SCALE = {"degrees": 180 / np.pi, "radians": 1.0}


def recorded(frame="body", swapped=False, unit="radians", yaw_rate=0.8):
    """A circle as a file might hold it."""
    time, pose, twist = circle(yaw_rate=yaw_rate)
    velocity = in_world(pose, twist) if frame == "world" else np.array(twist)
    if swapped:
        velocity = velocity[:, [1, 0, 2]]
    velocity[:, 2] *= SCALE[unit]
    pose = np.column_stack([pose[:, :2], pose[:, 2] * SCALE[unit]])
    return Motion("run.txt", pose, velocity, np.diff(time))


@pytest.mark.parametrize("frame", ["body", "world"])
def test_the_frame_of_velocities_is_found_and_undone(frame):
    motion = recorded(frame)
    reading, missed = find_reading([motion])
    assert reading == Reading(frame)
    assert missed.position < 1e-3
    pose, twist = apply_reading(reading, motion.pose, motion.velocity)
    np.testing.assert_allclose(twist, TWIST, atol=1e-12)
    np.testing.assert_allclose(pose, POSE, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "would"),
    [
        ({"swapped": True}, "body frame, columns 1 and 2 swapped, radians"),
        ({"unit": "degrees"}, "body frame, columns as named, degrees"),
        ({"frame": "world", "swapped": True}, "world frame, columns 1 and 2 swapped, radians"),
    ],
)
def test_velocities_that_do_not_reproduce_the_pose_are_refused_with_what_would_fit(kind, would):
    with pytest.raises(DatasetError, match=f"within 5% of the path.*would fit as: {would}"):
        find_reading([recorded(**kind)])


def test_world_frame_velocities_are_refused_where_only_the_body_frame_is_allowed():
    with pytest.raises(DatasetError, match="would fit as: world frame, columns as named"):
        find_reading([recorded("world")], allowed=[Reading("body")])


def test_velocities_on_another_clock_fit_no_reading():
    motion = Motion("run.txt", POSE, TWIST, DT * 1.2)
    with pytest.raises(DatasetError, match=r"no frame, order .* fits: is the time right"):
        find_reading([motion])


def test_one_bad_recording_among_good_ones_is_named():
    bad = Motion("bad.txt", POSE, TWIST * [1.1, 1.0, 1.0], DT)
    with pytest.raises(DatasetError, match=r"bad\.txt: integrating"):
        find_reading([recorded() for _ in range(9)] + [bad])


def test_a_wrapped_heading_reads_like_an_unwrapped_one():
    _, pose, twist = circle(start=3.0)
    wrapped = np.column_stack([pose[:, :2], (pose[:, 2] + np.pi) % (2 * np.pi) - np.pi])
    assert np.abs(np.diff(wrapped[:, 2])).max() > 6
    assert misses(Reading(), Motion("run.txt", wrapped, twist, DT)).position < 1e-3


def test_swapped_command_columns_are_refused():
    velocity = np.linspace(0, 2, 60)
    twist = np.column_stack([velocity, np.zeros((60, 2))])
    steering = np.random.default_rng(0).uniform(-0.3, 0.3, 60)
    check_command_order(twist, np.column_stack([velocity, steering]), "run.txt")
    with pytest.raises(DatasetError, match="look swapped"):
        check_command_order(twist, np.column_stack([steering, velocity]), "run.txt")


def test_yaw_in_degrees_and_a_standing_car_are_refused():
    check_yaw_unit(np.array([-3.1, 3.1]), "run.csv")
    with pytest.raises(DatasetError, match=r"run\.csv.*it spans 340: degrees\?"):
        check_yaw_unit(np.array([-170.0, 170.0]), "run.csv")
    with pytest.raises(DatasetError, match=r"no motion.*0\.1 m/s somewhere.*0\.05 m/s"):
        check_moves(np.array([[0.03, 0.04, 2.0]]), "run.csv")


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        ([0.0, 0.1, 0.1, 0.2], r"row 2 repeats the stamp of the row before: 0\.1"),
        ([0.0, 0.2, 0.1, 0.3], r"row 2 goes back: 0\.2.*then 0\.1"),
        ([0.0, np.nan, 0.1], "row 1 is nan"),
        ([0.0, 0.1, 0.2, 0.9], r"must not jump .* jumps by 0\.7 s at row 3"),
        ([0.0, 10.0, 20.0], r"got 10; the stamps look like ms"),
        ([0.0, 1e4, 2e4], "look like µs"),
        ([0.0, 1e7, 2e7], "look like ns"),
        ([0.0], "at least 2 rows; got 1"),
    ],
)
def test_wrong_stamps_are_refused_with_row_value_and_likely_unit(stamps, message):
    with pytest.raises(DatasetError, match=rf"run\.csv, column 't': .*{message}"):
        check_time(np.array(stamps), "run.csv", "t", max_jump=5.0)


def test_the_clock_behind_jitter_is_found_piece_by_piece():
    generator = np.random.default_rng(0)
    exact = np.concatenate([50 + 0.01 * np.arange(400), 54.05 + 0.01 * np.arange(300)])
    clock = fit_uniform_clock(exact + generator.normal(0, 2e-4, 700), max_step=0.015)
    assert clock.start.tolist() == [0, 400]
    assert clock.stop.tolist() == [400, 700]
    assert clock.period == pytest.approx(0.01, abs=1e-6)
    assert clock.jitter == pytest.approx(2e-4, rel=0.1)
    for piece in range(2):
        rows = slice(clock.start[piece], clock.stop[piece])
        np.testing.assert_allclose(clock.times(piece), exact[rows], atol=6e-5)


@settings(max_examples=20, deadline=None)
@given(
    coefficients=st.tuples(*[st.floats(-3, 3)] * 3),
    seed=st.integers(0, 1000),
    causal=st.booleans(),
)
def test_local_fits_are_exact_on_parabolas_for_any_stamps(coefficients, seed, causal):
    time = 0.01 * np.arange(40) + np.random.default_rng(seed).uniform(-2e-3, 2e-3, 40)
    a, b, c = coefficients
    signal = np.column_stack([a + b * time + c * time**2, 1e3 + time])
    fit = local_quadratic(time, signal, 0.05, 0.0 if causal else 0.05)
    inside = fit.complete
    assert inside.sum() == (35 if causal else 30)
    np.testing.assert_allclose(fit.value[inside], signal[inside], atol=1e-9)
    np.testing.assert_allclose(fit.rate[inside, 0], (b + 2 * c * time)[inside], atol=1e-8)
    np.testing.assert_allclose(fit.rate[inside, 1], 1, atol=1e-8)
    np.testing.assert_allclose(fit.acceleration[inside, 0], 2 * c, atol=1e-6)
    assert np.isnan(fit.rate[~inside]).all()


def test_causal_fits_do_not_see_the_future():
    time = 0.01 * np.arange(60)
    signal = np.sin(5 * time)[:, None]
    changed = signal + (np.arange(60) > 30)[:, None]
    causal = [local_quadratic(time, each, 0.1, 0.0).rate for each in (signal, changed)]
    centred = [local_quadratic(time, each, 0.05, 0.05).rate for each in (signal, changed)]
    np.testing.assert_array_equal(causal[0][:31], causal[1][:31])
    assert np.abs(centred[0][26:31] - centred[1][26:31]).min() > 0.1
