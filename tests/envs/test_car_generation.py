"""Generation: what a trajectory depends on, the cache, roll-overs, bad requests."""

import dataclasses
import json

import numpy as np
import pytest

from steelyard.envs.car import cache
from steelyard.envs.car import generate as generation
from steelyard.envs.car.generate import CHUNK, generate, planar_motion, simulate
from steelyard.envs.car.scene import MUSHR
from steelyard.envs.car.sets import CAR_SETS, CarDraw, CarSet

pytest.importorskip("mujoco")
SHORT = CarSet("short", steps=6, twist_noise=(0.02, 0.02, 0.05))


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_a_trajectory_depends_neither_on_the_count_nor_on_threads_nor_on_the_cache(tmp_path):
    plain = generate(SHORT, CHUNK + 3, 5)
    assert_same(generate(SHORT, 4, 5), plain[:4])
    assert_same(generate(SHORT, CHUNK + 3, 5, threads=2), plain)
    assert_same(generate(SHORT, 2, 5, cache=tmp_path), plain[:2])
    assert_same(generate(SHORT, CHUNK + 3, 5, cache=tmp_path), plain)
    assert_same(generate(SHORT, CHUNK + 3, 5, cache=tmp_path), plain)
    assert not np.array_equal(generate(SHORT, 1, 6)[0].command, plain[0].command)


def test_recordings_have_one_state_more_than_steps_and_start_at_rest():
    recording = generate("mixed", 1, 0)[0]
    assert recording.twist.shape == recording.pose.shape == (101, 3)
    assert recording.command.shape == (100, 2)
    np.testing.assert_array_equal(recording.dt, np.full(100, 0.1))
    np.testing.assert_array_equal(recording.twist[0], 0.0)
    np.testing.assert_array_equal(recording.pose[0], 0.0)
    assert not recording.terminated
    assert np.abs(recording.pose[-1]).max() > 0.5


def test_noise_is_added_to_the_twist_and_not_to_the_pose():
    quiet = generate(dataclasses.replace(SHORT, twist_noise=(0.0, 0.0, 0.0)), 1, 0)[0]
    noisy = generate(SHORT, 1, 0)[0]
    np.testing.assert_array_equal(noisy.pose, quiet.pose)
    np.testing.assert_allclose(noisy.twist - quiet.twist, SHORT.draw(0, 0).noise, atol=1e-12)


def test_finished_chunks_are_read_and_not_simulated_again(tmp_path, monkeypatch):
    done = []
    first = generate(SHORT, 3, 0, cache=tmp_path, tick=done.append)
    monkeypatch.setattr(generation, "simulate", None)
    assert_same(generate(SHORT, 3, 0, cache=tmp_path, tick=done.append), first)
    assert done == [3, 3]


def test_a_generation_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(SHORT, CHUNK + 2, 0, cache=tmp_path, tick=stop)
    made = []
    monkeypatch.setattr(
        generation,
        "simulate",
        lambda draws, *a, **k: made.extend(draws) or simulate(draws, *a, **k),
    )
    resumed = generate(SHORT, CHUNK + 2, 0, cache=tmp_path)
    assert len(made) == 2
    assert_same(resumed, generate(SHORT, CHUNK + 2, 0))


def test_a_damaged_chunk_is_made_again(tmp_path):
    first = generate(SHORT, 3, 0, cache=tmp_path)
    (chunk,) = tmp_path.glob("*/*.npz")
    chunk.write_bytes(chunk.read_bytes()[:500])
    assert_same(generate(SHORT, 3, 0, cache=tmp_path), first)
    assert len(cache.read_chunk(chunk, SHORT.dt)) == 3
    assert not list(tmp_path.glob("*/*.draft"))


def test_the_cache_tells_apart_whatever_changes_the_recordings(tmp_path):
    folders = {
        cache.cache_folder(tmp_path, source, seed, scene, version)
        for source, seed, scene, version in [
            (SHORT, 0, "scene", "mujoco 3.8.1"),
            (SHORT, 1, "scene", "mujoco 3.8.1"),
            (SHORT, 0, "scene", "mujoco 3.8.2"),
            (SHORT, 0, "another", "mujoco 3.8.1"),
            (dataclasses.replace(SHORT, rare_share=0.2), 0, "scene", "mujoco 3.8.1"),
        ]
    }
    assert len(folders) == 5
    for folder in folders:
        assert json.loads((folder / "key.json").read_text())["set"]["name"] == "short"


def test_a_car_that_rolls_over_ends_before_that_step():
    tall = dataclasses.replace(MUSHR, base_centre=(0.0, 0.0, 0.4))
    command = np.tile([3.0, 0.38], (30, 1))
    draw = CarDraw(command, 0.9, "constant", np.zeros((31, 3)))
    over, stands = simulate([draw], 0.1, car=tall)[0], simulate([draw], 0.1)[0]
    assert over.terminated
    assert not stands.terminated
    steps = len(over.command)
    assert 1 <= steps < 30
    assert over.twist.shape == over.pose.shape == (steps + 1, 3)
    assert len(over.dt) == steps
    fine = simulate(
        [draw._replace(command=np.tile([3.0, 0.38], (1500, 1)), noise=np.zeros((1501, 3)))],
        0.002,
        car=tall,
    )[0]
    assert (len(fine.command) // 50) == steps


def test_tilt_is_the_larger_of_roll_and_pitch():
    def quaternion(axis, angle):
        return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * np.asarray(axis)])

    angles = [((1, 0, 0), 0.6), ((0, 1, 0), -0.9), ((0, 0, 1), 1.5), ((1, 0, 0), 2.5)]
    position = np.stack([np.r_[0.0, 0.0, 0.0, quaternion(*pair)] for pair in angles])
    twist, pose, tilt = planar_motion(position, np.zeros((4, 6)))
    np.testing.assert_allclose(tilt, [0.6, 0.9, 0.0, 2.5], atol=1e-12)
    np.testing.assert_allclose(pose[:, 2], [0.0, 0.0, 1.5, 0.0], atol=1e-12)


def test_physics_that_breaks_down_is_named_and_not_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log where it runs
    wild = dataclasses.replace(MUSHR, drive_kv=1e12)
    draw = CarDraw(np.tile([1e6, 0.38], (10, 1)), 0.8, "constant", np.zeros((11, 3)))
    with pytest.raises(
        FloatingPointError, match="trajectory 41: the physics broke down after 0.002 s"
    ):
        simulate([draw], 0.1, indices=[41], car=wild)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mixd", 1, 0), "no car set is named 'mixd'.*did you mean mixed"),
        (("mixed", 0, 0), "at least 1 trajectory: got 0"),
        (("mixed", 1, -1), "seed is at least 0: got -1"),
    ],
)
def test_bad_request_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(*arguments)


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="threads is at least 1: got 0"):
        generate("mixed", 1, 0, threads=0)


def test_missing_simulator_names_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mujoco", None)
    with pytest.raises(ImportError, match=r"pip install 'mujoco>=3.8"):
        generate("mixed", 1, 0)


@pytest.mark.slow
def test_every_set_generates_and_stays_upright():
    for name in CAR_SETS:
        recordings = generate(name, 40, 1)
        assert sum(r.terminated for r in recordings) == 0, name
        assert np.isfinite(np.concatenate([r.twist for r in recordings])).all()
