"""The real car's recordings: preprocessing by hand-made files, and its figures on the real ones."""

import dataclasses
import functools

import numpy as np
import pytest

from steelyard.data.dart import (
    DartConfig,
    dart_motion,
    dart_split,
    dart_trajectories,
    held_commands,
    load_dart,
)
from steelyard.data.dart_checks import check_sensors
from steelyard.data.dart_files import (
    COLUMNS,
    DART_DIR_VARIABLE,
    absent_message,
    find_dart,
    read_dart_file,
)
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.trajectories import Trajectories

HEADER = (
    "elapsed time sensors,current,voltage,acc x (IMU),acc y (IMU),W (IMU),vel encoder,"
    "safety_value,throttle,steering,vicon time,vicon x,vicon y,vicon yaw"
)
NAMES = HEADER.split(",")
EXACT = DartConfig(yaw_offset_rad=0.0)
FOUND = find_dart()
needs_recordings = pytest.mark.skipif(FOUND is None, reason=absent_message())


def table(rows=200, speed=3.0, gap_s=0.0, gap_row=100):
    """A car that drives straight along x at 100 Hz; 3 leading rows; sensors tick at 10 Hz."""
    values = np.zeros((rows, len(NAMES)))
    column = {name: values[:, i] for i, name in enumerate(NAMES)}
    time = 1.7e9 + 0.01 * np.arange(rows)
    time[gap_row:] += gap_s - 0.01 if gap_s else 0.0
    column["vicon time"][:] = time
    column["vicon x"][:] = speed * (time - time[0])
    column["elapsed time sensors"][:] = 500 + np.arange(rows) // 10 * 0.1
    column["vel encoder"][:] = speed
    column["safety_value"][:] = 1.0
    column["throttle"][:] = 0.3
    column["steering"][:] = -0.5
    values[:3, :10] = 0.0
    return values, column


