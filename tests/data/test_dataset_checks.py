"""The import checks: each on a file with exactly that fault."""

import dataclasses

import h5py
import numpy as np
import pytest
from demonstrations_examples import SPEC, arrays_of, flat_columns, make_demonstrations

from steelyard.data.checks import check_dataset, compare_specs, inspect
from steelyard.data.findings import DatasetError
from steelyard.data.formats import load_demonstrations, load_with_report, save_demonstrations
from steelyard.types import EnvSpec

PENDULUM = EnvSpec("Pendulum-v1", 3, (-2.0,), (2.0,), 200, False)


@pytest.fixture
def flat(tmp_path):
    """Write columns as a D4RL file and return its path."""

    def write(columns, name="flat.npz"):
        np.savez(tmp_path / name, **columns)
        return tmp_path / name

    return write


def columns_with(name, index, value, **options):
    columns = flat_columns(make_demonstrations(**options))
    columns[name][index] = value
    return columns


def failure(path, rule, **options):
    """Check a dataset and return its only error, which must be of ``rule``."""
    report = check_dataset(path, **options)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [finding.rule for finding in errors] == [rule]
    assert not report.ok
    assert "not usable" in str(report)
    with pytest.raises(DatasetError):
        load_demonstrations(path, **options)
    return errors[0]


# -- the rows of a file ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["actions", "rewards"])
def test_a_row_that_is_not_finite_is_named(name, flat):
    error = failure(flat(columns_with(name, 6, np.nan)), "finite", env_spec=SPEC)
    assert (error.episode, error.row) == (2, 2)
    assert f"`{name}` must be finite; episode 2, row 2 holds nan" in error.message


def test_an_observation_that_is_not_finite_is_named(flat):
    columns = columns_with("observations", 6, np.inf)
    columns["next_observations"][5] = np.inf
    error = failure(flat(columns), "finite", env_spec=SPEC)
    assert (error.episode, error.row) == (2, 2)


def test_a_number_too_large_for_float32_is_named_as_not_finite(flat):
    columns = columns_with("rewards", 6, 0.0)
    columns["rewards"] = columns["rewards"].astype(np.float64)
    columns["rewards"][6] = 1e300
    assert failure(flat(columns), "finite", env_spec=SPEC).row == 2


def test_columns_of_different_lengths_give_both_numbers(flat):
    columns = flat_columns(make_demonstrations())
    columns["rewards"] = columns["rewards"][:-1]
    error = failure(flat(columns), "readable", env_spec=SPEC)
    assert "9 `actions`, 8 `rewards`" in error.message


def test_an_episode_with_one_observation_too_few_gives_both_numbers(tmp_path):
    path = tmp_path / "a-v0"
    save_demonstrations(make_demonstrations(), path, "minari")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        file["episode_2/observations"].resize(5, axis=0)
    error = failure(path, "lengths")
    assert "episode 2 has 5 actions, which need 6 rows of `observations`; got 5" in error.message


def test_an_empty_episode_is_named(tmp_path):
    path = tmp_path / "a.hdf5"
    save_demonstrations(make_demonstrations(), path, "robomimic")
    with h5py.File(path, "a") as file:
        demo = file["data/demo_1"]
        for name in ("actions", "actions_env", "rewards", "dones", "truncations"):
            empty = demo[name][:0]
            del demo[name]
            demo[name] = empty
    assert "episode 1 has 0" in failure(path, "empty episode").message


def test_a_file_without_rows_is_refused(flat):
    columns = {name: column[:0] for name, column in flat_columns(make_demonstrations()).items()}
    assert "at least 1 episode; got 0" in failure(flat(columns), "empty").message


def test_a_missing_column_lists_what_was_found(flat):
    columns = flat_columns(make_demonstrations())
    del columns["terminals"]
    error = failure(flat(columns), "readable")
    assert "needs the columns ['terminals']; found ['actions', " in error.message


