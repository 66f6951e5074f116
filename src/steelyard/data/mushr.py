"""Import of the raw folders of the MuSHR car: version 1 (two files per trajectory) and 3 (one).

Version 1 has ``traj_vels_<id>.txt`` with ``t x y theta xdot ydot thetadot`` per row, where ``t`` is
the time or the length of the step, and ``plan_<id>.txt`` with one constant command ``steering
velocity``. Version 3 has ``*traj_*.txt`` with ``x y theta xdot ydot thetadot steering velocity``
and no time. Lines that begin with ``#`` are comments. The frame of the velocities is not written
anywhere: it is found by integrating them.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from steelyard.data.clock import check_time
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.motion_checks import (
    Motion,
    apply_reading,
    check_command_order,
    check_moves,
    find_reading,
)
from steelyard.data.splits import Split, reference_split
from steelyard.data.trajectories import Trajectories
from steelyard.files import clipped, read_text

_V1_FILE = re.compile(r"traj_vels_(\d+)\.txt$")
_V3_FILE = re.compile(r".*traj_(?!vels_).*\.txt$")
_MAX_CIRCLE_ERROR = 1.0  # beyond it the reference itself leaves a trajectory out
_MAX_JUMP = 5.0


@dataclasses.dataclass(frozen=True)
class _Recording:
    id: str
    motion: Motion
    command: Float[np.ndarray, "state 2"]


def import_mushr(folder: str | Path, dt: float = 0.1, group: str = "mushr") -> Trajectories:
    """Read a raw folder of version 1 or 3.

    Trajectories of fewer than two rows, and those of version 1 whose ``circle_<id>.txt`` reports an
    error above 1, are left out and counted in the metadata. There, ``"shuffled"`` is the order of
    ``shuffled_indices.txt`` (``shuffled_indices_v3.txt``), which lies in the folder or above it;
    see :func:`mushr_split`.

    Args:
        folder: The raw folder.
        dt: Length of a step of version 3, which has no time, s.
        group: Group of all trajectories.

    Raises:
        DatasetNotFoundError: No trajectory lies there.
        DatasetError: A file is no table, time is wrong, nothing moves, commands are swapped, or the
            velocities reproduce the poses in neither the body's frame nor the world's.
    """
    folder = Path(folder)
    names = sorted(path.name for path in folder.glob("*.txt")) if folder.is_dir() else []
    first = [name for name in names if _V1_FILE.search(name)]
    third = [name for name in names if _V3_FILE.match(name)]
    if first and third:
        raise DatasetError(
            f"{folder}: holds version 1 ({first[0]}) and version 3 ({third[0]}); import one folder "
            "per version"
        )
    if not first and not third:
        raise DatasetNotFoundError(
            f"{folder}: no traj_vels_<id>.txt (version 1) and no *traj_*.txt (version 3)"
        )
    if first:
        read = [_read_first_version(folder, name) for name in first]
    else:
        read = [_read_third_version(folder, name, dt) for name in third]
    recordings = [each for each in read if isinstance(each, _Recording)]
    dropped = [each for each in read if isinstance(each, str)]
    if not recordings:
        raise DatasetError(f"{folder}: all {len(read)} trajectories are unusable: {dropped[0]}")
    reading, missed = find_reading([each.motion for each in recordings])
    motions = [apply_reading(reading, r.motion.pose, r.motion.velocity) for r in recordings]
    twist = np.concatenate([twist for _, twist in motions])
    command = np.concatenate([each.command for each in recordings])
    check_moves(twist, str(folder))
    check_command_order(twist, command, str(folder))
    return Trajectories(
        twist=twist,
        pose=np.concatenate([pose for pose, _ in motions]),
        command=command,
        dt=np.concatenate([np.append(r.motion.dt, r.motion.dt[-1]) for r in recordings]),
        lengths=np.array([len(each.command) for each in recordings]),
        ids=tuple(each.id for each in recordings),
        groups=(group,) * len(recordings),
        command_kind="velocity",
        metadata={
            "source": f"MuSHR raw folder, version {1 if first else 3}",
            "velocities": str(reading),
            "velocities_miss_path_by": missed.position,
            "velocities_miss_turning_by": missed.heading,
            "dropped": dropped,
            "shuffled": _shuffled(folder, recordings, "" if first else "_v3"),
            "units": {
                "command": "velocity m/s; steering rad, positive left",
                "twist": "m/s, m/s, rad/s in the body frame of the tracked point",
                "pose": "m, m, rad",
                "dt": "s" if first else "s, not recorded: given at import",
            },
        },
    )


def mushr_split(trajectories: Trajectories, test: int = 50, seed: int = 42) -> Split:
    """Split imported trajectories as the reference does; see :func:`reference_split`.

    Raises:
        DatasetError: No order came with them, or ``test`` is too large for it.
    """
    order = trajectories.metadata.get("shuffled") or ()
    if not order:
        raise DatasetError(
            "the reference's split needs shuffled_indices.txt in the imported folder or above it; "
            "there was none"
        )
    return reference_split(tuple(order), test=test, seed=seed)


def _read_first_version(folder: Path, name: str) -> _Recording | str:
    path = folder / name
    number = path.stem.removeprefix("traj_vels_")
    table = _table(path, least_columns=7)
    if len(table) < 2:
        return f"{name}: {len(table)} rows"
    # The reference's own folders spell it both ways.
    for circle in (folder / f"circle_{number}.txt", folder / f"cirlce_{number}.txt"):
        if circle.exists():
            error = _table(circle, least_columns=4)[0, 3]
            if error > _MAX_CIRCLE_ERROR:
                return f"{name}: {circle.name} reports an error of {error:g}"
    plan = folder / f"plan_{number}.txt"
    if not plan.exists():
        raise DatasetError(f"{path}: its command lies in {plan.name}, which is missing")
    commands = _table(plan, least_columns=2)
    if len(commands) == 0:
        raise DatasetError(f"{plan}: one row `steering velocity` is needed; got none")
    steering, velocity = commands[0, :2]
    return _Recording(
        number,
        Motion(str(path), table[:, 1:4], table[:, 4:7], _steps(table[:, 0], str(path))),
        np.tile([velocity, steering], (len(table), 1)),
    )


def _read_third_version(folder: Path, name: str, dt: float) -> _Recording | str:
    if not dt > 0:
        raise DatasetError(f"`dt` must be above 0 s; got {dt}")
    path = folder / name
    table = _table(path, least_columns=8)
    if len(table) < 2:
        return f"{name}: {len(table)} rows"
    return _Recording(
        path.stem,
        Motion(str(path), table[:, :3], table[:, 3:6], np.full(len(table) - 1, dt)),
        table[:, [7, 6]],
    )


def _steps(column: Float[np.ndarray, " row"], place: str) -> Float[np.ndarray, " step"]:
    """Return step lengths from a column that holds them, or times: times mostly increase."""
    if len(column) > 2 and np.mean(np.diff(column) > 0) < 0.75 and (column > 0).all():
        check_time(np.concatenate([[0.0], np.cumsum(column)]), place, "t", _MAX_JUMP)
        return column[:-1]
    check_time(column, place, "t", _MAX_JUMP)
    return np.diff(column)


def _table(path: Path, least_columns: int) -> Float[np.ndarray, "row column"]:
    """Read rows of numbers; more columns than asked for are legal and unused."""
    rows = []
    for number, line in enumerate(read_text(path, DatasetError).splitlines(), start=1):
        cells = line.split()
        if not cells or cells[0].startswith("#"):
            continue
        try:
            values = [float(cell) for cell in cells[:least_columns]]
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: cells must be numbers: {clipped(str(error))}"
            ) from error
        if len(values) < least_columns:
            raise DatasetError(
                f"{path}, line {number}: {least_columns} columns are needed; got {len(values)}"
            )
        if not np.isfinite(values).all():
            raise DatasetError(
                f"{path}, line {number}: cells must be finite; got {clipped(line.strip())}"
            )
        rows.append(values)
    return np.array(rows, np.float64).reshape(len(rows), least_columns)


def _shuffled(folder: Path, recordings: list[_Recording], suffix: str) -> list[str]:
    """Return the shuffled order by our names, without trajectories that were left out."""
    name = f"shuffled_indices{suffix}.txt"
    path = next((p for p in (folder / name, folder.parent / name) if p.is_file()), None)
    if path is None:
        return []
    known = {_key(each.id): each.id for each in recordings}
    lines = [line.strip() for line in read_text(path, DatasetError).splitlines()]
    keys = [_key(line.removesuffix(".txt")) for line in lines if line and line[0] != "#"]
    return [known[key] for key in dict.fromkeys(keys) if key in known]


def _key(name: str) -> str:
    return str(int(name)) if name.isdigit() else name
