"""Minari: what we write, Minari itself opens; what it writes, we read."""

import importlib.util
import json
import warnings

import h5py
import numpy as np
import pytest
from demonstrations_examples import SPEC, assert_same_arrays, make_demonstrations

from steelyard.data.findings import DatasetError
from steelyard.data.formats import load_demonstrations, load_with_report, save_demonstrations
from steelyard.data.formats.minari import minari_root

needs_minari = pytest.mark.skipif(
    importlib.util.find_spec("minari") is None, reason="minari is not installed"
)


@pytest.fixture
def minari_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def import_minari():
    # Minari and what it imports warn on their own account; only here is that no error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import minari

        return minari


@needs_minari
def test_minari_itself_lists_and_loads_what_we_write(minari_datasets):
    minari = import_minari()
    demonstrations = make_demonstrations()
    save_demonstrations(demonstrations, minari_datasets / "point" / "expert-v3", "minari")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(minari.list_local_datasets()) == ["point/expert-v3"]
        dataset = minari.load_dataset("point/expert-v3")
        theirs = list(dataset.iterate_episodes())
    assert (dataset.total_episodes, dataset.total_steps) == (3, 9)
    assert dataset.env_spec.id == "Point-v1"
    assert dataset.env_spec.max_episode_steps == 200
    assert dataset.action_space.shape == (2,)
    np.testing.assert_array_equal(dataset.action_space.low, np.float32(SPEC.action_low))
    for ours, episode in zip(demonstrations.episodes(), theirs, strict=True):
        np.testing.assert_array_equal(episode.observations, ours.observations)
        np.testing.assert_array_equal(episode.actions, ours.actions)
        np.testing.assert_array_equal(episode.rewards, ours.rewards)
        assert episode.terminations[-1] == ours.terminated
        assert episode.truncations[-1] == ours.truncated
    seeds = [dataset.storage.get_episode_metadata([i]) for i in range(3)]
    assert [next(iter(seed))["seed"] for seed in seeds] == [100, 101, 102]


@needs_minari
def test_what_minari_itself_writes_is_read(minari_datasets):
    minari = import_minari()
    import gymnasium

    demonstrations = make_demonstrations()
    buffers = [
        minari.data_collector.EpisodeBuffer(
            id=None,
            seed=episode.start_seed,
            observations=list(episode.observations),
            actions=list(episode.actions),
            rewards=list(episode.rewards),
            terminations=[False] * (len(episode.actions) - 1) + [episode.terminated],
            truncations=[False] * (len(episode.actions) - 1) + [episode.truncated],
            infos={},
        )
        for episode in demonstrations.episodes()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            "theirs-v0",
            buffers,
            algorithm_name="sac",
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32),
            action_space=gymnasium.spaces.Box(
                np.float32(SPEC.action_low), np.float32(SPEC.action_high), dtype=np.float32
            ),
        )
    loaded = load_demonstrations("theirs-v0")
    assert_same_arrays(loaded, demonstrations)
    np.testing.assert_array_equal(loaded.start_seeds, demonstrations.start_seeds)
    assert (loaded.env_spec.action_low, loaded.env_spec.action_high) == (
        SPEC.action_low,
        SPEC.action_high,
    )
    assert loaded.provenance.algorithm == "sac"


def test_a_dataset_is_found_by_its_id_under_the_minari_root(minari_datasets):
    save_demonstrations(make_demonstrations(), minari_root() / "point" / "expert-v0", "minari")
    assert minari_root() == minari_datasets
    assert len(load_demonstrations("point/expert-v0")) == 3


def test_a_dataset_opens_by_its_root_its_data_folder_and_its_main_file(tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "a-v0", "minari")
    for part in ("", "data", "data/main_data.hdf5"):
        assert len(load_demonstrations(tmp_path / "a-v0" / part)) == 3


@pytest.mark.parametrize("name", ["expert", "expert v0", "v0"])
def test_a_name_that_minari_could_not_find_is_refused_with_a_legal_one(name, tmp_path):
    with pytest.raises(DatasetError, match=r"ends in -v<number>; did you mean .*-v0"):
        save_demonstrations(make_demonstrations(), tmp_path / name, "minari")


def test_a_dictionary_observation_is_refused_with_its_keys(tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "a-v0", "minari")
    with h5py.File(tmp_path / "a-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/observations"]
        file["episode_1/observations/position"] = np.zeros((2, 3))
    with pytest.raises(DatasetError, match=r"episode_1: `observations` must .*\['position'\]"):
        load_demonstrations(tmp_path / "a-v0")


def test_an_unbounded_action_space_is_taken_as_no_bounds_and_noted(tmp_path):
    path = tmp_path / "a-v0"
    save_demonstrations(make_demonstrations(), path, "minari")
    file = path / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    del metadata["steelyard_env_spec"]
    space = json.loads(metadata["action_space"])
    metadata["action_space"] = json.dumps(space | {"low": [-np.inf] * 2, "high": [np.inf] * 2})
    file.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match=r"no action bounds.*pass `env_spec=`"):
        load_demonstrations(path)
    assert load_demonstrations(path, env_spec=SPEC).env_spec == SPEC


def test_an_episode_without_an_end_is_taken_as_truncated_and_noted(tmp_path):
    path = tmp_path / "a-v0"
    save_demonstrations(make_demonstrations(), path, "minari")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        file["episode_1/truncations"][...] = False
    demonstrations, report = load_with_report(path)
    assert demonstrations.truncations[3]
    assert [finding.rule for finding in report.findings] == ["episode end"]
    assert "first: episode 1" in demonstrations.provenance.notes[-1]
