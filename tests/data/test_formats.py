"""The contract battery of the file formats: every registered format obeys the same laws."""

import contextlib
import dataclasses
import hashlib
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from demonstrations_examples import SPEC, assert_same_arrays, make_demonstrations
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.formats import (
    FORMATS,
    detect_format,
    load_demonstrations,
    load_with_report,
    save_demonstrations,
)

# What each format is written as. A format without an entry here fails the first test below.
EXAMPLE_NAMES = {
    "native": ["plain"],
    "minari": ["point-expert-v0"],
    "robomimic": ["robomimic.hdf5"],
    "d4rl": ["flat.npz", "flat.hdf5"],
}
CASES = [(name, file) for name, files in EXAMPLE_NAMES.items() for file in files]


def files_under(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def bytes_under(path: Path) -> dict[str, str]:
    digests = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files_under(path))
    names = (str(file.relative_to(path)) for file in files_under(path))
    return dict(zip(names, digests, strict=True))


def test_every_registered_format_has_examples_and_every_example_a_format():
    assert set(EXAMPLE_NAMES) == set(FORMATS)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_writes_what_its_own_path_for_proposes(name, tmp_path):
    path = FORMATS[name].path_for(tmp_path / "stem")
    assert save_demonstrations(make_demonstrations(), path, name) == path
    assert detect_format(path).name == name


@pytest.mark.parametrize(("name", "file"), CASES)
@pytest.mark.parametrize("rewards", [True, False])
def test_a_round_trip_is_exact(name, file, rewards, tmp_path):
    demonstrations = make_demonstrations(rewards=rewards)
    save_demonstrations(demonstrations, tmp_path / file, name)
    loaded = load_demonstrations(tmp_path / file)
    assert_same_arrays(loaded, demonstrations)
    assert loaded.env_spec == SPEC


# Strategies draw plain arrays only: what they call must not use `random`, and beartype does.
@st.composite
def any_episodes(draw) -> list[tuple]:
    size, has_rewards = draw(st.integers(1, 3)), draw(st.booleans())
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)

    def episode(length: int) -> tuple:
        terminated = draw(st.booleans())
        return (
            draw(hnp.arrays(np.float32, (length + 1, size), elements=finite)),
            draw(hnp.arrays(np.float32, (length, 2), elements=st.floats(0, 1, width=32))),
            draw(hnp.arrays(np.float32, length, elements=finite)) if has_rewards else None,
            terminated,
            draw(st.booleans()) or not terminated,
            draw(st.integers(-1, 2**40)),
        )

    return [episode(length) for length in draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))]


def build(episodes: list[tuple]) -> Demonstrations:
    """Spread the drawn shares over the action box, exactly at its bounds for 0 and 1."""
    low, high = np.float32(SPEC.action_low), np.float32(SPEC.action_high)
    spec = dataclasses.replace(SPEC, observation_size=episodes[0][0].shape[1])
    built = [
        Episode(observations, np.clip(low + (high - low) * share, low, high), *rest)
        for observations, share, *rest in episodes
    ]
    return Demonstrations.from_episodes(built, spec, make_demonstrations().provenance)


@pytest.mark.parametrize(("name", "file"), CASES)
@given(episodes=any_episodes())
@settings(max_examples=15, deadline=None, database=None)
def test_native_to_format_to_native_is_exact_in_float32(name, file, episodes):
    demonstrations = build(episodes)
    with tempfile.TemporaryDirectory() as folder:
        first, middle, last = Path(folder, "first"), Path(folder, file), Path(folder, "last")
        save_demonstrations(demonstrations, first)
        save_demonstrations(load_demonstrations(first), middle, name)
        save_demonstrations(load_demonstrations(middle), last)
        assert_same_arrays(load_demonstrations(last), demonstrations)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_format_keeps_what_it_does_not_list_as_lost(name, file, tmp_path):
    demonstrations = make_demonstrations()
    save_demonstrations(demonstrations, tmp_path / file, name)
    loaded, lost = load_demonstrations(tmp_path / file), " ".join(FORMATS[name].loses)
    seeds_kept = np.array_equal(loaded.start_seeds, demonstrations.start_seeds)
    assert seeds_kept == ("start_seeds" not in lost)
    if not seeds_kept:
        assert np.all(loaded.start_seeds == -1)
    assert (loaded.provenance == demonstrations.provenance) == ("provenance" not in lost)


def test_native_is_the_only_format_that_loses_nothing():
    assert [name for name, format in FORMATS.items() if not format.loses] == ["native"]


