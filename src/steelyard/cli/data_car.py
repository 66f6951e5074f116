"""``steelyard data`` on recorded motion: generate, import, check and inspect trajectories."""

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from steelyard.data.car import car_trajectories
from steelyard.data.dart import load_dart
from steelyard.data.dart_checks import check_sensors
from steelyard.data.dart_files import find_dart, read_dart_file
from steelyard.data.findings import DatasetNotFoundError
from steelyard.data.mushr import import_mushr
from steelyard.data.trajectories import Trajectories
from steelyard.data.trajectory_files import ARRAYS_FILE
from steelyard.data.trajectory_rules import COLUMNS
from steelyard.envs.car.generate import generate
from steelyard.envs.car.sets import CAR_SETS, car_set, checked_request
from steelyard.envs.car.single_track import generate_single_track
from steelyard.training.progress import progress
from steelyard.training.reference_car import refuse_checkpoint

SIMULATORS = ("car-mujoco", "car-single-track")
CACHE_VARIABLE = "STEELYARD_CACHE"


@dataclasses.dataclass(frozen=True)
class Generate:
    """Simulate trajectories of a 1/10 car; a stopped command goes on where it was."""

    simulator: Annotated[Literal["car-mujoco", "car-single-track"], tyro.conf.Positional]
    """Physics engine, or the single-track model with known parameters."""
    out: Path
    """Folder to write."""
    set: Annotated[str, tyro.conf.arg(help=f"Law of motion: {', '.join(CAR_SETS)}.")] = "mixed"
    trajectories: int = 200
    """How many; the first of a longer set are those of a shorter one."""
    seed: int = 1
    """Of the set; training and test data need different ones."""
    overwrite: bool = False
    """Replace what is in the folder."""
    cache: Path | None = None
    """Where finished parts are kept; none takes $STEELYARD_CACHE, else `~/.cache/steelyard`."""
    threads: int = os.cpu_count() or 1
    """Simulating at once."""


@dataclasses.dataclass(frozen=True)
class Import:
    """Convert raw recordings to trajectories; the source stays as it is."""

    kind: Annotated[Literal["mushr"], tyro.conf.Positional]
    """`mushr`: the reference's folders, version 1 or 3."""
    folder: Annotated[Path, tyro.conf.Positional]
    """Folder with the raw files."""
    out: Path
    """Folder to write."""
    dt: float = 0.1
    """Length of a step of version 3, which has no time, s."""
    overwrite: bool = False
    """Replace what is in the folder."""


@dataclasses.dataclass(frozen=True)
class CheckDart:
    """Compare the DART car's wheel encoder and gyro with the motion derived from its capture."""

    dart_dir: Path | None = None
    """Their folder; none looks in $STEELYARD_DART_DIR and beside the checkout."""


def generate_car(rest: list[str]) -> None:
    """Run ``data generate``."""
    options = tyro.cli(Generate, args=rest, prog="steelyard data generate")
    _refuse_occupied(options.out, options.overwrite)
    name = f"{options.simulator}:{options.set}"
    data = simulated(name, options.trajectories, options.seed, options.cache, options.threads)
    print(describe(data))
    print(f"written: {data.save(options.out, options.overwrite)}")


def import_raw(rest: list[str]) -> None:
    """Run ``data import``."""
    options = tyro.cli(Import, args=rest, prog="steelyard data import")
    _refuse_occupied(options.out, options.overwrite)
    data = import_mushr(options.folder, options.dt)
    print(describe(data))
    for line in data.metadata["dropped"]:
        print(f"left out: {line}")
    print(f"written: {data.save(options.out, options.overwrite)}")


def is_trajectories(source: str) -> bool:
    """Whether a source is recorded motion, not demonstrations: by name, or by what lies there."""
    return source == "dart" or source.split(":")[0] in SIMULATORS or _saved(Path(source))


def inspect_trajectories(rest: list[str]) -> None:
    """Run ``data inspect`` on trajectories."""
    print(describe(load_trajectories(rest[0])))


def check_trajectories(rest: list[str]) -> None:
    """Run ``data check`` on trajectories; a file that breaks a rule is an error."""
    if rest[0] == "dart":
        print(dart_table(tyro.cli(CheckDart, args=rest[1:], prog="steelyard data check dart")))
        return
    data = load_trajectories(rest[0])
    twice = [name for name, count in Counter(data.content_hashes).items() if count > 1]
    print(f"{rest[0]}: ok")
    print(describe(data))
    if twice:
        print(f"warning: {len(twice)} recordings occur more than once under different names")


def load_trajectories(
    source: str,
    trajectories: int = 200,
    seed: int = 1,
    dart_dir: str | Path | None = None,
    cache: Path | None = None,
) -> Trajectories:
    """Trajectories by name, simulated where need be.

    Args:
        source: A folder of trajectories or of raw MuSHR files, ``dart``, or ``car-mujoco:SET`` or
            ``car-single-track:SET``.
        trajectories: How many to simulate.
        seed: Of the simulated set.
        dart_dir: Folder of the DART recordings.
        cache: Where simulated parts are kept.

    Raises:
        DatasetNotFoundError: Nothing lies there; says what may be named.
        DatasetError: What lies there breaks a rule.
    """
    path = Path(source)
    if source == "dart":
        return load_dart(dart_dir)
    if source.split(":")[0] in SIMULATORS:
        return simulated(source, trajectories, seed, cache)
    if _saved(path):
        return Trajectories.load(path)
    refuse_checkpoint(path)
    if path.is_dir() and any(path.glob("*traj_*.txt")):
        return import_mushr(path)
    raise DatasetNotFoundError(
        f"no trajectories at {source}: name a folder that `steelyard data generate` or `data "
        "import` wrote, one of raw MuSHR files, `dart`, or `car-mujoco:SET` or "
        f"`car-single-track:SET` with a set among {', '.join(CAR_SETS)}"
    )


