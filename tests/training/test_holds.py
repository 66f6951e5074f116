"""A folder has one writer; a lock ends with its process, however that ends."""

import contextlib
import signal
import subprocess
import sys
import time

import pytest

from steelyard.training.holds import HeldError, Hold, hold_to_the_end, holder, is_held

CHILD = """
import sys, time
from pathlib import Path
from steelyard.training.holds import Hold
with Hold([Path(sys.argv[1])]):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def child(folder, seconds):
    words = [sys.executable, "-c", CHILD, str(folder), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_comes_second_is_told_who_writes_the_folder(tmp_path):
    with child(tmp_path, 60) as process:
        with pytest.raises(HeldError, match=f"is written by process {process.pid} on .*, since 20"):
            Hold([tmp_path], patience_s=0.0)
        assert is_held(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path):
    with child(tmp_path, 60) as process:
        process.send_signal(signal.SIGKILL)
    assert not is_held(tmp_path)
    with Hold([tmp_path], patience_s=0.0):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_who_waits_says_so_once_and_gets_the_folder_when_it_is_free(tmp_path):
    told = []
    with child(tmp_path, 0.6):
        start = time.monotonic()
        with Hold([tmp_path], told.append, patience_s=0.0):
            assert time.monotonic() - start > 0.2
    assert len(told) == 1
    assert "waiting for it" in told[0]


def test_what_could_not_be_held_as_a_whole_is_let_go(tmp_path):
    with child(tmp_path / "b", 60), pytest.raises(HeldError):
        Hold([tmp_path / "a", tmp_path / "b"], patience_s=0.0)
    assert not is_held(tmp_path / "a")


def test_one_process_may_hold_a_folder_to_its_end_more_than_once(tmp_path):
    hold_to_the_end(tmp_path)
    hold_to_the_end(tmp_path)
    with pytest.raises(HeldError):
        Hold([tmp_path], patience_s=0.0)


def test_a_damaged_hold_file_names_nobody_and_holds_nothing(tmp_path):
    (tmp_path / ".hold").write_text("{")
    assert holder(tmp_path) == "another process"
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "missing")
