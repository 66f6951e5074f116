"""Datasets of others as offline data: success ends an episode, and the data say how it is paid."""

import numpy as np
import pytest

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.findings import DatasetError
from steelyard.data.ogbench_files import (
    _single_task_episodes,
    load_ogbench,
    read_columns,
    write_ogbench,
)
from steelyard.data.provenance import Provenance
from steelyard.envs.ogbench import base_name, sparse_reward
from steelyard.studies.offline2online.datasets import (
    as_sparse,
    content_hash,
    load_offline_data,
    offline_files,
)
from steelyard.studies.offline2online.names import find_task
from steelyard.types import EnvSpec

SPEC = EnvSpec("example", 2, (-1.0,), (1.0,), 10, can_terminate=True)


def data(*rewards, terminated=False):
    episodes = [
        Episode(
            observations=np.arange(2 * (len(own) + 1), dtype=np.float32).reshape(-1, 2),
            actions=np.zeros((len(own), 1), np.float32),
            rewards=np.array(own, np.float32),
            terminated=terminated,
            truncated=not terminated,
        )
        for own in rewards
    ]
    return Demonstrations.from_episodes(episodes, SPEC, Provenance("example"))


def test_held_success_is_one_episode():
    found = as_sparse(data([0, 0, 1, 1, 1], [0, 0, 0]))
    assert found.lengths.tolist() == [3, 3]
    assert found.rewards.tolist() == [-1, -1, 0, -1, -1, -1]
    assert found.terminations.tolist() == [False, False, True, False, False, False]
    np.testing.assert_array_equal(next(found.episodes()).observations[-1], [6, 7])


def test_reward_convention_is_read_from_data():
    shifted = as_sparse(data([0, 1], [0, 0]))
    already = as_sparse(data([-1, 0], [-1, -1]))
    np.testing.assert_array_equal(shifted.rewards, already.rewards)
    np.testing.assert_array_equal(shifted.terminations, already.terminations)
    parts = as_sparse(data([-3, -1, 0]), sparse=True)
    assert parts.rewards.tolist() == [-1, -1, 0]
    assert as_sparse(data([-3, -1, 0])).rewards.tolist() == [-3, -1, 0]


def test_rewards_of_neither_kind_are_refused_with_their_place():
    message = r"rewards are 0 and 1 \(1 at success\), or at most 0.*episode 1, row 2 has 0.5"
    with pytest.raises(DatasetError, match=message):
        as_sparse(data([0, 1], [0, 0, 0.5]))
    with pytest.raises(ValueError, match="row 1 has 2"):
        sparse_reward(np.array([0.0, 2.0]))


def play(steps, seed=0, buttons=False):
    random = np.random.default_rng(seed)
    columns = {
        "observations": random.standard_normal((steps, 28)).astype(np.float32),
        "actions": random.uniform(-1, 1, (steps, 5)).astype(np.float32),
        "qpos": random.standard_normal((steps, 21)).astype(np.float32),
        "qvel": random.standard_normal((steps, 20)).astype(np.float32),
    }
    return columns | ({"button_states": np.zeros((steps, 2), np.int64)} if buttons else {})


def test_a_file_is_written_as_ogbench_writes_it_and_read_without_unpickling(tmp_path):
    path = write_ogbench(tmp_path / "cube-single-play-v0.npz", [play(7), play(5, 1)], False)
    columns = read_columns(path, buttons=False)
    assert columns["terminals"].tolist() == [*[False] * 6, True, *[False] * 4, True]
    np.testing.assert_array_equal(columns["actions"][:7], play(7)["actions"])
    assert columns["observations"].dtype == np.float32


def test_arrays_that_are_missing_are_named_with_what_they_are_for(tmp_path):
    path = write_ogbench(tmp_path / "scene-play-v0.npz", [play(7)], False)
    with pytest.raises(DatasetError, match=r"no array `button_states`.*states of the buttons"):
        read_columns(path, buttons=True)
    odd = play(7)
    odd["observations"][3, 2] = np.nan
    broken = write_ogbench(tmp_path / "odd.npz", [odd], False)
    with pytest.raises(DatasetError, match="`observations` is not finite in row 3"):
        read_columns(broken, buttons=False)
    with np.load(path) as file:
        short = {k: file[k] for k in file.files}
    np.savez(tmp_path / "short.npz", **short | {"qpos": short["qpos"][:-1]})
    with pytest.raises(DatasetError, match="`actions` has 7 rows, `qpos` 6"):
        read_columns(tmp_path / "short.npz", buttons=False)
    np.savez(tmp_path / "open.npz", **short | {"terminals": np.zeros(7, bool)})
    with pytest.raises(DatasetError, match="terminals must be set in the last row, 6"):
        read_columns(tmp_path / "open.npz", buttons=False)
    (tmp_path / "junk.npz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match="not a readable .npz archive"):
        read_columns(tmp_path / "junk.npz", buttons=False)


def test_play_goes_on_after_a_goal_and_what_holds_it_is_dropped():
    columns = play(10)
    met = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0], bool)
    rewards = np.where(met, 0.0, -1.0)
    found = _single_task_episodes(columns["observations"], columns["actions"], rewards, met)
    assert [len(e.actions) for e in found] == [3, 3, 1]
    assert [e.terminated for e in found] == [True, True, False]
    for episode, first in zip(found, (0, 5, 8), strict=True):
        rows = slice(first, first + len(episode.actions) + 1)
        np.testing.assert_array_equal(episode.observations, columns["observations"][rows])
    assert found[0].rewards.tolist() == [-1, -1, 0]


