"""Loops that are killed at any file operation or moment end as if they had not been."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_loops.py")


def kill(out: Path, *words: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return json.loads(out.read_text())["loops"]


def test_a_study_of_walkers_is_killed_thirty_times_and_ends_the_same(tmp_path):
    (tally,) = kill(tmp_path / "kills.json", "--kills", "30", "--loops", "toy").values()
    assert tally["kills"] >= 30
    assert tally["before_writes"] > 5


def test_a_loop_that_loses_a_file_or_ends_differently_is_found(tmp_path):
    """The comparison itself: a change in any file that counts is seen."""
    sys.path.insert(0, str(SCRIPT.parent))
    from kill_loops import Contents

    for name, told in (("clean", 1), ("other", 2)):
        for file in ("status.json", "metrics.jsonl"):
            path = tmp_path / name / "car" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"step": told, "seconds": told}) + "\n")
    (tmp_path / "clean" / "car" / "only.npz").write_bytes(b"")
    (tmp_path / "other" / "car" / "status.json.7.tmp").write_text("half")
    clean, other = Contents(tmp_path / "clean"), Contents(tmp_path / "other")
    differences, lost, left = clean.compare(other)
    assert [text.partition(":")[0] for text in differences] == [
        "car/metrics.jsonl",
        "car/status.json",
    ]
    assert differences[1].endswith("step 1 / 2")
    assert lost == ["car/only.npz"]
    assert left == ["car/status.json.7.tmp"]


@pytest.mark.slow
def test_every_study_is_killed_and_ends_the_same(tmp_path):
    found = kill(tmp_path / "kills.json", "--kills", "20")
    assert set(found) == {"imitation", "car", "assembly", "offline2online", "piano"}