def test_observations_of_another_size_than_the_tasks_are_shown_side_by_side(flat):
    spec = dataclasses.replace(SPEC, observation_size=4)
    error = failure(flat(flat_columns(make_demonstrations())), "env_spec", env_spec=spec)
    assert "observation size  dataset 3  |  environment 4" in error.message


# -- actions ---------------------------------------------------------------------------------------


def test_actions_in_env_units_read_as_normalised_name_the_other_units(flat):
    path = flat(flat_columns(make_demonstrations((50,))))
    error = failure(path, "action bounds", env_spec=SPEC, action_units="normalised")
    assert "% of the rows are outside" in error.message
    assert "--action-units env" in error.message


def test_actions_in_normalised_units_beyond_a_narrow_box_name_the_flag(flat):
    narrow = dataclasses.replace(SPEC, action_low=(-0.4, -0.4), action_high=(0.4, 0.4))
    columns = flat_columns(make_demonstrations())
    columns["actions"] = np.clip(SPEC.to_learner_units(columns["actions"]), -1, 1)
    error = failure(flat(columns), "action bounds", env_spec=narrow)
    assert "--action-units normalised" in error.message
    loaded = load_demonstrations(flat(columns), narrow, action_units="normalised")
    np.testing.assert_allclose(loaded.actions, 0.4 * columns["actions"], rtol=1e-6)


def test_normalised_actions_inside_a_wide_box_are_noted_as_suspicious(flat):
    demonstrations = make_demonstrations(spec=PENDULUM)
    columns = flat_columns(demonstrations)
    columns["actions"] /= 2
    report = check_dataset(flat(columns), env_spec=PENDULUM)
    assert report.ok
    assert [finding.rule for finding in report.findings] == ["action units"]
    assert "--action-units normalised" in str(report)


def test_units_that_the_file_states_cannot_be_overruled(tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "a")
    error = failure(tmp_path / "a", "action units", action_units="normalised")
    assert "says that its actions are in env units" in error.message


def test_a_robomimic_file_of_others_is_read_as_normalised(tmp_path):
    demonstrations = make_demonstrations()
    path = tmp_path / "a.hdf5"
    save_demonstrations(demonstrations, path, "robomimic")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["actions_env"], demo["truncations"]
        del file["data"].attrs["steelyard_env_spec"]
    loaded = load_demonstrations(path, env_spec=SPEC)
    np.testing.assert_allclose(loaded.actions, demonstrations.actions, atol=1e-6)
    np.testing.assert_array_equal(loaded.terminations, demonstrations.terminations)
    np.testing.assert_array_equal(loaded.truncations, demonstrations.truncations)
    assert load_demonstrations(path).env_spec.action_low == (-1.0, -1.0)


def test_several_observations_of_robomimic_are_joined_by_name_and_images_left_out(tmp_path):
    demonstrations = make_demonstrations()
    path = tmp_path / "a.hdf5"
    save_demonstrations(demonstrations, path, "robomimic")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            for group in ("obs", "next_obs"):
                flat = demo[group]["flat"][:]
                del demo[group]["flat"]
                demo[group]["b_rest"], demo[group]["a_first"] = flat[:, 1:], flat[:, :1]
                demo[group]["camera"] = np.zeros((len(flat), 4, 4, 3), np.uint8)
    loaded, report = load_with_report(path)
    np.testing.assert_array_equal(loaded.observations, demonstrations.observations)
    assert "['a_first', 'b_rest']; left out, since they are no vectors: ['camera']" in str(report)


def test_dones_inside_a_robomimic_episode_are_ignored_with_a_warning(tmp_path):
    path = tmp_path / "a.hdf5"
    save_demonstrations(make_demonstrations(), path, "robomimic")
    with h5py.File(path, "a") as file:
        file["data/demo_2/dones"][2] = 1
    loaded, report = load_with_report(path)
    np.testing.assert_array_equal(loaded.lengths, [3, 1, 5])
    assert "1 of 3 episodes, first: episode 2" in report.findings[0].message


# -- o' --------------------------------------------------------------------------------------------