def test_a_folder_s_files_take_turns_and_validation_is_none_of_them(tmp_path):
    for name in ("a", "b", "c-val"):
        write_ogbench(tmp_path / f"{name}.npz", [play(7)], False)
    assert [p.name for p in offline_files(tmp_path)] == ["a.npz", "b.npz"]
    assert len(content_hash(tmp_path)) == 2
    before = content_hash(tmp_path)
    write_ogbench(tmp_path / "b.npz", [play(7, seed=5)], True)
    assert content_hash(tmp_path)[0] == before[0]
    assert content_hash(tmp_path)[1] != before[1]
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        offline_files(tmp_path / "nothing")


def test_our_own_and_robomimic_files_load_as_sparse_data(tmp_path):
    whole = data([0, 0, 1, 1], [0, 0, 0], [0, 1, 1])
    for format in ("native", "robomimic"):
        path = tmp_path / ("data" if format == "native" else "data.hdf5")
        whole.save(path, format)
        from steelyard.data.formats import load_demonstrations

        found = as_sparse(load_demonstrations(path, SPEC))
        assert found.lengths.tolist() == [3, 3, 2]
        assert found.terminations[[2, 5, 7]].tolist() == [True, False, True]


def test_a_file_of_robomimic_s_layout_loads_as_the_task_sees_it(tmp_path):
    import h5py

    path, random = tmp_path / "low_dim_v15.hdf5", np.random.default_rng(0)
    sizes = {
        "object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2,
        "robot0_joint_pos": 7,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = '{"env_name": "Lift", "type": 1}'
        for number, rewards in enumerate(([0, 0, 1, 1], [0, 0, 0])):
            demo = file["data"].create_group(f"demo_{number}")
            steps = len(rewards)
            demo.attrs["num_samples"] = steps
            frames = {k: random.standard_normal((steps + 1, n)) for k, n in sizes.items()}
            for key, values in frames.items():
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:-1], values[1:]
            demo["actions"] = random.uniform(-1, 1, (steps, 7))
            demo["rewards"] = np.array(rewards, float)
            demo["dones"] = np.array(rewards)  # done_mode 2 marks every success
            if number == 0:
                first = frames
    found = load_offline_data(path, "robosuite/lift")
    assert found.lengths.tolist() == [3, 3]
    assert found.rewards.tolist() == [-1, -1, 0, -1, -1, -1]
    order = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
    expected = np.concatenate([first[key][:4] for key in order], axis=1).astype(np.float32)
    np.testing.assert_allclose(next(found.episodes()).observations, expected, rtol=1e-6)


def test_the_reference_s_names_mean_one_task():
    names = ("square-mh-low", "square-mh-low_dim", "square-mh")
    assert len({find_task(name) for name in names}) == 1
    task = find_task("square-mh-low")
    assert task.env == "robosuite/square"
    assert task.dataset.parts[-4:] == (".robomimic", "square", "mh", "low_dim_v15.hdf5")
    assert find_task("can-mg").dataset.name == "low_dim_sparse_v15.hdf5"
    cube = find_task("cube-double-play-singletask-task2-v0")
    assert cube.env == "ogbench/cube-double-singletask-task2-v0"
    assert cube.dataset.name == "cube-double-play-v0.npz"
    assert find_task("puzzle-3x3-noisy-singletask").env == "ogbench/puzzle-3x3-singletask-v0"
    assert find_task("sparse/Fork-v0").dataset is None
    with pytest.raises(ValueError, match=r"no task 'cube-dobule'.*did you mean"):
        base_name("cube-dobule")


def test_ogbench_itself_opens_ours_and_ours_opens_its_rows(tmp_path):
    ogbench = pytest.importorskip("ogbench")
    from ogbench.utils import load_dataset

    from steelyard.envs.ogbench import play_episode

    assert ogbench
    episodes = [play_episode("cube-single", "play", s, 160).columns for s in (3, 4)]
    path = write_ogbench(tmp_path / "cube-single-play-v0.npz", episodes, False)
    theirs = load_dataset(str(path))
    assert len(theirs["observations"]) == 2 * 159
    assert theirs["terminals"].sum() == 2
    found = load_ogbench(path, "ogbench/cube-single-singletask-v0")
    assert found.num_steps <= 2 * 159
    assert found.rewards.max() <= 0
    ends = np.cumsum(found.lengths) - 1
    np.testing.assert_array_equal(found.rewards[ends] == 0, found.terminations[ends])
    again = load_offline_data(path, "ogbench/cube-single-singletask-v0", proportion=0.5)
    assert len(again) == max(1, round(len(found) / 2))
