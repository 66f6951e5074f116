"""Trajectories keep their rules; windows stay inside them; files and hashes are exact."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_examples import example_trajectories

from steelyard.data.findings import DatasetError
from steelyard.data.trajectories import Trajectories, TrajectoryData, concatenate
from steelyard.data.trajectory_files import ARRAYS_FILE, METADATA_FILE


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 15), min_size=1, max_size=5),
    horizon=st.integers(1, 14),
    stride=st.integers(1, 6),
    history=st.integers(0, 5),
)
def test_windows_are_all_that_fit_and_none_crosses_an_end(lengths, horizon, stride, history):
    data = example_trajectories(tuple(lengths))
    if history + horizon > max(lengths) - 1:
        with pytest.raises(DatasetError, match=r"must fit .* the longest has"):
            data.windows(horizon, stride, history)
        return
    expected = [
        (start + first, index)
        for index, (start, length) in enumerate(zip(data.offsets, lengths, strict=True))
        for first in range(history, length - horizon, stride)
    ]
    windows = data.windows(horizon, stride, history)
    assert list(zip(windows.start, windows.trajectory, strict=True)) == expected
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for start, index in expected:
        assert (owner[start - history : start + horizon + 1] == index).all()


def test_gathered_windows_are_the_rows_of_the_data():
    data = example_trajectories()
    windows = data.windows(horizon=3, stride=2, history=2)
    starts = jnp.asarray(windows.start[:4]).reshape(2, 2)
    got = TrajectoryData.of(data).gather(starts, 3, 2)
    assert got.twist.shape == (2, 2, 4, 3)
    assert got.command.shape == (2, 2, 5, 2)
    for place in np.ndindex(2, 2):
        row = int(starts[place])
        np.testing.assert_array_equal(got.twist[place], data.twist[row : row + 4])
        np.testing.assert_array_equal(got.pose[place], data.pose[row : row + 4])
        np.testing.assert_array_equal(got.command[place], data.command[row - 2 : row + 3])
        np.testing.assert_array_equal(got.dt[place], data.dt[row : row + 3])


def test_windows_that_stand_still_throughout_are_left_out():
    twist = np.zeros((20, 3))
    twist[7, 0] = 0.2  # the last state of the first window and the first of the second... is 5
    data = example_trajectories((20,), twist=twist)
    assert data.windows(5, 5, min_speed=0.1).start.tolist() == [5]
    twist[5] = [0.0, -0.3, 0.0]
    assert example_trajectories((20,), twist=twist).windows(5, 5, min_speed=0.1).start.tolist() == [
        0,
        5,
    ]


def test_blocks_number_the_pieces_that_windows_start_in():
    data = example_trajectories((9, 9))
    windows = data.windows(2, 1)
    assert data.blocks(windows, 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5]


def test_rows_of_steps_are_all_states_but_the_last_of_each_trajectory():
    data = example_trajectories((3, 2))
    assert data.step_rows().tolist() == [0, 1, 3]
    assert data.num_steps == 3


def test_selecting_and_joining_again_gives_the_same_content():
    data = example_trajectories()
    parts = [data.select([index]) for index in range(3)]
    joined = concatenate(parts)
    assert joined.sha256 == data.sha256
    assert joined.content_hashes == data.content_hashes
    assert data.select([2, 0]).ids == ("run2", "run0")
    np.testing.assert_array_equal(data.select([2]).twist, data.twist[13:])


def test_content_hash_ignores_names_and_unused_last_rows_and_sees_every_other_number():
    data = example_trajectories((4,))
    other = example_trajectories((4,), prefix="renamed")
    assert data.content_hashes == other.content_hashes
    assert data.sha256 != other.sha256
    for name in ("twist", "pose", "command", "dt"):
        for row, counts in ((2, True), (3, name in ("twist", "pose"))):
            array = np.array(getattr(data, name))
            array[row] += 0.01
            changed = dataclasses.replace(data, **{name: array})
            assert (changed.content_hashes != data.content_hashes) == counts, (name, row)


def test_files_give_back_the_same_trajectories_and_are_the_same_bytes_each_time(tmp_path):
    data = dataclasses.replace(example_trajectories(), metadata={"units": {"dt": "s"}, "n": 3})
    first, second = data.save(tmp_path / "a"), data.save(tmp_path / "b")
    for name in (ARRAYS_FILE, METADATA_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    loaded = Trajectories.load(first)
    assert loaded.sha256 == data.sha256
    assert dict(loaded.metadata) == dict(data.metadata)
    with pytest.raises(FileExistsError, match="never replaced unasked"):
        data.save(first)


def test_damaged_files_are_refused(tmp_path):
    path = example_trajectories().save(tmp_path / "data")
    fields = json.loads((path / METADATA_FILE).read_text())
    (path / METADATA_FILE).write_text(json.dumps({**fields, "ids": ["a", "b", "c"]}))
    with pytest.raises(DatasetError, match="must be those that were written"):
        Trajectories.load(path)
    (path / ARRAYS_FILE).write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="trajectories.safetensors: not a readable"):
        Trajectories.load(path)


def _with(name, row, value):
    array = np.array(getattr(example_trajectories(), name))
    array[row] = value
    return {name: array}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_with("dt", 10, 0.0), r"`dt` must be finite and above 0 s; got 0.0 in .*'run1', state 1"),
        (_with("twist", (3, 1), np.nan), r"vy \(m/s\) is nan in trajectory 'run0', state 3"),
        (_with("pose", (24, 2), np.inf), r"theta \(rad\) is inf in trajectory 'run2', state 11"),
        ({"ids": ("a", "b", "a")}, "'a' occurs 2 times"),
        ({"groups": ("a",)}, "`groups` must name each of the 3 trajectories; got 1"),
        ({"lengths": np.array([9, 1, 15])}, "'run1' has 1"),
        ({"lengths": np.array([9, 4, 13])}, "got 25 rows, `lengths` sum to 26"),
        ({**_with("command", (4, 0), 1.5), "command_kind": "throttle"}, r"\[-1, 1\]; got 1.5"),
    ],
)
def test_a_broken_rule_names_the_trajectory_and_the_value(changes, message):
    with pytest.raises(DatasetError, match=message):
        example_trajectories(**changes)


def test_parts_of_different_commands_or_equal_names_cannot_be_joined():
    data = example_trajectories()
    with pytest.raises(DatasetError, match="one kind"):
        concatenate([data, example_trajectories(kind="throttle", prefix="other")])
    with pytest.raises(DatasetError, match="unique"):
        concatenate([data, data])


@pytest.mark.parametrize("indices", [[], [3], [-1]])
def test_selecting_what_does_not_exist_is_an_error(indices):
    with pytest.raises(DatasetError, match="from 0 to 2"):
        example_trajectories().select(indices)


def test_selecting_an_unknown_group_lists_the_groups():
    with pytest.raises(DatasetError, match=r"no trajectory of group 'fast'; there are \['mixed'\]"):
        example_trajectories().select_groups("fast")


def test_arrays_cannot_be_changed_behind_the_hash():
    with pytest.raises(ValueError, match="read-only"):
        example_trajectories().twist[0, 0] = 1.0