def test_a_next_observation_that_is_not_the_next_is_named_with_both_numbers(flat):
    columns = columns_with("next_observations", (5, 1), 7.5)
    error = failure(flat(columns), "next observations", env_spec=SPEC)
    assert (error.episode, error.row) == (2, 1)
    following = f"{columns['observations'][6, 1]:.6g}"
    assert f"episode 2, row 1, component 1: 7.5 against {following}" in error.message


def test_the_last_next_observation_of_an_episode_may_be_anything(flat):
    columns = columns_with("next_observations", 2, 7.5)
    loaded = load_demonstrations(flat(columns), env_spec=SPEC)
    np.testing.assert_array_equal(loaded.observations[3], [7.5] * 3)


def test_the_reference_collectors_off_by_one_is_named_and_repaired_by_shifting(flat):
    demonstrations = make_demonstrations((3, 1, 5))
    columns = flat_columns(demonstrations)
    columns["next_observations"] = columns["observations"].copy()
    loaded, report = load_with_report(flat(columns), env_spec=SPEC)

    assert report.ok
    assert [finding.severity for finding in report.findings] == ["warning"]
    assert "the reference collector's off-by-one" in report.findings[0].message
    assert "1 of one row are gone" in report.findings[0].message
    assert loaded.provenance.notes[-1] == report.findings[0].message
    np.testing.assert_array_equal(loaded.lengths, [2, 4])
    episodes = list(demonstrations.episodes())
    for ours, source in zip(loaded.episodes(), (episodes[0], episodes[2]), strict=True):
        np.testing.assert_array_equal(ours.observations, source.observations[:-1])
        np.testing.assert_array_equal(ours.actions, source.actions[:-1])
        np.testing.assert_array_equal(ours.rewards, source.rewards[:-1])
        # The row that terminated is gone, so bootstrapping must go on at the new last one.
        assert (ours.terminated, ours.truncated) == (False, True)


def test_data_at_rest_are_not_taken_for_the_off_by_one(flat):
    columns = flat_columns(make_demonstrations())
    columns["observations"][:] = columns["next_observations"][:] = 1.0
    loaded, report = load_with_report(flat(columns), env_spec=SPEC)
    assert report.findings == ()
    np.testing.assert_array_equal(loaded.lengths, [3, 1, 5])


def test_one_row_that_differs_is_an_error_and_no_off_by_one(flat):
    columns = flat_columns(make_demonstrations())
    columns["next_observations"] = columns["observations"].copy()
    columns["next_observations"][8] += 1
    failure(flat(columns), "next observations", env_spec=SPEC)


def test_missing_next_observations_are_rebuilt_with_a_warning(flat):
    columns = flat_columns(make_demonstrations())
    del columns["next_observations"]
    loaded, report = load_with_report(flat(columns), env_spec=SPEC)
    np.testing.assert_array_equal(loaded.lengths, [2, 4])
    assert "no `next_observations`" in report.findings[0].message


def test_episodes_of_one_row_without_next_observations_cannot_be_rebuilt(flat):
    columns = flat_columns(make_demonstrations((1, 1)))
    del columns["next_observations"]
    assert "none can be rebuilt" in failure(flat(columns), "next observations").message


# -- episode ends and the task ---------------------------------------------------------------------


def test_an_episode_of_d4rl_ends_at_terminals_or_timeouts(flat):
    demonstrations = make_demonstrations(terminated=(True, False, False))
    loaded = load_demonstrations(flat(flat_columns(demonstrations)), env_spec=SPEC)
    np.testing.assert_array_equal(loaded.lengths, [3, 1, 5])
    np.testing.assert_array_equal(loaded.terminations, demonstrations.terminations)


def test_the_cut_tail_of_a_d4rl_file_is_taken_as_truncated_with_a_note(flat):
    columns = columns_with("timeouts", 8, False, terminated=(True, True, False))
    loaded, report = load_with_report(flat(columns), env_spec=SPEC)
    assert loaded.truncations[8]
    assert [finding.severity for finding in report.findings] == ["note"]


