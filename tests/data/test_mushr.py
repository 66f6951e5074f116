"""Raw MuSHR folders of both versions give exact trajectories, or one clear error."""

import numpy as np
import pytest
from motion_examples import circle, in_world

from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.mushr import import_mushr, mushr_split

YAW_RATES = (0.3, -0.5, 0.8, -1.1)


def lines(rows):
    text = "\n".join(" ".join(repr(float(cell)) for cell in row) for row in np.atleast_2d(rows))
    return f"# a comment\n\n{text}\n"


def first_version(folder, frame="body", time="stamps", change=lambda columns: columns):
    """One folder of version 1: a circle per file, its command of (steering, velocity)."""
    folder.mkdir(exist_ok=True)
    for number, yaw_rate in enumerate(YAW_RATES):
        stamps, pose, twist = circle(dt=0.1, yaw_rate=yaw_rate, speed=0.5 + 0.1 * number)
        velocity = in_world(pose, twist) if frame == "world" else twist
        clock = stamps if time == "stamps" else np.full(len(stamps), 0.1)
        columns = change(np.column_stack([clock, pose, velocity]))
        (folder / f"traj_vels_{number}.txt").write_text(lines(columns))
        (folder / f"plan_{number}.txt").write_text(lines([0.3 * yaw_rate, 0.5 + 0.1 * number]))
    return folder


def third_version(folder, change=lambda columns: columns):
    folder.mkdir(exist_ok=True)
    for number, yaw_rate in enumerate(YAW_RATES):
        _, pose, twist = circle(dt=0.1, yaw_rate=yaw_rate)
        command = np.column_stack([np.linspace(-0.3, 0.3, 60), np.full(60, 0.5 + number)])
        columns = change(np.column_stack([pose, twist, command]))
        (folder / f"mj_traj_e000{number}.txt").write_text(lines(columns))
    return folder


@pytest.mark.parametrize("frame", ["body", "world"])
@pytest.mark.parametrize("time", ["stamps", "steps"])
def test_version_1_gives_body_twists_whatever_its_frame_and_clock(tmp_path, frame, time):
    data = import_mushr(first_version(tmp_path, frame, time))
    assert data.ids == ("0", "1", "2", "3")
    assert data.command_kind == "velocity"
    assert data.metadata["velocities"].startswith(frame)
    np.testing.assert_allclose(data.dt, 0.1, rtol=1e-5)
    for start, yaw_rate, speed in zip(data.offsets, YAW_RATES, (0.5, 0.6, 0.7, 0.8), strict=True):
        rows = slice(start, start + 60)
        expected = np.tile([speed, 0.1 * yaw_rate, yaw_rate], (60, 1))
        np.testing.assert_allclose(data.twist[rows], expected, atol=1e-6)
        expected = np.tile([speed, 0.3 * yaw_rate], (60, 1))
        np.testing.assert_allclose(data.command[rows], expected, atol=1e-6)


def test_version_3_has_commands_per_row_and_takes_its_step_from_the_caller(tmp_path):
    data = import_mushr(third_version(tmp_path))
    assert data.ids == tuple(f"mj_traj_e000{n}" for n in range(4))
    np.testing.assert_allclose(data.command[:60, 0], 0.5)
    np.testing.assert_allclose(data.command[:60, 1], np.linspace(-0.3, 0.3, 60), atol=1e-6)
    with pytest.raises(DatasetError, match="is the time right"):
        import_mushr(tmp_path, dt=0.05)
    with pytest.raises(DatasetError, match="`dt` must be above 0 s; got 0"):
        import_mushr(tmp_path, dt=0.0)


def test_the_references_split_follows_its_shuffled_list(tmp_path):
    folder = first_version(tmp_path / "sysid_trajs")
    (tmp_path / "shuffled_indices.txt").write_text("# order\n2\n9\n0\n3\n1\n")
    data = import_mushr(folder)
    assert data.metadata["shuffled"] == ["2", "0", "3", "1"]
    split = mushr_split(data, test=1)
    assert split.test["test"] == ("1",)
    assert sorted(split.train + split.validation) == ["0", "2", "3"]
    (tmp_path / "shuffled_indices.txt").unlink()
    with pytest.raises(DatasetError, match=r"needs shuffled_indices\.txt"):
        mushr_split(import_mushr(folder), test=1)


def test_trajectories_the_reference_leaves_out_are_left_out_and_counted(tmp_path):
    first_version(tmp_path)
    (tmp_path / "cirlce_1.txt").write_text("2.0 0 0 1.5\n")
    (tmp_path / "circle_2.txt").write_text("2.0 0 0 0.5\n")
    (tmp_path / "traj_vels_3.txt").write_text("0 0 0 0 0 0 0\n")
    data = import_mushr(tmp_path)
    assert data.ids == ("0", "2")
    assert data.metadata["dropped"] == [
        "traj_vels_1.txt: cirlce_1.txt reports an error of 1.5",
        "traj_vels_3.txt: 1 rows",
    ]


def _scale(column, factor):
    def change(columns):
        columns[:, column] *= factor
        return columns

    return change


def _swap(columns):
    return columns[:, [0, 1, 2, 3, 5, 4, 6]]


def _degrees(columns):
    return columns * np.array([1, 1, 1, 180 / np.pi, 1, 1, 180 / np.pi])


def _repeat(columns):
    return np.insert(columns, 30, columns[30], axis=0)


def _jump(columns):
    return np.delete(columns, slice(30, 50), axis=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap, "they would fit as: body frame, columns 1 and 2 swapped"),
        (_degrees, "they would fit as: body frame, columns as named, degrees"),
        (_scale(4, 1.2), "no frame, order of columns or unit of angles fits"),
        (_scale(0, 1e3), "the stamps look like ms"),
        (_repeat, r"traj_vels_0\.txt, column 't'.*row 31 repeats"),
        (_jump, r"must not jump .* jumps by 2\.1 s at row 30"),
        (_scale(slice(4, 7), 0.0), "integrating the velocities"),
    ],
)
def test_wrong_motion_is_refused_with_what_it_looks_like(tmp_path, change, message):
    with pytest.raises(DatasetError, match=message):
        import_mushr(first_version(tmp_path, change=change))


def test_swapped_commands_are_refused(tmp_path):
    first_version(tmp_path)
    for number in range(4):
        (tmp_path / f"plan_{number}.txt").write_text(lines([0.5 + 0.1 * number, (-1.0) ** number]))
    with pytest.raises(DatasetError, match="two columns look swapped"):
        import_mushr(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0 0 0 0\n", r"traj_vels_2\.txt, line 1: 7 columns are needed; got 6"),
        ("# c\n0 0 0 x 0 0 0\n", "line 2: cells must be numbers: .*'x'"),
        ("0 0 0 nan 0 0 0\n", "line 1: cells must be finite"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_line(tmp_path, text, message):
    first_version(tmp_path)
    (tmp_path / "traj_vels_2.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        import_mushr(tmp_path)


def test_a_missing_plan_and_folders_of_no_or_both_versions_are_refused(tmp_path):
    folder = first_version(tmp_path / "first")
    (folder / "plan_1.txt").unlink()
    with pytest.raises(DatasetError, match=r"traj_vels_1\.txt: its command lies in plan_1\.txt"):
        import_mushr(folder)
    with pytest.raises(DatasetNotFoundError, match=r"no traj_vels_<id>\.txt \(version 1\)"):
        import_mushr(tmp_path / "empty")
    with pytest.raises(DatasetError, match="one folder per version"):
        import_mushr(third_version(folder))
