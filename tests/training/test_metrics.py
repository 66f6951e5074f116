"""Where metrics go: JSON lines and a CSV always, TensorBoard and W&B on request, nowhere else."""

import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import group

from steelyard.training.metrics import JsonLines, SinkOptions, read_rows
from steelyard.training.off_policy import Speed
from steelyard.training.progress import progress
from steelyard.training.run_folder import RunFolder


def log_two_rows(root: Path, sinks: SinkOptions) -> None:
    runs = group(root, (0, 1), sinks=sinks)
    runs.restore({"x": jnp.zeros(())})
    runs.log(10, {"loss": np.array([0.5, 1.5])})
    runs.log(20, {"loss": np.array([np.nan, 2.5]), "eval/reward_mean": np.array([-3.0, -4.0])})
    runs.close()


def test_every_row_is_one_line_with_its_step_and_seconds(tmp_path):
    log_two_rows(tmp_path, SinkOptions())
    first, second = read_rows(tmp_path / "0" / "metrics.jsonl")
    assert (first["step"], first["loss"]) == (10, 0.5)
    assert second["loss"] is None
    assert second["eval/reward_mean"] == -3.0
    assert 0 <= first["seconds"] <= second["seconds"]


def test_the_csv_holds_the_same_rows_with_every_column(tmp_path):
    log_two_rows(tmp_path, SinkOptions())
    with (tmp_path / "1" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "seconds", "loss", "eval/reward_mean"]
    assert [row["loss"] for row in rows] == ["1.5", "2.5"]
    assert rows[0]["eval/reward_mean"] == ""


def test_rows_later_than_the_checkpoint_go_when_a_run_is_resumed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    for step in (10, 20, 30):
        sink.write({"step": step, "loss": math.inf})
    JsonLines(path, resume_at=20).write({"step": 25})
    assert [row["step"] for row in read_rows(path)] == [10, 20, 25]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 25]


def test_rows_of_training_hold_its_speed_which_is_none_of_learning_while_play_is_random(sac_root):
    rows = [r for r in read_rows(sac_root / "0" / "metrics.jsonl") if "eval/reward_mean" not in r]
    assert all(row["frames_per_s"] > 0 for row in rows)
    learning = {row["step"]: row["updates_per_s"] / row["frames_per_s"] for row in rows}
    # One critic step a frame, but for the first row after random play, of which some frames were.
    assert learning == pytest.approx({s: float(s > 80) for s in learning}, abs=0.11)


def test_speed_is_of_training_alone():
    speed = Speed(2)
    speed.frames, speed.updates = 100, 50
    time.sleep(0.05)
    with speed.paused():
        time.sleep(0.5)
    rates = speed.take()
    assert rates["frames_per_s"].shape == (2,)
    assert (rates["frames_per_s"] > 100 / 0.5).all()
    assert (rates["frames_per_s"] <= 100 / 0.05).all()
    np.testing.assert_allclose(rates["updates_per_s"], rates["frames_per_s"] / 2)
    time.sleep(0.01)
    assert speed.take()["frames_per_s"].tolist() == [0.0, 0.0]


def test_no_file_has_no_rows_and_a_line_cut_short_is_left_out(tmp_path):
    assert read_rows(tmp_path / "none") == []
    (tmp_path / "cut").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_rows(tmp_path / "cut") == [{"step": 1}]


def test_tensorboard_files_hold_every_number_at_its_step(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    log_two_rows(tmp_path, SinkOptions(tensorboard=True))
    (path,) = (tmp_path / "1" / "tensorboard").iterdir()
    seen = {
        (event.step, value.tag): value.tensor.float_val[0]
        for event in loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    assert seen[10, "loss"] == 1.5
    assert seen[20, "loss"] == 2.5
    assert seen[20, "eval/reward_mean"] == -4.0
    assert {tag for _, tag in seen} == {"loss", "seconds", "eval/reward_mean"}


def test_weights_and_biases_writes_an_offline_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    runs = group(tmp_path, (3,), sinks=SinkOptions(wandb=True))
    runs.restore({"x": jnp.zeros(())})
    runs.log(10, {"loss": np.array([0.5])})
    runs.close()
    (written,) = tmp_path.glob("3/wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 30  # another process writes it
    while b"loss" not in written.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"loss" in written.read_bytes()
    assert b"tiny-seed3-3" in written.read_bytes()


def test_weights_and_biases_is_left_alone_where_it_is_disabled(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
    log_two_rows(tmp_path, SinkOptions(wandb=True))


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [
        ("wandb", SinkOptions(wandb=True), "steelyard[wandb]"),
        (
            "tensorboard.summary.writer.event_file_writer",
            SinkOptions(tensorboard=True),
            "steelyard[tensorboard]",
        ),
    ],
)
def test_a_missing_package_gives_one_line_that_says_how_to_install_it(
    package, options, extra, tmp_path, monkeypatch
):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as error:
        options.open(RunFolder(tmp_path), 0, "arm", "name")
    assert str(error.value).endswith(f"pip install '{extra}'")
    assert "\n" not in str(error.value)


DEFAULT_RUN = """
import socket, sys

def refuse(*_):
    raise AssertionError("a default run opened a connection")

for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
sys.path.insert(0, {here!r})
from pathlib import Path
from tiny_runs import SAC_RUN, TASK, group, silent
from steelyard.evaluation.evaluator import Evaluator
from steelyard.training.recipes import train_sac
import steelyard.cli.study, steelyard.studies.imitation
runs = group(Path(sys.argv[1]))
train_sac(SAC_RUN, runs, silent, Evaluator(TASK, 2, 3))
runs.close()
print(sorted({{"wandb", "tensorboard", "torch", "tensorflow"}} & set(sys.modules)))
"""


def test_a_default_run_opens_no_socket_and_imports_no_sink(compiler, sac_root, tmp_path):
    code = DEFAULT_RUN.format(here=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=compiler, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert len(read_rows(tmp_path / "0" / "metrics.jsonl")) > 0


def test_progress_where_there_is_no_terminal_is_a_line_every_tenth(capsys):
    with progress("work", 100) as tick:
        for step in range(0, 101, 5):
            tick(step, f"at {step}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("work:   0 %")
    assert lines[-1].startswith("work: 100 %")
    assert lines[-1].endswith("at 100")
