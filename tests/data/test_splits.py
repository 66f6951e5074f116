"""Splits share no trajectory, are written down with hashes; scales come from training data."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_examples import example_trajectories

from steelyard.data.findings import DatasetError
from steelyard.data.splits import (
    Split,
    check_split,
    choose,
    random_split,
    read_split,
    reference_split,
    write_split,
)
from steelyard.data.standardise import fit_standardisers, load_standardisers, save_standardisers
from steelyard.data.trajectories import concatenate

DATA = example_trajectories(tuple([3] * 20))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), test=st.integers(1, 9), validation=st.integers(1, 9))
def test_splits_share_no_trajectory_and_lose_none(seed, test, validation):
    split = random_split(DATA, test, validation, seed)
    parts = split.parts()
    assert [len(parts["test/test"]), len(parts["validation"])] == [test, validation]
    assert sorted(name for names in parts.values() for name in names) == sorted(DATA.ids)
    assert split == random_split(DATA, test, validation, seed)


def test_reference_split_tests_the_last_and_selects_a_tenth_of_the_rest():
    order = [f"run{i}" for i in np.random.default_rng(1).permutation(1000)]
    split = reference_split(order)
    assert split.test["test"] == tuple(order[-50:])
    assert (len(split.train), len(split.validation)) == (855, 95)
    assert set(split.train) | set(split.validation) == set(order[:-50])
    assert split.validation != reference_split(order, seed=43).validation


def test_a_split_survives_its_file_and_yields_the_named_parts(tmp_path):
    split = random_split(DATA, 5, 3, 0)
    write_split(split, DATA, tmp_path)
    assert read_split(tmp_path, DATA) == split
    train, validation, tests = split.apply(DATA)
    assert (train.ids, validation.ids) == (split.train, split.validation)
    assert tests["test"].ids == split.test["test"]


def test_a_split_refuses_other_data_than_it_was_made_for(tmp_path):
    path = write_split(random_split(DATA, 5, 3, 0), DATA, tmp_path)
    with pytest.raises(DatasetError, match="must be the one that was split"):
        read_split(path, example_trajectories(tuple([3] * 20), seed=1))
    with pytest.raises(DatasetError, match="are not in the data"):
        read_split(path, DATA.select(range(5)))
    path.write_text(json.dumps({"schema": "other"}))
    with pytest.raises(DatasetError, match="this reads 'steelyard-split-1'"):
        read_split(path)


def test_the_same_recording_under_two_names_in_two_parts_is_an_error():
    copy = concatenate([DATA, example_trajectories(tuple([3] * 20), prefix="copy")])
    split = Split("by hand", ("run0", "run1"), ("run2",), {"test": ("copy1",)})
    with pytest.raises(DatasetError, match=r"'run1' in 'train' and 'copy1' in 'test/test'"):
        check_split(split, copy)
    check_split(Split("by hand", ("run1", "copy1"), ("run2",), {"test": ("run3",)}), copy)


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [(("a", "b"), ("a",), "'a' is in 'train' and in 'validation'"), ((), ("a",), "must not be em")],
)
def test_a_name_in_two_parts_and_an_empty_part_are_errors(train, validation, message):
    with pytest.raises(DatasetError, match=message):
        Split("by hand", train, validation, {})


@pytest.mark.parametrize("count", [0, 6])
def test_evaluating_none_or_more_than_the_test_set_is_an_error(count):
    with pytest.raises(DatasetError, match=rf"\[1, 5\].*got {count}"):
        choose(DATA.ids[:5], count)


def test_chosen_test_trajectories_are_the_first_or_a_draw_without_repetition():
    names = DATA.ids[:9]
    assert choose(names, 3) == list(names[:3])
    drawn = choose(names, 9, random=True, seed=3)
    assert sorted(drawn) == sorted(names)
    assert drawn == choose(names, 9, random=True, seed=3) != list(names)


def test_a_split_that_leaves_nothing_to_train_on_is_an_error():
    with pytest.raises(DatasetError, match="leave at least 1 of 20"):
        random_split(DATA, 10, 10, 0)
    with pytest.raises(DatasetError, match="leave 2 of 20"):
        reference_split(DATA.ids, test=19)


def test_standardisers_give_mean_zero_and_std_one_on_training_data_and_one_scale_for_twists(
    tmp_path,
):
    fitted = fit_standardisers(DATA)
    rows = DATA.step_rows()
    commands = np.concatenate([np.zeros((len(rows), 3)), DATA.command[rows]], axis=1)
    scaled = fitted.input.standardise(commands)[:, 3:]
    twist = fitted.target.standardise(DATA.twist)
    for each in (scaled, twist):
        np.testing.assert_allclose(each.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(each.std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(fitted.target.restore(twist), DATA.twist, atol=1e-5)
    np.testing.assert_array_equal(fitted.input.std[:3], fitted.target.std)
    save_standardisers(fitted, tmp_path)
    loaded = load_standardisers(tmp_path / "standardizers.json")
    np.testing.assert_array_equal(loaded.input.mean, fitted.input.mean)
    assert loaded.input.columns[3] == "velocity command"


def test_a_constant_column_is_named(tmp_path):
    command = np.array(DATA.command)
    command[:, 1] = 0.3
    with pytest.raises(DatasetError, match="column 'steering command' must vary"):
        fit_standardisers(example_trajectories(tuple([3] * 20), command=command))
    target = {"mean": [0, 0, 0], "std": [1, 0, 1]}
    path = tmp_path / "standardizers.json"
    path.write_text(json.dumps({"input": {"mean": [0] * 5, "std": [1] * 5}, "target": target}))
    with pytest.raises(DatasetError, match=r"standardizers.json: column 'vy'.*deviation is 0"):
        load_standardisers(path)