def written(path, values, header=HEADER):
    lines = [header, *(",".join(repr(float(cell)) for cell in row) for row in values)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def made(tmp_path):
    """Write a hand-made recording after changing its columns, and read it."""

    def make(change=lambda column: None, name="free_driving_1.csv", **options):
        values, column = table(**options)
        change(column)
        return read_dart_file(written(tmp_path / name, values))

    return make


# -- preprocessing, by hand ------------------------------------------------------------------


def test_a_60_ms_gap_at_3_m_per_s_gives_no_speed_above_3_1(made):
    file = made(gap_s=0.06)
    naive = np.diff(file.x) / 0.01
    assert naive.max() > 10
    data = dart_trajectories(file, EXACT)
    np.testing.assert_allclose(data.twist[:, 0], 3.0, atol=1e-4)
    assert data.num_trajectories == 2
    assert data.metadata["gaps_s"] == [0.06]
    # x is 3 t: rows nearer than 0.15 s to the gap (0.96 s after the first full row) are gone.
    first = slice(0, data.lengths[0])
    assert data.pose[first, 0].max() <= 3 * (0.99 - 0.15) + 1e-4
    assert data.pose[data.lengths[0] :, 0].min() >= 3 * (1.05 + 0.15) - 1e-4


def test_every_row_is_counted_once(made):
    for gap_s in (0.0, 0.06):
        counts = dict(dart_trajectories(made(gap_s=gap_s)).metadata["rows"])
        assert counts.pop("in_file") == 200 == sum(counts.values())
        assert counts["dropped_leading"] == 3


def test_throttle_counts_only_while_the_safety_value_allows_it(made):
    def change(column):
        column["safety_value"][120:] = 0.0

    file = made(change)
    throttle = held_commands(file)[:, 0]
    assert set(throttle[:117]) == {0.3}
    assert set(throttle[117:]) == {0.0}
    assert dart_trajectories(file).metadata["rows_throttle_without_effect"] == 80


def test_the_command_of_a_step_is_the_average_of_the_held_signal(made):
    def change(column):
        column["throttle"][:] = np.arange(200) / 200
        column["steering"][:] = 1.0

    file = made(change)
    data = dart_trajectories(file)
    first = round(0.15 / 0.01)  # rows after the leading ones that lie too near to the start
    expected = file.throttle[first : first + 5].mean()
    assert data.command[0, 0] == pytest.approx(expected)
    assert data.command[0, 1] == pytest.approx(DartConfig().steering_lock_rad)
    np.testing.assert_array_equal(data.command[-1], data.command[-2])


def test_jitter_of_the_stamps_is_taken_out_and_clocks_far_from_uniform_are_refused(made):
    noise = np.random.default_rng(0).uniform(-3e-4, 3e-4, 200)

    def jitter(column):
        column["vicon time"][:] += noise

    data = dart_trajectories(made(jitter), EXACT)
    np.testing.assert_allclose(data.dt, 0.05, rtol=1e-4)
    np.testing.assert_allclose(data.twist[:, 0], 3.0, atol=2e-3)
    with pytest.raises(DatasetError, match=r"uniform clock within 0\.0001 s"):
        dart_motion(made(jitter), DartConfig(max_jitter_s=1e-4))


def test_velocities_are_along_the_car_and_the_heading_is_unwrapped(made):
    def change(column):
        time = column["vicon time"] - column["vicon time"][0]
        heading = 3.0 + 2.0 * time
        column["vicon x"][:] = np.sin(heading)
        column["vicon y"][:] = -np.cos(heading)
        column["vicon yaw"][:] = (heading - 0.0077 + np.pi) % (2 * np.pi) - np.pi

    data = dart_trajectories(made(change))
    expected = np.tile([2.0, 0.0, 2.0], (len(data.twist), 1))
    np.testing.assert_allclose(data.twist, expected, atol=5e-3)
    assert np.diff(data.pose[:, 2]).max() < 0.2


def test_causal_fits_use_the_past_only(made):
    def stop(column):
        column["vicon x"][103:] = column["vicon x"][103]

    still, moving = made(stop), made()
    rows = np.arange(85, 100)  # within half a window before the car stops
    config = dataclasses.replace(EXACT, causal=True)
    seen = [dart_motion(file, config).twist[rows] for file in (still, moving)]
    np.testing.assert_array_equal(*seen)
    ahead = [dart_motion(file, EXACT).twist[rows] for file in (still, moving)]
    assert np.abs(ahead[0] - ahead[1]).max() > 0.1


# -- bad input -------------------------------------------------------------------------------


def _set(name, row, value):
    def change(column):
        column[name][row] = value

    return change


def _scaled(name, factor):
    def change(column):
        column[name][:] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("throttle", 50, 1.2), r"column 'throttle': must lie in \[-1, 1\]; row 50 is 1.2"),
        (_set("steering", 51, -2.0), r"column 'steering'.*row 51 is -2"),
        (_set("vicon time", 60, 1.7e9), "'vicon time'.*row 60 goes back"),
        (_set("vicon x", 7, np.nan), "row 7, column 11 is nan"),
        (_scaled("vicon time", 1e3), "the stamps look like ms"),
        (_scaled("vicon time", 1e6), "the stamps look like µs"),
        (_set("vicon yaw", slice(100, None), -340.0), r"spans 340: degrees\?"),
        (_scaled("elapsed time sensors", 0.0), "is 0 in 200 of 200 rows: no sensors"),
    ],
)
def test_a_bad_file_is_refused_with_column_row_and_value(made, change, message):
    with pytest.raises(DatasetError, match=rf"free_driving_1\.csv.*{message}"):
        made(change)