def test_a_d4rl_file_without_timeouts_is_warned_about(flat):
    columns = flat_columns(make_demonstrations(terminated=(True,)))
    del columns["timeouts"]
    loaded, report = load_with_report(flat(columns), env_spec=SPEC)
    np.testing.assert_array_equal(loaded.lengths, [3, 1, 5])
    assert "no `timeouts`" in report.findings[0].message


def test_a_file_without_bounds_takes_the_callers_or_infers_one_with_a_note(flat):
    columns = flat_columns(make_demonstrations())
    error = failure(flat(columns), "env_spec")
    assert "pass `env_spec=` (or `--env`)" in error.message
    assert load_demonstrations(flat(columns), env_spec=SPEC).env_spec == SPEC
    columns["actions"] = np.clip(columns["actions"], -1, 1)
    loaded, report = load_with_report(flat(columns))
    assert loaded.env_spec == EnvSpec("unknown", 3, (-1.0,) * 2, (1.0,) * 2, 5, True)
    assert [finding.severity for finding in report.findings] == ["note"]
    assert "assumed [-1, 1]" in loaded.provenance.notes[-1]


def test_a_native_dataset_that_was_tampered_with_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    save_demonstrations(make_demonstrations(), tmp_path / "a")
    file = str(tmp_path / "a" / "expert_buffer.safetensors")
    arrays = load_file(file)
    arrays["rewards"][0] += 1
    save_file(arrays, file)
    assert "must be those that were written" in failure(tmp_path / "a", "readable").message


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "x"}'])
def test_native_metadata_that_is_none_is_refused(text, tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "a")
    (tmp_path / "a" / "metadata.json").write_text(text)
    assert "metadata.json: must be" in failure(tmp_path / "a", "readable").message


# -- what people see -------------------------------------------------------------------------------


def test_specs_that_agree_compare_silently_and_a_name_may_be_unknown():
    compare_specs(SPEC, SPEC)
    compare_specs(dataclasses.replace(SPEC, id="unknown", max_episode_steps=7), SPEC)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"id": "Other-v1"}, "dataset Other-v1  |  environment Point-v1"),
        ({"observation_size": 9}, "dataset 9  |  environment 3"),
        ({"action_low": (-1.0,), "action_high": (1.0,)}, "dataset 1  |  environment 2"),
        ({"action_low": (-2.0, -1.1)}, "dataset [-2.0, -1.1]  |  environment [-2.0, -1.0]"),
    ],
)
def test_specs_that_differ_show_both_values_side_by_side(change, shown):
    with pytest.raises(DatasetError) as error:
        compare_specs(dataclasses.replace(SPEC, **change), SPEC)
    assert shown in str(error.value)


def test_a_report_of_a_clean_dataset_is_one_line_of_verdict_and_one_of_content(tmp_path):
    save_demonstrations(make_demonstrations(), tmp_path / "a")
    lines = str(check_dataset(tmp_path / "a")).splitlines()
    assert lines[0].endswith("a (native): ok")
    assert lines[1].strip().startswith("Point-v1: 3 episodes, 9 steps, return ")
    assert len(lines) == 2


def test_a_report_lists_every_error_worst_first(flat):
    columns = columns_with("actions", 0, np.nan)
    columns["rewards"][4] = np.inf
    del columns["next_observations"]
    report = check_dataset(flat(columns), env_spec=SPEC)
    assert [finding.severity for finding in report.findings] == ["error", "error", "warning"]
    with pytest.raises(DatasetError, match=r"`actions` must be finite.*\(1 more"):
        report.raise_if_failed()


def test_inspection_shows_task_numbers_origin_and_hash():
    demonstrations = make_demonstrations()
    text = inspect(demonstrations)
    shown = ("Point-v1", "3 of 1 to 5 steps", "sac", "made for a test", demonstrations.sha256)
    assert all(word in text for word in shown)
    assert "reward-free" in inspect(demonstrations.without_rewards())
    assert set(arrays_of(demonstrations)) >= {"lengths"}
