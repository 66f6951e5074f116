"""What trajectories must obey: shapes, names, finite numbers, ranges; each rule an error."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from steelyard.data.findings import DatasetError

COLUMNS = {
    "twist": ("vx (m/s)", "vy (m/s)", "w (rad/s)"),
    "pose": ("x (m)", "y (m)", "theta (rad)"),
    "command": ("velocity (m/s) or throttle", "steering (rad)"),
}
ARRAYS = (*COLUMNS, "dt")


@runtime_checkable
class Columns(Protocol):
    """The fields of :class:`steelyard.data.trajectories.Trajectories` that the rules read."""

    @property
    def dt(self) -> np.ndarray: ...  # noqa: D102
    @property
    def command(self) -> np.ndarray: ...  # noqa: D102
    @property
    def lengths(self) -> Int[np.ndarray, " trajectory"]: ...  # noqa: D102
    @property
    def ids(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def command_kind(self) -> str: ...  # noqa: D102


def check_labels(data: Columns) -> None:
    """Check names and lengths against each other and against the arrays.

    Raises:
        DatasetError: They disagree.
    """
    count = len(data.lengths)
    if count == 0:
        raise DatasetError("there must be at least 1 trajectory; got 0")
    for name in ("ids", "groups"):
        if len(getattr(data, name)) != count:
            raise DatasetError(
                f"`{name}` must name each of the {count} trajectories; got "
                f"{len(getattr(data, name))} names"
            )
    if len(set(data.ids)) < count:
        twice = next(name for name in data.ids if data.ids.count(name) > 1)
        raise DatasetError(f"`ids` must be unique; {twice!r} occurs {data.ids.count(twice)} times")
    if data.lengths.min() < 2:
        short = int(np.argmin(data.lengths))
        raise DatasetError(
            f"a trajectory has at least 2 states; {data.ids[short]!r} has {data.lengths[short]}"
        )
    for name in ARRAYS:
        if len(getattr(data, name)) != data.lengths.sum():
            raise DatasetError(
                f"`{name}` must have one row per state; got {len(getattr(data, name))} rows, "
                f"`lengths` sum to {data.lengths.sum()}"
            )


def check_values(data: Columns) -> None:
    """Check that all numbers are finite, step lengths above 0 and throttles in ``[-1, 1]``.

    Raises:
        DatasetError: One is not; the message names its trajectory and row.
    """
    for name, columns in COLUMNS.items():
        wrong = np.argwhere(~np.isfinite(getattr(data, name)))
        if len(wrong):
            row, column = (int(index) for index in wrong[0])
            raise DatasetError(
                f"`{name}` must be finite; {columns[column]} is {getattr(data, name)[row, column]} "
                f"in {place_of(data, row)}"
            )
    wrong = np.flatnonzero(~(np.isfinite(data.dt) & (data.dt > 0)))
    if len(wrong):
        raise DatasetError(
            f"`dt` must be finite and above 0 s; got {data.dt[wrong[0]]} in "
            f"{place_of(data, int(wrong[0]))}"
        )
    wrong = np.flatnonzero(np.abs(data.command[:, 0]) > 1)
    if data.command_kind == "throttle" and len(wrong):
        raise DatasetError(
            f"throttle must lie in [-1, 1]; got {data.command[wrong[0], 0]} in "
            f"{place_of(data, int(wrong[0]))}"
        )


def place_of(data: Columns, row: int) -> str:
    """Name a row as a reader of the source would: which trajectory, which of its states."""
    ends = np.cumsum(data.lengths)
    index = int(np.searchsorted(ends, row, side="right"))
    return f"trajectory {data.ids[index]!r}, state {row - ends[index] + data.lengths[index]}"
