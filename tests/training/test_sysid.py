"""A simulator as a model: its plants, its starts, and the numbers that ``mujoco.sysid`` finds."""

import dataclasses
import sys

import jax
import numpy as np
import pytest

from steelyard.data.car import car_trajectories
from steelyard.envs.car.generate import generate, planar_motion, simulate
from steelyard.envs.car.sets import CarDraw, CarSet
from steelyard.evaluation.model_rollout import Recordings, predict, whole_trajectories
from steelyard.training.dynamics_scores import rollouts
from steelyard.training.dynamics_windows import Cut
from steelyard.training.sysid import fit_plant, require_sysid
from steelyard.training.sysid_plants import (
    DART_CAR,
    MUSHR_TRUTH,
    WHEELS,
    Plant,
    Unknown,
    dart_plant,
    mushr_plant,
)
from steelyard.training.sysid_rollouts import motion, roll_out, start_states

mujoco = pytest.importorskip("mujoco")


def missing() -> str:
    try:
        require_sysid()
    except ImportError as error:
        return str(error)
    return ""


needs_sysid = pytest.mark.skipif(bool(missing()), reason=missing())


def gentle(trajectories: int = 3, steps: int = 20) -> CarSet:
    """Commands within grip, one friction."""
    return CarSet(
        "gentle",
        velocity=(0.5, 1.2),
        steering=(-0.2, 0.2),
        laws={"sine": 1.0},
        friction=(0.8, 0.8),
        rare_share=0.0,
        steps=steps,
    )


@pytest.fixture(scope="module")
def recorded():
    return car_trajectories(generate(gentle(), 3, 0), "gentle")


def steady_turn(speed: float, steering: float, steps: int = 12):
    draw = CarDraw(
        np.tile([speed, steering], (steps, 1)), 0.8, "constant", np.zeros((steps + 1, 3))
    )
    return car_trajectories(simulate([draw], 0.1), "turn")


def test_the_true_car_replays_what_was_recorded(recorded):
    recordings = whole_trajectories(recorded)
    plant = mushr_plant()
    twist = roll_out(plant.model(MUSHR_TRUTH), recordings)
    assert twist.shape == recordings.window.twist.shape
    np.testing.assert_allclose(twist, recordings.window.twist, atol=1e-6)
    assert np.abs(roll_out(plant.model(plant.start), recordings) - twist).max() > 0.01


def test_a_trajectory_does_not_depend_on_its_company_nor_on_threads(recorded):
    model = mushr_plant().model(MUSHR_TRUTH)
    recordings = whole_trajectories(recorded)
    alone = jax.tree.map(lambda array: array[1:2], recordings)
    np.testing.assert_array_equal(
        roll_out(model, alone)[0], roll_out(model, recordings, threads=2)[1]
    )


def test_a_window_cut_from_a_drive_goes_on_as_the_drive_did():
    windows, _ = rollouts(steady_turn(1.0, 0.15), history=5, cut=Cut(6, lead=5))
    twist = roll_out(mushr_plant().model(MUSHR_TRUTH), windows)
    np.testing.assert_allclose(twist, windows.window.twist, atol=0.01)


def test_starts_have_the_recorded_motion_and_rolling_wheels():
    plant = dart_plant()
    model = plant.model(plant.start)
    windows, _ = rollouts(steady_turn(1.0, 0.2), history=5, cut=Cut(6, lead=5))
    window = windows.window
    state = start_states(model, windows)
    twist, pose, _ = planar_motion(state[:, 1:8], state[:, 1 + model.nq : 7 + model.nq])
    np.testing.assert_allclose(twist, window.twist[:, 0], atol=1e-6)
    np.testing.assert_allclose(pose, window.pose[:, 0], atol=1e-6)

    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
    mujoco.mj_forward(model, data)
    trim, gain = plant.start["steering_trim"], plant.start["steering_gain"]
    assert data.joint("steering").qpos[0] == pytest.approx(trim + 0.2 * gain, rel=1e-3)
    for wheel in WHEELS:
        velocity = np.zeros(6)
        body = model.body(wheel).id
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
        across = data.body(wheel).xmat.reshape(3, 3)[:, 1]
        rolling = np.cross(across, [0.0, 0.0, 1.0])
        spin = data.joint(f"{wheel}_spin").qvel[0]
        assert velocity[3:] @ rolling == pytest.approx(spin * DART_CAR.wheel_radius, abs=0.01)


def test_a_lag_that_is_known_to_be_over_starts_at_its_command_and_one_from_rest_at_zero():
    model = mushr_plant().model(MUSHR_TRUTH)
    turn = steady_turn(1.0, 0.2)
    late = start_states(model, rollouts(turn, history=5, cut=Cut(6, lead=5))[0])
    rest = start_states(model, whole_trajectories(turn))
    assert late[0, -1] == pytest.approx(0.2, abs=1e-6)
    assert rest[0, -1] == 0.0


