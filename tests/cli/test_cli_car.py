"""The car on the command line: data made and checked, a model trained, evaluated and exported."""

import csv
import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from steelyard.cli import main
from steelyard.cli.dynamics import Division, TrainDynamics
from steelyard.cli.dynamics_runs import Source
from steelyard.data.splits import read_split
from steelyard.data.trajectories import Trajectories
from steelyard.evaluation.metrics_file import read_metrics
from steelyard.training.dynamics import DynamicsRun
from steelyard.training.dynamics_files import LOSS_COLUMNS, load_model
from steelyard.training.metrics import read_rows

SMALL = [
    *("--model.type", "direct", "--model.hidden-dims", 4, "--model.control-adapter.no-enabled"),
    *("--loss.rollout-mse.horizon", 2, "--groups", 4, "--windows-per-group", 2),
    *("--steps", 8, "--eval-every", 4, "--figures", 1),
]
FIGURES = {f"loss_{name}.png" for name in ("train", "val", "eval_vel", "eval_pos")}


def run(*words):
    main([str(word) for word in words])


def refused(capsys, *words):
    """The one message of a command that is refused."""
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    return " ".join((shown.err + shown.out).split())


def circles(count=20, states=9, dt=0.1):
    """A car on circles, each with a throttle and a steering of its own."""
    random = np.random.default_rng(0)
    time = dt * np.arange(states)
    parts = []
    for _ in range(count):
        throttle, steering = random.uniform(0.2, 0.9), random.uniform(-0.3, 0.3)
        speed = 2.0 * throttle * (1.0 - np.exp(-time / 0.4))
        rate = speed * np.tan(steering) / 0.3
        theta = np.concatenate([[0.0], np.cumsum(0.5 * dt * (rate[:-1] + rate[1:]))])
        step = 0.5 * dt * (speed[:-1] + speed[1:])[:, None]
        ahead = np.stack([np.cos(theta[:-1]), np.sin(theta[:-1])], axis=1)
        place = np.concatenate([np.zeros((1, 2)), np.cumsum(step * ahead, axis=0)])
        twist = np.column_stack([speed, 0.1 * rate, rate])
        parts.append((twist, np.column_stack([place, theta]), throttle, steering))
    return Trajectories(
        twist=np.concatenate([part[0] for part in parts]),
        pose=np.concatenate([part[1] for part in parts]),
        command=np.concatenate([np.tile(part[2:], (states, 1)) for part in parts]),
        dt=np.full(count * states, dt),
        lengths=np.full(count, states),
        ids=tuple(f"circle{i}" for i in range(count)),
        groups=("circles",) * count,
        command_kind="throttle",
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("car")


@pytest.fixture(scope="module")
def data(place):
    return circles().save(place / "circles")


@pytest.fixture(scope="module")
def trained(place, data):
    """The folder of a small finished run."""
    run("train", "dynamics", data, *SMALL, "--runs", place / "runs")
    (folder,) = (place / "runs" / "train_dynamics").iterdir()
    return folder


def test_a_run_leaves_every_documented_file(trained, data):
    assert json.loads((trained / "status.json").read_text())["state"] == "done"
    with (trained / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(LOSS_COLUMNS)
    assert [row["step"] for row in rows] == ["4", "8"]
    split = read_split(trained, Trajectories.load(data))
    assert [len(names) for names in split.parts().values()] == [14, 2, 4]
    assert float(rows[1]["epoch"]) == pytest.approx(8 * 8 / (14 * 8), abs=1e-3)
    assert {path.name for path in (trained / "plots").iterdir()} == FIGURES
    assert len(json.loads((trained / "standardizers.json").read_text())["input"]["mean"]) == 5
    (evaluation,) = (trained / "eval").iterdir()
    metrics = read_metrics(evaluation / "metrics.json")
    assert set(metrics.ids) == set(split.test["test"])
    assert len(list(evaluation.glob("*.png"))) == 2  # one trajectory, and all together
    assert load_model(trained).config.model.hidden_dims == (4,)


def test_the_same_command_again_trains_nothing_and_says_the_same(trained, place, data, capsys):
    before = len(read_rows(trained / "metrics.jsonl"))
    run("train", "dynamics", data, *SMALL, "--runs", place / "runs")
    assert "test: 4 rollouts, mean position error" in capsys.readouterr().out
    assert len(read_rows(trained / "metrics.jsonl")) == before
    assert len(list((place / "runs" / "train_dynamics").iterdir())) == 1


def test_random_eval_never_touches_training(trained, data, capsys):
    split = read_split(trained, Trajectories.load(data))
    seen = set()
    for seed in range(3):
        run("evaluate", trained, "--num-eval-trajs", 2, "--random", "--seed", seed, "--figures", 0)
        metrics = read_metrics(Path(capsys.readouterr().out.split("→ ")[1].strip()))
        assert metrics.content["eval_config"]["random_select"] is True
        assert metrics.content["eval_config"]["seed"] == seed
        seen |= set(metrics.ids)
        assert len(metrics.ids) == 2
    assert seen <= set(split.test["test"])
    assert len(seen) > 2


def test_evaluate_gives_the_errors_that_training_reported(trained, capsys):
    result = json.loads((trained / "result.json").read_text())["tests"]["test"]
    run("evaluate", trained, "--figures", 0)
    line = capsys.readouterr().out
    assert line.split("→")[0] == result["line"].split("→")[0]


def test_a_number_outside_the_test_set_is_refused_with_its_size(trained, capsys):
    for count in (0, 5):
        shown = refused(capsys, "evaluate", trained, "--num-eval-trajs", count)
        assert "[1, 4], the size of the test set" in shown
        assert f"got {count}" in shown


def test_data_that_changed_are_refused_and_data_that_moved_are_named(trained, place, capsys):
    other = circles(states=10).save(place / "other")
    assert "must be the one that was split" in refused(capsys, "evaluate", trained, "--data", other)
    moved = circles().save(place / "moved")
    run("evaluate", trained, "--data", moved, "--figures", 0)
    assert "test: 4 rollouts" in capsys.readouterr().out


def test_a_pickled_checkpoint_is_never_opened(place, capsys):
    file = place / "best.pt"
    file.write_bytes(b"\x80\x04not to be read")
    for words in (["evaluate", file], ["train", "dynamics", file], ["train", "dynamics"]):
        more = ["--config", file] if len(words) == 2 and words[0] == "train" else []
        shown = refused(capsys, *words, *more)
        assert "pickled files are not opened" in shown
        assert "save_file" in shown


def test_a_bad_alpha_is_refused_before_data_are_read(place, capsys):
    file = place / "exp2_h20_cvar0p2.json"
    cvar = {"enabled": True, "alpha": 1.2}
    file.write_text(json.dumps({"training": {"loss": {"rollout_cvar": cvar}}}))
    rule = "rollout_cvar.alpha must be in (0, 1], got 1.2"
    shown = refused(capsys, "train", "dynamics", place / "absent", "--config", file)
    assert f"{rule} (exp2_h20_cvar0p2.json)" in shown
    option = ["--loss.rollout-cvar.alpha", 1.2]
    assert rule in refused(capsys, "train", "dynamics", place / "absent", *option)


def test_a_reference_config_sets_defaults_that_single_options_change(place, data, capsys):
    file = place / "exp9_tiny.json"
    model = {"type": "direct", "hidden_dims": [3]}
    loss = {"rollout_cvar": {"enabled": True, "alpha": 0.5}, "rollout_mse": {"horizon": 2}}
    content = {"seed": 7, "model": model, "training": {"batch_size": 8, "loss": loss}}
    file.write_text(json.dumps(content | {"data": {"num_eval_trajectories": 3}}))
    steps = ["--steps", 4, "--eval-every", 4, "--figures", 0, "--runs", place / "reference"]
    run("train", "dynamics", data, "--config", file, *steps, "--model.hidden-dims", 4)
    shown = capsys.readouterr()
    assert shown.err.count("rollout_cvar is switched off") == 1
    assert "test: 3 rollouts" in shown.out
    (folder,) = (place / "reference" / "train_dynamics").iterdir()
    identity = json.loads((folder / "config.json").read_text())
    assert (identity["arm"], identity["seed"]) == ("exp9_tiny", 7)
    agent = identity["config"]["run"]["agent"]
    assert agent["model"]["hidden_dims"] == [4]
    assert agent["loss"]["rollout_cvar"]["enabled"] is False


def test_without_data_or_with_unknown_ones_the_command_says_what_they_may_be(capsys, place):
    assert "which trajectories?" in refused(capsys, "train", "dynamics")
    shown = refused(capsys, "train", "dynamics", place / "absent")
    assert "car-mujoco:SET" in shown
    assert "mixed" in shown
    shown = refused(capsys, "train", "dynamics", "car-single-track:mixd")
    assert "did you mean mixed" in shown


def test_every_setting_of_a_run_is_an_option():
    options = {field.name for field in dataclasses.fields(TrainDynamics)}
    assert {field.name for field in dataclasses.fields(DynamicsRun)} <= options


@pytest.mark.parametrize(("count", "test"), [(5, 1), (20, 4), (249, 50), (250, 50), (1000, 50)])
def test_fifty_trajectories_test_or_a_fifth(count, test):
    split = Division().of(circles(count, states=2), dart=False, seed=3)
    assert len(split.test["test"]) == test
    assert len(split.validation) == max(1, round(0.1 * (count - test)))
    again = Division().of(circles(count, states=2), dart=False, seed=4)
    assert again == split  # seeds of the training share the split


def test_generated_sets_are_written_cached_and_never_replaced_unasked(place, capsys, monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("STEELYARD_CACHE", str(place / "cache"))
    words = ["data", "generate", "car-mujoco", "--set", "mixed", "--trajectories", 2, "--seed", 5]
    run(*words, "--out", place / "made")
    assert "2 trajectories, 200 steps of 0.1 s" in capsys.readouterr().out
    (chunk,) = (place / "cache").rglob("*.npz")
    written = chunk.stat().st_mtime_ns
    assert "pass --overwrite" in refused(capsys, *words, "--out", place / "made")
    run(*words, "--out", place / "again")
    assert chunk.stat().st_mtime_ns == written
    made, again = (Trajectories.load(place / name) for name in ("made", "again"))
    assert made.sha256 == again.sha256
    assert made.sha256 == Source(trajectories=2, data_seed=5).load("car-mujoco:mixed").sha256
    assert "did you mean mixed" in refused(
        capsys, "data", "generate", "car-mujoco", "--set", "mixd", "--out", place / "no"
    )


def test_inspect_shows_counts_ranges_units_and_groups(data, capsys):
    run("data", "inspect", data)
    shown = capsys.readouterr().out
    assert "20 trajectories, 160 steps of 0.1 s" in shown
    assert "group circles: 20 trajectories" in shown
    for column in ("vx (m/s)", "w (rad/s)", "theta (rad)", "throttle", "steering (rad)"):
        assert column in shown
    run("data", "check", data)
    assert f"{data}: ok" in capsys.readouterr().out


def test_raw_folders_of_the_reference_are_imported(place, capsys):
    raw, dt = place / "raw", 0.1
    raw.mkdir()
    time = dt * np.arange(40)
    for number, rate in enumerate((0.3, -0.5, 0.8)):
        theta = rate * time
        x, y = np.sin(theta) / rate, (1.0 - np.cos(theta)) / rate
        rows = np.column_stack([time, x, y, theta, np.ones(40), np.zeros(40), np.full(40, rate)])
        np.savetxt(raw / f"traj_vels_{number}.txt", rows)
        (raw / f"plan_{number}.txt").write_text(f"{0.3 * rate} 1.0\n")
    run("data", "import", "mushr", raw, "--out", place / "imported")
    assert "3 trajectories, 117 steps of 0.1 s" in capsys.readouterr().out
    assert Trajectories.load(place / "imported").command_kind == "velocity"
    assert "pass --overwrite" in refused(
        capsys, "data", "import", "mushr", raw, "--out", place / "imported"
    )


def dart_file(folder, rows=400, speed=1.0, rate=0.6):
    """A recording of a car on a circle whose sensors read 2 % too much; 3 leading rows."""
    names = (
        "elapsed time sensors,current,voltage,acc x (IMU),acc y (IMU),W (IMU),vel encoder,"
        "safety_value,throttle,steering,vicon time,vicon x,vicon y,vicon yaw"
    )
    time = 0.01 * np.arange(rows)
    yaw = rate * time + 0.3 * np.sin(time)
    step = 0.01 * speed * np.stack([np.cos(yaw), np.sin(yaw)])
    x, y = np.cumsum(step, axis=1) - step
    sensors = np.where(np.arange(rows) < 3, 0.0, 500 + np.arange(rows) // 10 * 0.1)
    gyro = 1.02 * (rate + 0.3 * np.cos(time))
    encoder = 1.02 * speed * (1.0 + 0.001 * np.sin(40 * time))
    ones, nothing = np.ones(rows), np.zeros(rows)
    safety = np.where(np.arange(rows) < 50, 0.0, 1.0)
    table = [sensors, nothing, nothing, nothing, nothing, gyro, encoder, safety]
    table += [0.3 * ones, 0.2 * ones, 1.7e9 + time, x, y, np.angle(np.exp(1j * yaw))]
    folder.mkdir()
    path = folder / "free_driving_made.csv"
    np.savetxt(path, np.column_stack(table), delimiter=",", header=names, comments="", fmt="%.9f")
    return folder


def test_dart_s_sensors_are_compared_with_its_motion_and_dropped_rows_counted(place, capsys):
    run("data", "check", "dart", "--dart-dir", dart_file(place / "dart"))
    shown = capsys.readouterr().out
    (line,) = (row for row in shown.splitlines() if row.startswith("free_driving_made"))
    motion, encoder, gyro, dropped = line.split("|")
    assert motion.split()[1:3] == ["free", "400"]
    assert float(encoder.split()[0]) == pytest.approx(1.02, abs=0.01)
    assert float(gyro.split()[0]) == pytest.approx(1.02, abs=0.02)  # the best lag is not none
    assert dropped.strip().startswith("3, 30, 0, ")  # leading rows; 0.15 s at both ends
    assert "47 rows have throttle without effect" in shown


def test_an_export_without_its_extra_names_the_install_command(trained, capsys):
    if importlib.util.find_spec("jax2onnx"):
        pytest.skip("the extra is installed")
    assert "pip install 'steelyard[onnx]'" in refused(capsys, "export", trained, "--to", "onnx")
