"""The reference's 24 runs of the car on a local cluster, one of whose workers is killed midway."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steelyard.training.holds import HOLD, is_held

COMMAND = """
study run car --preset matrix --seeds 0 1 2 3 4 --simulated.simulator car-single-track
--simulated.train 48 --simulated.validation 8 --simulated.test 16 --simulated.shifts
--learner.steps 60 --learner.eval-every 20 --learner.agent.groups 8 --seed-group 3
"""
CLOCKS = ("seconds", "command", "created")


def study(runs: Path, *more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "steelyard.cli", *COMMAND.split(), "--runs", str(runs), *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def report(runs: Path) -> dict[str, object]:
    """All that the report says, but for how long it took and where."""
    (folder,) = (runs / "car").glob("study_matrix_*")
    rows = [json.loads(line) for line in (folder / "raw.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    return {"raw": without_clocks(rows), "summary": without_clocks(summary)}


def without_clocks(value):
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k not in CLOCKS}
    return [without_clocks(v) for v in value] if isinstance(value, list) else value


def victim(runs: Path, process: subprocess.Popen) -> int:
    """A worker whose runs have a checkpoint and are not at their end."""
    while process.poll() is None:
        for path in (runs / "car").glob("*/status.json"):
            status = json.loads(path.read_text())
            if status["state"] == "running" and status.get("checkpoint") and is_held(path.parent):
                return json.loads((path.parent / HOLD).read_text())["process"]
        time.sleep(0.02)
    raise AssertionError("the study ended before any worker could be killed")


@pytest.mark.slow
def test_24_runs_with_a_worker_killed_midway_report_what_they_do_inline(tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    inline = study(tmp_path / "inline", "--executor", "inline")
    assert inline.communicate()[1] is not None
    assert inline.returncode == 0
    on_cluster = study(tmp_path / "ray", "--executor", "ray", "--workers", "2")
    killed = victim(tmp_path / "ray", on_cluster)
    os.kill(killed, signal.SIGKILL)
    told = on_cluster.communicate()[1]
    assert on_cluster.returncode == 0, told
    expected = report(tmp_path / "inline")
    assert report(tmp_path / "ray") == expected
    assert len(expected["raw"]) == 24