def simulated(
    source: str, trajectories: int, seed: int, cache: Path | None = None, threads: int = 1
) -> Trajectories:
    """Simulate the first trajectories of ``SIMULATOR:SET``, or read them from the cache."""
    simulator, _, name = source.partition(":")
    chosen = car_set(name or "mixed")
    checked_request(trajectories, seed)
    with progress(f"{simulator}, {chosen.name}, seed {seed}", trajectories) as tick:
        if simulator == "car-single-track":
            recordings = generate_single_track(chosen, trajectories, seed)
            tick(trajectories)
        else:
            recordings = generate(
                chosen,
                trajectories,
                seed,
                cache=cache or default_cache(),
                threads=threads,
                tick=lambda done: tick(done),
            )
    return car_trajectories(recordings, chosen.name, {"simulator": simulator, "seed": seed})


def default_cache() -> Path:
    """Folder of what can be made again."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "steelyard"


def describe(data: Trajectories) -> str:
    """Counts, ranges with units, and groups of some trajectories."""
    rows = data.step_rows()
    seconds = float(data.dt[rows].sum())
    dt = np.unique(np.round(data.dt[rows].astype(float), 5))
    step = f"{dt[0]:g} s" if len(dt) == 1 else f"{dt[0]:g} to {dt[-1]:g} s"
    lines = [
        f"{data.num_trajectories} trajectories, {data.num_steps:,} steps of {step}, "
        f"{seconds / 60:.1f} min",
        f"steps per trajectory: {data.lengths.min() - 1} to {data.lengths.max() - 1}, median "
        f"{np.median(data.lengths) - 1:g}",
    ]
    for name, columns in COLUMNS.items():
        values = getattr(data, name)
        values = values[rows] if name == "command" else values
        for index, column in enumerate(columns):
            if index == 0 and name == "command":
                column = "velocity (m/s)" if data.command_kind == "velocity" else "throttle"
            low, high = np.percentile(values[:, index], (1, 99))
            lines.append(
                f"  {name:8s} {column:16s} {values[:, index].min():9.3f} to "
                f"{values[:, index].max():8.3f}   98 % within {low:8.3f} to {high:8.3f}"
            )
    for group, count in Counter(data.groups).items():
        lines.append(f"  group {group}: {count} trajectories")
    for name, count in data.metadata.get("counts", {}).items():
        lines.append(f"  {name}: {count}")
    if "source" in data.metadata:
        lines.append(f"  source: {data.metadata['source']}")
    return "\n".join([*lines, f"  sha-256 {data.sha256[:16]}…"])


def dart_table(options: CheckDart) -> str:
    """The sensors against the motion, and what became of each row, for every file."""
    data = load_dart(options.dart_dir)
    folder = find_dart(options.dart_dir)
    assert folder is not None, "the recordings were just read"
    group_of = dict(zip((name.split("#")[0] for name in data.ids), data.groups, strict=True))
    head = (
        f"{'file':45s} {'use':10s} {'rows':>6s} {'moving':>8s} {'max v':>6s} {'max w':>6s} | "
        f"{'encoder':>7s} {'corr':>6s} {'median':>6s} {'RMSE':>6s} | {'gyro':>6s} {'RMSE':>6s} "
        f"{'lag':>5s} | dropped: leading, near an end, incomplete, remainder"
    )
    lines = [f"{folder}", head]
    for name, account in data.metadata["files"].items():
        found, rows = check_sensors(read_dart_file(folder / f"{name}.csv")), account["rows"]
        lines.append(
            f"{name:45s} {group_of[name]:10s} {rows['in_file']:6d} {found.moving_s:6.1f} s "
            f"{found.max_speed:6.2f} {found.max_yaw_rate:6.1f} | {found.encoder_slope:7.3f} "
            f"{found.encoder_correlation:6.3f} {found.encoder_median_error:6.3f} "
            f"{found.encoder_rmse:6.3f} | {found.gyro_slope:6.3f} {found.gyro_rmse:6.3f} "
            f"{found.gyro_lag_s:5.2f} | {rows['dropped_leading']}, {rows['dropped_near_end']}, "
            f"{rows['dropped_incomplete_fit']}, {rows['dropped_remainder']}"
        )
        if account["rows_throttle_without_effect"]:
            count = account["rows_throttle_without_effect"]
            lines.append(f"    {count:,} rows have throttle without effect: the safety was off")
        if account["gaps_s"]:
            longest = max(account["gaps_s"])
            lines.append(f"    {len(account['gaps_s'])} gaps, the longest {1e3 * longest:.0f} ms")
        if found.encoder_correlation < 0.9:
            lines.append("    encoder and motion disagree: the wheels spin")
    units = "speeds in m/s, rates in rad/s, lags in s; encoder and gyro: slope over the motion's"
    return "\n".join([*lines, units])


def _saved(path: Path) -> bool:
    return (path / ARRAYS_FILE).is_file()


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    """Refuse a folder that is not empty, before any work.

    Raises:
        FileExistsError: It is not, and may not be replaced.
    """
    occupied = out.is_file() or (out.is_dir() and any(out.iterdir()))
    if occupied and not overwrite:
        raise FileExistsError(f"{out} is not empty. Choose another --out, or pass --overwrite.")