@pytest.mark.parametrize("renamed", ["vicon_yaw", None])
def test_a_missing_column_is_named_with_the_nearest_name(tmp_path, renamed):
    values, _ = table()
    header = HEADER.replace("vicon yaw", renamed or "nothing like it at all, really")
    hint = "did you rename it to 'vicon_yaw'" if renamed else r"is missing.*\(columns:"
    with pytest.raises(DatasetError, match=rf"column 'vicon yaw' is missing.*{hint}|{hint}"):
        read_dart_file(written(tmp_path / "a.csv", values, header))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty: 0 rows"),
        ("1,2,3\n", "row 0 has 3 cells; the header names 14"),
        (",".join(["1"] * 13 + ["one"]) + "\n", "row 0, column 13 is 'one'"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(f"{HEADER}\n{text}")
    with pytest.raises(DatasetError, match=message):
        read_dart_file(path)


def test_a_car_that_does_not_move_and_a_step_off_the_clock_are_refused(made):
    with pytest.raises(DatasetError, match="free_driving_1: no motion"):
        dart_trajectories(made(speed=0.0))
    with pytest.raises(
        DatasetError, match=r"multiple of the sampling period 0\.0100 s; got 0\.025"
    ):
        dart_trajectories(made(), DartConfig(dt=0.025))
    with pytest.raises(DatasetError, match="long enough"):
        dart_trajectories(made(rows=30, gap_row=20))
    with pytest.raises(ValueError, match=r"DartConfig\.dt must be above 0; got 0"):
        DartConfig(dt=0.0)


def test_the_same_recording_twice_is_refused_with_both_paths(tmp_path):
    values, _ = table()
    for name in ("free_driving_1.csv", "validation_1.csv"):
        written(tmp_path / name, values)
    with pytest.raises(DatasetError, match=r"validation_1\.csv: the same .*free_driving_1\.csv"):
        load_dart(tmp_path)


def test_a_folder_without_recordings_is_refused_by_the_name_of_its_source(tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match="dart_dir must name a folder with"):
        load_dart(tmp_path)
    monkeypatch.setenv(DART_DIR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFoundError, match=f"{DART_DIR_VARIABLE} must name"):
        find_dart()


def test_the_folder_is_found_by_variable_or_beside_the_current_directory(tmp_path, monkeypatch):
    folder = tmp_path / "shared" / "data" / "dart"
    folder.mkdir(parents=True)
    written(folder / "free_driving_1.csv", table()[0])
    (tmp_path / "checkout").mkdir()
    monkeypatch.delenv(DART_DIR_VARIABLE, raising=False)
    for current in (tmp_path, tmp_path / "checkout"):
        monkeypatch.chdir(current)
        assert find_dart().resolve() == folder.resolve()
    monkeypatch.setenv(DART_DIR_VARIABLE, str(folder))
    assert find_dart() == folder


def test_fold_k_selects_on_free_file_k_and_tests_on_the_other_groups(tmp_path):
    for index, name in enumerate(
        ["free_driving_a", "free_driving_b", "free_driving_c", "validation_a", "throttle_ramp_a"]
    ):
        written(tmp_path / f"{name}.csv", table(speed=1.0 + index, gap_s=0.06)[0])
    data = load_dart(tmp_path)
    assert set(data.groups) == {"free", "validation", "ramps"}
    for fold, held in ((0, "a"), (1, "b"), (5, "c")):
        split = dart_split(data, fold)
        assert split.validation == (f"free_driving_{held}#0", f"free_driving_{held}#1")
        assert len(split.train) == 4
        assert not any(f"_{held}#" in name for name in split.train)
        assert set(split.test) == {"validation", "ramps"}
    with pytest.raises(DatasetError, match="at least 2 free-driving files"):
        dart_split(data.select_groups("validation"), 0)


# -- the real recordings ---------------------------------------------------------------------


@functools.cache
def recordings():
    """All recordings, read once."""
    return load_dart(FOUND)


@functools.cache
def sensor_checks():
    return {path.stem: check_sensors(read_dart_file(path)) for path in sorted(FOUND.glob("*.csv"))}


@needs_recordings
def test_encoder_and_gyro_agree_with_the_derived_twist_as_published():
    checks = sensor_checks()
    assert len(checks) == 8
    rolling = {name: each for name, each in checks.items() if not name.startswith("drifting")}
    assert len(rolling) == 7
    for name, each in rolling.items():
        assert 0.98 <= each.encoder_slope <= 1.06, name
        assert each.encoder_correlation >= 0.96, name
    for name, each in checks.items():
        assert 1.01 <= each.gyro_slope <= 1.035, name
        assert each.gyro_rmse <= 0.15, name
    (drifting,) = (each for name, each in checks.items() if name.startswith("drifting"))
    assert drifting.encoder_slope > 3
    assert drifting.encoder_correlation < 0


@needs_recordings
def test_gaps_throttle_without_effect_and_rows_are_as_counted_in_the_files():
    files = recordings().metadata["files"]
    gaps = {name: each["gaps_s"] for name, each in files.items() if each["gaps_s"]}
    ((name, found),) = gaps.items()
    assert name.endswith("steerneg02")
    assert len(found) == 9
    assert 0.019 <= min(found) <= max(found) <= 0.06
    for name, each in files.items():
        counts = dict(each["rows"])
        assert counts.pop("in_file") == sum(counts.values())
        assert 1 <= counts["dropped_leading"] <= 10
        assert each["period_s"] == pytest.approx(0.01, abs=1e-6)
        assert 1.6e-4 <= each["jitter_rms_s"] <= 3.2e-4
        if name.startswith("validation"):
            assert each["rows_throttle_without_effect"] == 1678


@needs_recordings
def test_two_second_windows_are_as_many_as_published():
    data = recordings()
    windows = data.windows(horizon=40, stride=40, history=20, min_speed=0.1)
    counts = {"free": 0, "selection": 0, "validation": 0, "ramps": 0, "drifting": 0}
    for index in windows.trajectory:
        late = "10_12_05" in data.ids[index]
        counts["selection" if late else data.groups[index]] += 1
    expected = {"free": 125, "selection": 22, "validation": 27, "ramps": 72, "drifting": 7}
    assert {name: abs(counts[name] - expected[name]) <= 1 for name in counts} == {
        name: True for name in counts
    }, counts


@needs_recordings
def test_speeds_are_those_of_the_files_and_no_gap_makes_a_faster_one():
    for name, each in sensor_checks().items():
        assert 1.0 < each.max_speed < 4.3, name
        assert 1.4 < each.max_yaw_rate < 4.5, name
    data = recordings()
    acceleration = np.diff(data.twist[:, 0])[data.step_rows()] / data.dt[data.step_rows()]
    assert np.abs(acceleration).max() < 15


@needs_recordings
def test_a_uniform_clock_halves_what_local_fits_leave_at_speed():
    (path,) = FOUND.glob("*10_27_02.csv")
    file = read_dart_file(path)
    from steelyard.data.smoothing import local_quadratic

    motion = dart_motion(file)
    signal = np.column_stack([file.x, file.y, np.unwrap(file.yaw)])
    raw = local_quadratic(file.time, signal, 0.05, 0.05)
    fast = motion.usable & (motion.twist[:, 0] > 2)
    left = [np.sqrt(np.mean(fit.residual[fast, :2] ** 2)) for fit in (raw, motion.fit)]
    assert left[1] < 0.65 * left[0]


def integrated(twist, pose, dt, trapezoid):
    """Exponential map per step, in double precision: position after the last step."""
    x, y, theta = pose[:, 0].astype(float).T
    for step in range(dt.shape[1]):
        begin, end = twist[:, step].astype(float), twist[:, step + 1].astype(float)
        vx, vy, w = ((begin + end) / 2 if trapezoid else end).T
        angle = w * dt[:, step]
        sine = np.sinc(angle / np.pi)
        versine = (angle / 2) * np.sinc(angle / 2 / np.pi) ** 2
        dx, dy = (sine * vx - versine * vy) * dt[:, step], (versine * vx + sine * vy) * dt[:, step]
        x = x + np.cos(theta) * dx - np.sin(theta) * dy
        y = y + np.sin(theta) * dx + np.cos(theta) * dy
        theta = theta + angle
    return np.hypot(x - pose[:, -1, 0], y - pose[:, -1, 1])


@needs_recordings
def test_perfect_twists_reproduce_the_pose_to_the_published_floor():
    data = recordings()

    def floor(*stems, trapezoid):
        chosen = data.select(
            [i for i, name in enumerate(data.ids) if any(stem in name for stem in stems)]
        )
        starts = chosen.windows(40, 40, 20, 0.1).start
        rows = starts[:, None] + np.arange(41)
        missed = integrated(
            chosen.twist[rows], chosen.pose[rows], chosen.dt[rows[:, :-1]], trapezoid
        )
        return np.median(missed), missed.max()

    fast, slow = ("10_27_02", "10_12_05"), ("validation",)
    median, largest = floor(*fast, trapezoid=True)
    assert median <= 0.012
    assert largest <= 0.055
    median, largest = floor(*slow, trapezoid=True)
    assert median <= 0.002
    assert largest <= 0.01
    # The reference's integrator, which takes the next twist, is an order of magnitude worse.
    median, largest = floor(*fast, trapezoid=False)
    assert 0.11 <= median <= 0.19
    assert largest <= 0.45
    assert 0.015 <= floor(*slow, trapezoid=False)[0] <= 0.03


@needs_recordings
def test_recordings_survive_saving_and_each_fold_applies(tmp_path):
    data = recordings()
    loaded = Trajectories.load(data.save(tmp_path / "dart"))
    assert loaded.sha256 == data.sha256
    assert loaded.metadata["vehicle"]["wheelbase_m"] == 0.1735
    for fold in range(4):
        train, validation, tests = dart_split(data, fold).apply(data)
        assert len(train.ids) == 3
        assert len(validation.ids) == 1
        assert {group: len(each.ids) for group, each in tests.items()}.keys() == {
            "validation",
            "ramps",
            "drifting",
        }


def test_the_columns_that_are_read_are_columns_of_the_files():
    assert set(COLUMNS.values()) < set(NAMES)
