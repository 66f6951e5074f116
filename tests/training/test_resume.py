"""A kill at any moment loses the work since the last checkpoint, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_runs import (
    BC_RUN,
    IPMD_RUN,
    SAC_RUN,
    Killed,
    assert_same_runs,
    demonstrations,
    dying_at,
    group,
    silent,
    state_of,
)

from steelyard.training.checkpoint import save_tree
from steelyard.training.group import common_steps
from steelyard.training.recipes import train_bc, train_ipmd, train_sac
from steelyard.training.run_folder import RunFolder


def data(episodes: int = 10):
    return [demonstrations(episodes, seed) for seed in (0, 1)]


def ipmd(root: Path, tick) -> None:
    train_ipmd(IPMD_RUN, group(root), data(), tick)


def sac(root: Path, tick) -> None:
    train_sac(SAC_RUN, group(root), tick)


def bc(root: Path, tick) -> None:
    train_bc(BC_RUN, group(root), data(50), tick)


# Before the first checkpoint, just before, at and after a later one, and at the very end.
@pytest.mark.parametrize("step", [40, 160, 200, 320])
def test_an_interrupted_ipmd_run_ends_as_the_uninterrupted_one(step, ipmd_root, tmp_path):
    with pytest.raises(Killed):
        ipmd(tmp_path, dying_at(step))
    ipmd(tmp_path, silent)
    assert_same_runs(ipmd_root, tmp_path)


def test_a_sac_run_that_is_interrupted_twice_ends_as_the_uninterrupted_one(sac_root, tmp_path):
    for step in (120, 280):
        with pytest.raises(Killed):
            sac(tmp_path, dying_at(step))
    sac(tmp_path, silent)
    assert_same_runs(sac_root, tmp_path)


@pytest.mark.parametrize("step", [250, 750])
def test_an_interrupted_bc_run_ends_as_the_uninterrupted_one(step, bc_root, tmp_path):
    with pytest.raises(Killed):
        bc(tmp_path, dying_at(step))
    bc(tmp_path, silent)
    assert_same_runs(bc_root, tmp_path)


def test_a_finished_run_started_again_changes_nothing(ipmd_root, tmp_path):
    ipmd(tmp_path, silent)
    ipmd(tmp_path, dying_at(0))  # would die at the first frame it trains
    assert_same_runs(ipmd_root, tmp_path)


CHILD = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from tiny_runs import IPMD_RUN, demonstrations, group
from steelyard.training.recipes import train_ipmd
data = [demonstrations(seed=seed) for seed in (0, 1)]
train_ipmd(IPMD_RUN, group(Path(sys.argv[1])), data, lambda *_: time.sleep(0.5))
"""


def test_a_process_killed_outright_is_resumed_to_the_same_end(ipmd_root, compiler, tmp_path):
    code = CHILD.format(here=str(Path(__file__).parent))
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=compiler)
    last = RunFolder(tmp_path / "1")
    while "checkpoint" not in last.status():
        assert child.poll() is None, "the child ended before its first checkpoint"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert last.status()["state"] == "running"
    assert last.status()["step"] < IPMD_RUN.loop.frames
    ipmd(tmp_path, silent)
    assert_same_runs(ipmd_root, tmp_path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from steelyard.training.checkpoint import save_tree
for i in range(10_000):
    save_tree(Path(sys.argv[1]), [np.full(1_000_000, i) for _ in range(4)])
"""


def test_a_kill_while_a_file_is_written_leaves_the_previous_one_whole(tmp_path):
    path = tmp_path / "tree.safetensors"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    while not path.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    values = {value for array in load_file(path).values() for value in np.unique(array)}
    assert len(values) == 1


def test_a_group_cut_off_between_its_files_stays_at_its_last_checkpoint(tmp_path):
    runs = group(tmp_path)
    like = {"weights": jnp.zeros(3)}
    runs.restore(like)
    runs.save({"weights": jnp.ones((2, 3))}, 10, 1)
    blocked = runs.folders[1].checkpoints / f"state_20.safetensors.{os.getpid()}.tmp"
    blocked.mkdir()  # the second run's file cannot be written
    with pytest.raises(Exception, match="irectory"):
        runs.save({"weights": jnp.full((2, 3), 2.0)}, 20, 2)
    blocked.rmdir()
    state, step, generation = group(tmp_path).restore(like)
    assert (step, generation) == (10, 1)
    np.testing.assert_array_equal(state["weights"], np.ones((2, 3)))


def test_what_a_kill_left_half_written_is_ignored_and_then_removed(tmp_path):
    runs = group(tmp_path, (0,))
    runs.restore({"weights": jnp.zeros(3)})
    runs.folders[0].checkpoints.mkdir(parents=True)
    (runs.folders[0].checkpoints / "state_5.safetensors.123.tmp").write_bytes(b"half")
    runs.save({"weights": jnp.ones((1, 3))}, 10, 1)
    assert str(state_of(tmp_path)["file"]) == "state_10.safetensors"


def test_runs_at_different_steps_do_not_go_on_together(tmp_path):
    for seed, step in ((0, 10), (1, 20)):
        alone = group(tmp_path, (seed,))
        alone.restore({"weights": jnp.zeros(3)})
        alone.save({"weights": jnp.ones((1, 3))}, step, 1)
    with pytest.raises(ValueError, match=r"same step; got \{0: 10, 1: 20\}"):
        group(tmp_path).restore({"weights": jnp.zeros(3)})


def test_a_line_cut_short_is_dropped_and_made_again(ipmd_root, tmp_path):
    with pytest.raises(Killed):
        ipmd(tmp_path, dying_at(200))
    with (tmp_path / "0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 240, "loss_act')
    ipmd(tmp_path, silent)
    assert_same_runs(ipmd_root, tmp_path)


def at(root: Path, seed: int, steps: list[int], status: int) -> RunFolder:
    """A run with checkpoints of some steps, whose status tells of one."""
    alone = group(root, (seed,))
    for step in steps:
        save_tree(alone.folders[0].checkpoints / f"state_{step}.safetensors", tree(step))
    alone.folders[0].set_status(
        "running", step=status, generation=status // 10, checkpoint=f"state_{status}.safetensors"
    )
    return alone.folders[0]


def tree(step: int):
    return {"weights": jnp.full(3, float(step))}


def test_a_group_cut_off_between_two_statuses_goes_on_from_its_newest_checkpoint(tmp_path):
    at(tmp_path, 0, [10, 20], 20)
    at(tmp_path, 1, [10, 20], 10)  # its status was not written any more
    runs = group(tmp_path)
    state, step, generation = runs.restore(tree(0))
    assert (step, generation) == (20, 2)
    np.testing.assert_array_equal(state["weights"], np.full((2, 3), 20.0))
    assert [folder.status()["step"] for folder in runs.folders] == [20, 20]


def test_a_run_without_the_checkpoint_of_those_ahead_stays_apart(tmp_path):
    folders = [at(tmp_path, 0, [20], 20), at(tmp_path, 1, [10, 20], 10), at(tmp_path, 2, [10], 10)]
    assert common_steps(folders) == [20, 10, 10]
    assert common_steps(folders[:2]) == [20, 20]