@pytest.mark.parametrize(("opening", "speed"), [(0.164, 0.0), (0.3, 0.0), (0.3, 2.0), (1.0, 1.0)])
def test_the_throttle_pushes_by_its_curve(opening, speed):
    plant = dart_plant()
    values = plant.start
    model = plant.model(values)
    data = mujoco.MjData(model)
    data.act[0] = opening
    for wheel in WHEELS:
        data.qvel[model.joint(f"{wheel}_spin").dofadr[0]] = speed / DART_CAR.wheel_radius
    mujoco.mj_forward(model, data)
    force = (values["c1"] - values["c2"] * speed) * (opening - values["u0"])
    assert data.actuator_force[0] == pytest.approx(force, abs=1e-9)
    dragging = -values["r1"] * speed * DART_CAR.wheel_radius
    assert data.qfrc_passive.min() == pytest.approx(0.25 * dragging, abs=1e-9)


@pytest.mark.parametrize("throttle", [0.0, 0.1, -0.5])
def test_a_throttle_below_its_start_does_not_move_the_car(throttle):
    plant = dart_plant()
    model = plant.model(plant.start)
    data = mujoco.MjData(model)
    data.ctrl[0] = throttle
    mujoco.mj_step(model, data, 500)
    assert np.abs(data.qpos[:2]).max() < 1e-3


def test_the_dart_car_weighs_and_balances_as_published():
    plant = dart_plant()
    model = plant.model(plant.start)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    base = model.body("base").id
    assert model.body_subtreemass[base] == pytest.approx(1.58, abs=1e-3)
    assert model.body("front_left").pos[0] - model.body("rear_left").pos[0] == pytest.approx(0.1735)
    assert data.subtree_com[base][0] == pytest.approx(0.093 - 0.115, abs=1e-3)


def test_motion_is_unknown_from_where_the_physics_broke_down(recorded):
    model = mushr_plant().model(MUSHR_TRUTH)
    states = np.repeat(start_states(model, whole_trajectories(recorded))[:1], 40, axis=0)
    states[:, 0] = model.opt.timestep * np.minimum(np.arange(1, 41), 25)
    found = motion(model, states, every=10)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False, False, True, True])


def test_a_rollout_that_broke_down_counts_as_diverged(recorded):
    recordings = whole_trajectories(recorded)
    broken = np.array(recordings.window.twist)
    broken[0, 5:] = np.nan
    given = jax.tree_util.Partial(lambda twist, *_: twist, jax.numpy.asarray(broken))
    alive = np.asarray(predict(given, recordings).alive)
    assert not alive[0, 5:].any()
    assert alive[1:].all()


@needs_sysid
def test_the_fit_recovers_the_numbers_of_the_car_that_drove(recorded):
    plant = mushr_plant({"drive_kv": 0.7, "front_axle": 1.3})
    recordings = whole_trajectories(recorded.select([0, 1]))
    fit = fit_plant(plant, recordings, differences=(0.01,), max_steps=6)
    for name, value in fit.values.items():
        assert value == pytest.approx(MUSHR_TRUTH[name], rel=0.02), name
    assert fit.cost[0] > 100 * fit.cost[-1]


@needs_sysid
def test_the_fit_does_not_read_the_padding(recorded):
    plant = mushr_plant({"drive_kv": 0.7})
    fitted = []
    padded = whole_trajectories(recorded.select([0]))
    junk = Recordings(
        dataclasses.replace(padded.window, pose=padded.window.pose.at[:, 11:].set(9.0)),
        padded.valid.at[:, 11:].set(False),
    )
    cut = whole_trajectories(recorded.select([0]), max_steps=10)
    for recordings in (junk, cut):
        fitted.append(fit_plant(plant, recordings, differences=(0.01,), max_steps=2).values)
    assert fitted[0]["drive_kv"] == pytest.approx(fitted[1]["drive_kv"], rel=1e-6)


def test_without_its_extra_the_fit_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.delattr(mujoco, "sysid", raising=False)
    monkeypatch.setitem(sys.modules, "mujoco.sysid", None)
    with pytest.raises(ImportError, match=r"pip install 'steelyard\[sysid\]'"):
        require_sysid()


@pytest.mark.parametrize("unknown", [Unknown(3.0, 0.0, 1.0), Unknown(1.0, 1.0, 1.0)])
def test_a_first_guess_lies_between_its_bounds(unknown):
    with pytest.raises(ValueError, match="drive_kv must start between its bounds"):
        Plant("car", {"drive_kv": unknown}, mushr_plant().spec)


def test_a_plant_has_an_unknown_and_its_names_are_known():
    with pytest.raises(ValueError, match="at least 1"):
        Plant("car", {}, mushr_plant().spec)
    with pytest.raises(ValueError, match="front_axle.*got 'front_axel'"):
        mushr_plant({"front_axel": 1.2})


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"differences": ()}, r"differences must be one or more in \(0, 0.5\)"),
        ({"differences": (0.01, 0.5)}, r"differences must be one or more in \(0, 0.5\)"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_imported(arguments, rule, recorded):
    with pytest.raises(ValueError, match=rule):
        fit_plant(mushr_plant(), whole_trajectories(recorded), **arguments)


def test_a_step_that_the_simulator_does_not_divide_is_refused(recorded):
    recordings = whole_trajectories(recorded)
    odd = dataclasses.replace(recordings.window, dt=recordings.window.dt * 1.007)
    with pytest.raises(ValueError, match=r"multiple of the simulator's 0.002 s"):
        roll_out(mushr_plant().model(MUSHR_TRUTH), Recordings(odd, recordings.valid))
