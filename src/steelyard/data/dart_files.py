"""The recordings of the DART car as they lie on disk: where they are, and one file's columns.

Lyons, Niesten, Ferranti 2024, "DART: A Compact Platform For Autonomous Driving Research",
arXiv:2402.07602; data under the MIT licence. They are read where they lie, never copied.
"""

import dataclasses
import difflib
import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from steelyard.data.clock import check_time
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.motion_checks import check_yaw_unit
from steelyard.files import clipped, read_bytes, read_text

DART_DIR_VARIABLE = "STEELYARD_DART_DIR"
_BESIDE = Path("shared") / "data" / "dart"

COLUMNS = {
    "sensor_time": "elapsed time sensors",
    "gyro": "W (IMU)",
    "encoder": "vel encoder",
    "safety": "safety_value",
    "throttle": "throttle",
    "steering": "steering",
    "time": "vicon time",
    "x": "vicon x",
    "y": "vicon y",
    "yaw": "vicon yaw",
}
"""Field of :class:`DartFile` to column; the files' other columns are not used."""


@dataclasses.dataclass(frozen=True)
class DartFile:
    """One recording, leading rows without sensors dropped; one row per motion-capture sample.

    Attributes:
        name: Name of the file without suffix.
        sha256: Of the file's bytes.
        rows: Rows in the file.
        leading: Rows dropped at its beginning because the sensors had not spoken yet.
        sensor_time: Clock of the sensors, s, from another start than ``time``; held between ticks.
        gyro: Yaw rate of the IMU, rad/s.
        encoder: Speed of the wheels, m/s.
        safety: Above 0.5 while the driver lets the motor run.
        throttle: As asked for, in [-1, 1].
        steering: As asked for, in [-1, 1], positive left.
        time: Stamps of the motion capture, s.
        x: Position in the world, m.
        y: Position in the world, m.
        yaw: Heading in the world, rad, wrapped.
    """

    name: str
    sha256: str
    rows: int
    leading: int
    sensor_time: Float[np.ndarray, " row"]
    gyro: Float[np.ndarray, " row"]
    encoder: Float[np.ndarray, " row"]
    safety: Float[np.ndarray, " row"]
    throttle: Float[np.ndarray, " row"]
    steering: Float[np.ndarray, " row"]
    time: Float[np.ndarray, " row"]
    x: Float[np.ndarray, " row"]
    y: Float[np.ndarray, " row"]
    yaw: Float[np.ndarray, " row"]


def find_dart(dart_dir: str | Path | None = None) -> Path | None:
    """Return the folder with the recordings, or ``None`` where there is none.

    Args:
        dart_dir: The folder. Without it the environment variable ``STEELYARD_DART_DIR`` names it,
            else it is ``shared/data/dart`` in or beside the current directory or the checkout.

    Raises:
        DatasetNotFoundError: ``dart_dir`` or the variable names a folder without recordings.
    """
    for source, named in (
        ("dart_dir", dart_dir),
        (DART_DIR_VARIABLE, os.environ.get(DART_DIR_VARIABLE)),
    ):
        if named:
            if not _holds_recordings(Path(named)):
                raise DatasetNotFoundError(f"{source} must name a folder with *.csv; got {named}")
            return Path(named)
    checkout = Path(__file__).resolve().parents[3]
    roots = (Path.cwd(), Path.cwd().parent, checkout, checkout.parent)
    return next((root / _BESIDE for root in roots if _holds_recordings(root / _BESIDE)), None)


def absent_message() -> str:
    """Return what to tell a user who has no recordings."""
    return (
        f"no DART recordings: pass `dart_dir`, set {DART_DIR_VARIABLE}, or put the *.csv files "
        f"into {_BESIDE} beside the checkout"
    )


def read_dart_file(path: Path) -> DartFile:
    """Read and check one recording.

    Raises:
        DatasetError: A column is missing or renamed, a cell is no number, the file is empty, time
            goes back, yaw is in degrees, or a command leaves [-1, 1]; names file, column, row.
    """
    content = read_bytes(path, DatasetError)
    header = content.split(b"\n", 1)[0].decode("utf-8", errors="replace").strip()
    names = [name.strip() for name in header.split(",")]
    for column in COLUMNS.values():
        if column not in names:
            near = difflib.get_close_matches(column, names, n=1, cutoff=0.4)
            hint = f"; did you rename it to {near[0]!r}?" if near else ""
            raise DatasetError(
                f"{path}: column {column!r} is missing{hint} (columns: {clipped(str(names))})"
            )
    table = _numbers(path, len(names))
    if len(table) == 0:
        raise DatasetError(f"{path}: the file is empty: 0 rows below the header")
    column = {field: table[:, names.index(name)] for field, name in COLUMNS.items()}
    check_time(column["time"], str(path), COLUMNS["time"])
    check_yaw_unit(column["yaw"], str(path), COLUMNS["yaw"])
    spoken = column["sensor_time"] != 0
    leading = int(np.argmax(spoken)) if spoken.any() else len(table)
    if len(table) - leading < 2:
        raise DatasetError(
            f"{path}: column {COLUMNS['sensor_time']!r} is 0 in {leading} of {len(table)} rows: "
            "no sensors were recorded"
        )
    column = {field: np.ascontiguousarray(values[leading:]) for field, values in column.items()}
    for field in ("throttle", "steering"):
        wrong = np.flatnonzero(np.abs(column[field]) > 1)
        if len(wrong):
            raise DatasetError(
                f"{path}, column {COLUMNS[field]!r}: must lie in [-1, 1]; row "
                f"{wrong[0] + leading} is {column[field][wrong[0]]:g}"
            )
    return DartFile(
        name=path.stem,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(table),
        leading=leading,
        **column,
    )


def _holds_recordings(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.csv"))


def _numbers(path: Path, width: int) -> Float[np.ndarray, "row column"]:
    """Read the rows below the header; the message of an error names the cell."""
    lines = read_text(path, DatasetError).splitlines()[1:]
    rows = [line for line in lines if line.strip()]
    if not rows:
        return np.zeros((0, width))
    try:
        table = np.loadtxt(rows, delimiter=",", ndmin=2)
    except ValueError:
        table = None
    if table is None or table.shape[1] != width:
        raise DatasetError(_first_bad_row(path, rows, width))
    wrong = np.argwhere(~np.isfinite(table))
    if len(wrong):
        row, column = wrong[0]
        raise DatasetError(
            f"{path}: cells must be finite numbers; row {row}, column {column} is "
            f"{table[row, column]}"
        )
    return table


def _first_bad_row(path: Path, rows: list[str], width: int) -> str:
    for number, line in enumerate(rows):
        cells = line.split(",")
        if len(cells) != width:
            return f"{path}: row {number} has {len(cells)} cells; the header names {width}"
        for column, cell in enumerate(cells):
            try:
                float(cell)
            except ValueError:
                told = f"row {number}, column {column} is {clipped(cell)!r}"
                return f"{path}: cells must be numbers; {told}"
    return f"{path}: not a table of numbers with {width} columns"
