"""Groups as Ray tasks: the same results, kills overcome, errors told, nothing on the network."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_runs import cells_of, outcome, states
from toy_study import ToyConfig

from steelyard.studies.cells import Store
from steelyard.studies.cluster import RayExecutor
from steelyard.studies.executors import Options
from steelyard.training.holds import HOLD, is_held

CHILD = """
import contextlib, json, sys
from pathlib import Path
from toy_study import STUDY, ToyConfig
from steelyard.studies.engine import Options, run_study

@contextlib.contextmanager
def progress(description, total):
    yield lambda step, note="": None

changed = json.loads(sys.argv[2])
config = ToyConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in changed.items()})
options = Options(Path(sys.argv[1]), executor="ray", workers=2, **json.loads(sys.argv[3]))
run_study(STUDY, config, "only", "cmd", options, progress)
"""


@contextlib.contextmanager
def child(root: Path, config: ToyConfig = ToyConfig(), **options):
    """A study on a cluster of its own, in a process of its own."""
    pytest.importorskip("ray", reason="needs the extra ray")
    changed = {k: v for k, v in vars(config).items() if v != getattr(ToyConfig(), k)}
    words = [sys.executable, "-c", CHILD, str(root), json.dumps(changed), json.dumps(options)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


def ended(run: subprocess.Popen) -> tuple[int, str]:
    told = run.communicate(timeout=240)[1]
    return run.returncode, told


def worker_of(root: Path, arm: str, seed: int, config: ToyConfig) -> int:
    """The process that runs a cell, once it has a checkpoint."""
    folder = Store(root, "toy").folder(cells_of(root, config)[arm, seed])
    deadline = time.monotonic() + 240
    while "checkpoint" not in folder.status() or not is_held(folder.path):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    return json.loads((folder.path / HOLD).read_text())["process"]


def listening() -> set[str]:
    """Addresses that this machine's processes listen on, all but loopback."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            place, state = line.split()[1], line.split()[3]
            host = place.partition(":")[0]
            loopback = ("0100007F", "0000000000000000FFFF00000100007F", "0" * 31 + "1")
            if state == "0A" and host not in (*loopback, "0" * 24 + "01000000"):
                found.add(place)
    return found


def given(root: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(root.rglob("given.json"))]


def test_a_killed_worker_is_replaced_and_all_ends_as_if_it_had_not_been(
    children, finished, tmp_path
):
    before, config = listening(), ToyConfig(seconds_per_step=0.05)
    with child(tmp_path, config, num_gpus=1, gpus_per_run=0.33) as run:
        victim = worker_of(tmp_path, "start", 1, config)
        opened = listening() - before
        os.kill(victim, signal.SIGKILL)
        code, told = ended(run)
    assert code == 0, told
    assert outcome(tmp_path) == outcome(finished)
    assert set(states(tmp_path).values()) == {"done"}
    assert not opened, "Ray listens on more than loopback"
    shares = given(tmp_path)
    assert victim not in {share["process"] for share in shares}
    assert {share["XLA_PYTHON_CLIENT_MEM_FRACTION"] for share in shares} == {"0.297"}
    assert {share["CUDA_VISIBLE_DEVICES"] for share in shares} == {"0"}
    if (os.cpu_count() or 1) > 1:
        assert max(len(share["cores"]) for share in shares) <= (os.cpu_count() or 1) // 2


def test_what_fails_is_told_when_the_others_have_run_and_divergence_is_a_result(
    children, finished, tmp_path
):
    config = ToyConfig(raises=(1,), falls=(2,))
    with child(tmp_path, config, seed_group=1) as run:
        code, told = ended(run)
    assert code == 1
    line = told.splitlines()[-1]
    assert re.search(r"WorkerError: start failed: RuntimeError: a walker stumbled$", line), told
    ends = states(tmp_path, config)
    assert (ends["start", 1], ends["start", 2], ends["start", 3]) == ("failed", "diverged", "done")
    assert (ends["go_on", 1], ends["go_on", 2], ends["go_on", 3]) == ("skipped", "skipped", "done")
    assert outcome(tmp_path, config)["go_on", 3] == outcome(finished)["go_on", 3]


@pytest.mark.slow
def test_a_worker_that_is_killed_once_too_often_is_told_and_the_study_goes_on_later(
    children, finished, tmp_path
):
    config = ToyConfig(seconds_per_step=0.05)
    with child(tmp_path, config, retries=0) as run:
        os.kill(worker_of(tmp_path, "start", 1, config), signal.SIGKILL)
        code, told = ended(run)
    assert code == 1
    assert "start failed: its worker was killed again and again" in told
    assert states(tmp_path)["start", 1] == "failed"
    assert states(tmp_path)["alone", 1] == "done"
    with child(tmp_path) as run:
        assert ended(run)[0] == 0
    assert outcome(tmp_path) == outcome(finished)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus_per_run": -0.1}, "gpus_per_run must be at least 0, got -0.1"),
        ({"gpus_per_run": 1.5}, "gpus_per_run above 1 must be whole, got 1.5"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"cpus_per_run": 0}, "cpus_per_run must be at least 1, got 0"),
    ],
)
def test_shares_that_make_no_sense_are_refused_before_any_work(options, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        RayExecutor(Options(tmp_path, **options))