@pytest.mark.parametrize(("name", "file"), CASES)
def test_the_same_content_gives_the_same_bytes(name, file, tmp_path):
    for folder in ("a", "b"):
        save_demonstrations(make_demonstrations(), tmp_path / folder / file, name)
    assert bytes_under(tmp_path / "a" / file) == bytes_under(tmp_path / "b" / file)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_exactly_one_format_claims_a_dataset(name, file, tmp_path):
    path = tmp_path / file
    save_demonstrations(make_demonstrations(), path, name)
    assert [format.name for format in FORMATS.values() if format.matches(path)] == [name]


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_dataset_is_never_replaced_unasked(name, file, tmp_path):
    path = tmp_path / file
    save_demonstrations(make_demonstrations(), path, name)
    before = bytes_under(path)
    other = make_demonstrations(seed=1)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_demonstrations(other, path, name)
    assert bytes_under(path) == before
    save_demonstrations(other, path, name, overwrite=True)
    assert_same_arrays(load_demonstrations(path), other)
    assert [entry.name for entry in tmp_path.iterdir()] == [file], "drafts were left behind"


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_failed_write_leaves_the_old_dataset_and_no_draft(name, file, tmp_path, monkeypatch):
    path = tmp_path / file
    save_demonstrations(make_demonstrations(), path, name)
    before = bytes_under(path)

    def full_disk(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(Demonstrations, "episodes", full_disk)
    monkeypatch.setattr("steelyard.data.formats.native.save_file", full_disk)
    monkeypatch.setattr("steelyard.data.formats.d4rl._write_npz", full_disk)
    monkeypatch.setattr(h5py.Group, "__setitem__", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_demonstrations(make_demonstrations(seed=1), path, name, overwrite=True)
    assert bytes_under(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(("name", "file"), CASES)
def test_two_readers_may_open_one_read_only_dataset_at_once(name, file, tmp_path):
    path = tmp_path / file
    save_demonstrations(make_demonstrations(), path, name)
    for item in files_under(path):
        item.chmod(0o444)
    with contextlib.ExitStack() as first_reader:
        for item in files_under(path):
            first_reader.enter_context(item.open("rb"))
            if item.suffix == ".hdf5":
                first_reader.enter_context(h5py.File(item, "r"))
        assert_same_arrays(load_demonstrations(path), make_demonstrations())


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_damaged_dataset_gives_an_error_that_names_the_file(name, file, tmp_path):
    path = tmp_path / file
    save_demonstrations(make_demonstrations(), path, name)
    largest = max(files_under(path), key=lambda item: item.stat().st_size)
    if name == "native":
        largest = path / "expert_buffer.safetensors"
    largest.write_bytes(largest.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=path.stem):
        load_demonstrations(path)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_task_that_differs_from_the_files_is_shown_side_by_side(name, file, tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / file, name)
    other = dataclasses.replace(SPEC, id="Other-v2", action_high=(2.0, 4.0))
    with pytest.raises(DatasetError) as error:
        load_demonstrations(tmp_path / file, env_spec=other)
    assert "dataset Point-v1  |  environment Other-v2" in str(error.value)
    assert "dataset [2.0, 3.0]  |  environment [2.0, 4.0]" in str(error.value)


@pytest.mark.parametrize(("name", "file"), CASES)
def test_a_clean_dataset_gives_no_finding(name, file, tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / file, name)
    _, report = load_with_report(tmp_path / file)
    assert report.findings == ()
    assert report.ok
    assert report.format == name


# -- what is no dataset ----------------------------------------------------------------------------


def test_an_unknown_format_name_lists_the_legal_ones(tmp_path):
    with pytest.raises(DatasetError, match="unknown format 'rlds'; legal: native, minari"):
        save_demonstrations(make_demonstrations(), tmp_path / "x", "rlds")


def test_a_file_of_no_known_format_lists_what_each_looks_for(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no data")
    with pytest.raises(DatasetError, match=r"(?s)no known format.*expert_buffer.safetensors.*npz"):
        load_demonstrations(path)


@pytest.mark.parametrize("path", ["HalfCheetah-v5/seed9", ""])
def test_a_missing_dataset_gives_path_formats_nearest_and_the_command(path, tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "HalfCheetah-v5" / "seed0")
    asked = tmp_path / path
    with pytest.raises(DatasetNotFoundError) as error:
        load_demonstrations(asked)
    text = str(error.value)
    assert str(asked) in text
    assert "expert_buffer.safetensors" in text
    assert f"nearest dataset: {tmp_path / 'HalfCheetah-v5' / 'seed0'}" in text
    assert "steelyard train sac --env " in text
    if path:
        assert "--env HalfCheetah-v5" in text


@pytest.mark.parametrize("suffix", [".pt", ".PT", ".pth", ".pkl", ".pickle"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_file_is_never_opened_and_the_recipe_is_named(suffix, inside, tmp_path):
    path = tmp_path / "data" / f"expert_buffer{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"\x80\x04")
    path.chmod(0o000)
    with pytest.raises(DatasetError, match=r"never does.*docs/coming-from\.md"):
        load_demonstrations(path.parent if inside else path)


def test_object_arrays_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "objects.npz"
    columns = {name: np.zeros((2, 2), np.float32) for name in ("observations", "actions")}
    np.savez(path, **columns, terminals=np.array([None, {}], dtype=object))
    with pytest.raises(DatasetError, match="`terminals` must hold numbers; pickled objects"):
        load_demonstrations(path)
