"""Groups in processes of their own: the same results, on the chosen device, ended with care."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_runs import cells_of, outcome, run, states
from toy_study import ToyConfig

from steelyard.cli import main
from steelyard.studies.cells import Store
from steelyard.training.holds import HOLD, HeldError


def test_a_worker_that_fails_ends_the_study_and_its_error_and_log_are_told_on_one_line(
    children, tmp_path, capsys
):
    words = ["--seeds", "1", "--raises", "1", "--executor", "process", "--runs", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        main(["study", "run", "toy", *words])
    assert stopped.value.code == 1
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("steelyard:"))
    assert "start failed in a worker (exit 1)" in line
    assert line.endswith(": RuntimeError: a walker stumbled")
    (log,) = re.findall(r"\S+\.log", line)
    assert "a walker stumbled" in Path(log).read_text()


CHILD = """
import contextlib, sys, time
from pathlib import Path
from toy_study import STUDY, ToyConfig
from steelyard.studies.engine import Options, run_study
from steelyard.studies.hardware import computing_device

@contextlib.contextmanager
def progress(description, total):
    yield lambda step, note="": time.sleep(float(sys.argv[2]))

config = ToyConfig(seconds_per_step=float(sys.argv[3]))
options = Options(Path(sys.argv[1]), device=sys.argv[4], executor=sys.argv[5], workers=2)
run_study(STUDY, config, "only", "cmd", options, progress)
print(computing_device())
"""


def child(root: Path, tick_s=0.0, step_s=0.0, device="auto", executor="inline", **options):
    """A study in a process of its own, which hears an interrupt even where the tests do not."""
    words = [str(root), str(tick_s), str(step_s), device, executor]
    # Jobs in the background ignore interrupts, and would hand that on.
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + CHILD
    return subprocess.Popen([sys.executable, "-c", script, *words], text=True, **options)


def wait_for_a_checkpoint(study: subprocess.Popen, root: Path):
    folder = Store(root, "toy").folder(cells_of(root)["start", 3])
    while "checkpoint" not in folder.status():
        assert study.poll() is None, "the study ended before its first checkpoint"
        time.sleep(0.01)
    return folder


def test_processes_give_the_same_results_as_one_group_after_the_other_on_the_chosen_device(
    children, finished, tmp_path
):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    two = os.environ | {"XLA_FLAGS": flags}
    study = child(tmp_path, device="cpu:1", executor="process", stdout=subprocess.PIPE, env=two)
    chosen = study.communicate()[0].strip()
    assert study.returncode == 0
    assert chosen.endswith("1")
    assert {json.loads(path.read_text()) for path in tmp_path.rglob("device.json")} == {chosen}
    given = [json.loads(path.read_text()) for path in tmp_path.rglob("given.json")]
    assert {share["XLA_PYTHON_CLIENT_MEM_FRACTION"] for share in given} == {"0.450"}
    assert outcome(tmp_path) == outcome(finished)


def test_a_study_whose_process_is_killed_outright_goes_on_to_the_same_end(
    children, finished, tmp_path
):
    study = child(tmp_path, tick_s=0.05, stderr=subprocess.DEVNULL)
    folder = wait_for_a_checkpoint(study, tmp_path)
    study.send_signal(signal.SIGKILL)
    study.wait()
    assert folder.status()["state"] == "running"
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_workers_that_are_stopped_by_hand_were_interrupted_and_go_on_to_the_same_end(
    children, finished, tmp_path
):
    study = child(tmp_path, step_s=0.4, executor="process", stderr=subprocess.DEVNULL)
    folder = wait_for_a_checkpoint(study, tmp_path)
    study.send_signal(signal.SIGINT)
    study.wait()
    assert folder.status()["state"] == "interrupted"
    assert not {"running", "failed"} & set(states(tmp_path).values())
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def gone(process: int, within_s: float = 20.0) -> bool:
    """Whether a process ends soon."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended, and nobody has asked how
            return True
        time.sleep(0.05)
    return False


def runner_of(folder) -> int:
    """The process that runs a cell."""
    return json.loads((folder.path / HOLD).read_text())["process"]


def test_workers_whose_study_is_killed_outright_end_and_another_goes_on_to_the_same_end(
    children, finished, tmp_path
):
    study = child(tmp_path, step_s=0.4, executor="process", stderr=subprocess.DEVNULL)
    folder = wait_for_a_checkpoint(study, tmp_path)
    worker = runner_of(folder)
    assert worker != study.pid
    study.send_signal(signal.SIGKILL)
    study.wait()
    assert gone(worker)
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


COMMAND = """
import sys
from steelyard.cli import main
main(["study", "run", "toy", "--preset", "only", "--seconds-per-step", "0.4", *sys.argv[1:]])
"""


def test_a_study_told_to_end_stops_its_workers_and_goes_on_later(children, finished, tmp_path):
    words = ["--runs", str(tmp_path), "--executor", "process"]
    study = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE, text=True
    )
    with study:
        config = ToyConfig(seconds_per_step=0.4)
        folder = Store(tmp_path, "toy").folder(cells_of(tmp_path, config)["start", 3])
        while "checkpoint" not in folder.status():
            assert study.poll() is None, "the study ended before its first checkpoint"
            time.sleep(0.01)
        worker = runner_of(folder)
        study.terminate()
        told = study.communicate()[1]
    assert study.returncode == 143, told
    assert told.endswith("stopped; the same command goes on from the last checkpoint\n")
    assert gone(worker)
    assert folder.status()["state"] == "interrupted"
    run(tmp_path, config=ToyConfig())
    assert outcome(tmp_path) == outcome(finished)


def test_the_second_process_on_one_study_is_told_who_runs_it(children, tmp_path):
    first = child(tmp_path, step_s=0.2, stderr=subprocess.DEVNULL)
    wait_for_a_checkpoint(first, tmp_path)
    with pytest.raises(HeldError, match=f"is written by process {first.pid} on "):
        run(tmp_path, ToyConfig(seconds_per_step=0.2))
    first.kill()
    first.wait()


def test_a_run_that_two_studies_share_is_waited_for_and_not_run_twice(
    children, finished, tmp_path, capsys
):
    first = child(tmp_path, step_s=0.1, stderr=subprocess.DEVNULL)
    wait_for_a_checkpoint(first, tmp_path)
    run(tmp_path)  # another config, so another study, of the same cells
    assert "waiting for it" in capsys.readouterr().err
    assert first.wait() == 0
    assert outcome(tmp_path) == outcome(finished)
