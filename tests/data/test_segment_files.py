"""Segments at rest: the round trip, what labelling reads, and what is refused."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from test_preferences import played

from steelyard.data.findings import DatasetError
from steelyard.data.segments import PER_ITEM, load_segments, save_segments


def test_the_round_trip_keeps_every_bit(tmp_path):
    segments = played([0, 1, 0])
    random = np.random.default_rng(0)
    segments = dataclasses.replace(
        segments,
        action=random.uniform(-1, 1, segments.action.shape).astype(np.float32),
        behaviour_logp=np.full(segments.valid.shape, np.nan, np.float32),
        env_options={"b": 1},
    )
    again = load_segments(save_segments(tmp_path / "d", segments))
    for name in PER_ITEM:
        assert np.array_equal(getattr(again, name), getattr(segments, name), equal_nan=True), name
    for field in dataclasses.fields(segments.played):
        assert np.array_equal(
            getattr(again.played, field.name), getattr(segments.played, field.name)
        )
    assert (again.env, again.env_options) == ("Pendulum-v1", {"b": 1})
    assert again.checkpoints == ("a", "b")


def test_the_first_segment_starts_at_zero_and_the_next_after_its_length(tmp_path):
    info = json.loads(
        (save_segments(tmp_path / "d", played([0, 1])) / "segment_info.json").read_text()
    )
    assert [s["start_time"] for s in info["segments"]] == [0.0, 0.1]
    assert [s["duration"] for s in info["segments"]] == [0.1, 0.1]
    assert info["segments"][1]["video_path"] == "videos/segment_000001.webm"


def test_segments_that_judgements_may_refer_to_are_not_replaced(tmp_path):
    save_segments(tmp_path / "d", played([0]))
    with pytest.raises(FileExistsError, match="judgements may refer"):
        save_segments(tmp_path / "d", played([0]))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("action", 1.5, r"actions lie in \[-1, 1\]: segment 0, step 0, component 0 is 1.5"),
        ("observation", np.nan, "`observation` must be finite: segment 0, step 0, component 0"),
        ("reward", np.inf, "`reward` must be finite: segment 0, step 0"),
    ],
)
def test_bad_numbers_are_named(field, value, says):
    segments = played([0])
    broken = getattr(segments, field).copy()
    broken.flat[0] = value
    with pytest.raises(DatasetError, match=says):
        dataclasses.replace(segments, **{field: broken})


def test_a_segment_without_a_valid_step_is_refused():
    segments = played([0, 0])
    with pytest.raises(DatasetError, match="segment 1 has none"):
        dataclasses.replace(segments, valid=np.array([[True, False], [False, False]]))


def test_files_that_are_damaged_newer_or_absent_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="steelyard data segments"):
        load_segments(tmp_path)
    folder = save_segments(tmp_path / "d", played([0]))
    with h5py.File(folder / "segments.h5", "a") as file:
        file.attrs["schema"] = 99
    with pytest.raises(DatasetError, match="schema 99"):
        load_segments(folder)
    with h5py.File(folder / "segments.h5", "a") as file:
        file.attrs["schema"] = 1
        del file["reward"]
    with pytest.raises(DatasetError, match="a part is missing"):
        load_segments(folder)
    (folder / "segments.h5").write_bytes(b"no HDF5")
    with pytest.raises(DatasetError, match="can be read"):
        load_segments(folder)
