"""What recorded velocities mean: their frame, their order and the unit of the heading.

Velocities must reproduce the pose when they are integrated. Of the readings a file allows (body or
world frame, columns as named or swapped, radians or degrees) the one that does is the meaning.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from steelyard.data.findings import DatasetError

TOLERANCE = 0.05
"""Share of the path by which integrated velocities may miss the recorded positions."""
_STRETCH_S = 1.0
_LEAST_TURN = 0.3  # rad per stretch: a heading that hardly changes says little about its rate
_LEAST_PATH = 0.01  # m per stretch


@dataclasses.dataclass(frozen=True)
class Reading:
    """One meaning that recorded velocities can have.

    Attributes:
        frame: Whether the linear velocities are along the body's axes or the world's.
        swapped: Whether the first two velocities are sideways, forward instead of forward,
            sideways.
        degrees: Whether heading and yaw rate are in degrees.
    """

    frame: Literal["body", "world"] = "body"
    swapped: bool = False
    degrees: bool = False

    def __str__(self) -> str:
        order = "columns 1 and 2 swapped" if self.swapped else "columns as named"
        return f"{self.frame} frame, {order}, {'degrees' if self.degrees else 'radians'}"


@dataclasses.dataclass(frozen=True)
class Misses:
    """How far integrated velocities miss the recorded pose, summed over stretches of 1 s.

    Attributes:
        missed_m: Distances missed.
        path_m: Path driven.
        missed_rad: Angles missed.
        turned_rad: Angles turned.
    """

    missed_m: float
    path_m: float
    missed_rad: float
    turned_rad: float

    def __add__(self, other: "Misses") -> "Misses":
        return Misses(*(a + b for a, b in zip(self._sums(), other._sums(), strict=True)))

    @property
    def position(self) -> float:
        """Missed distance as a share of the path."""
        return self.missed_m / self.path_m

    @property
    def heading(self) -> float:
        """Missed angle as a share of the turning."""
        return self.missed_rad / self.turned_rad

    @property
    def fit(self) -> bool:
        """Whether both shares are within :data:`TOLERANCE`."""
        return max(self.position, self.heading) <= TOLERANCE

    def _sums(self) -> tuple[float, float, float, float]:
        return self.missed_m, self.path_m, self.missed_rad, self.turned_rad


@dataclasses.dataclass(frozen=True)
class Motion:
    """One recording as its columns say it, units and frame unknown.

    Attributes:
        place: File, for messages.
        pose: ``(x, y, theta)``.
        velocity: Three velocities.
        dt: Seconds from each state to the next.
    """

    place: str
    pose: Float[np.ndarray, "state 3"]
    velocity: Float[np.ndarray, "state 3"]
    dt: Float[np.ndarray, " step"]


def apply_reading(
    reading: Reading, pose: Float[np.ndarray, "state 3"], velocity: Float[np.ndarray, "state 3"]
) -> tuple[Float[np.ndarray, "state 3"], Float[np.ndarray, "state 3"]]:
    """Return pose (theta unwrapped, rad) and twist in the body frame under a reading."""
    unit = np.pi / 180 if reading.degrees else 1.0
    theta = np.unwrap(pose[:, 2] * unit)
    first, second = velocity[:, 0], velocity[:, 1]
    if reading.swapped:
        first, second = second, first
    if reading.frame == "world":
        cos, sin = np.cos(theta), np.sin(theta)
        first, second = cos * first + sin * second, cos * second - sin * first
    return (
        np.column_stack([pose[:, :2], theta]),
        np.column_stack([first, second, velocity[:, 2] * unit]),
    )


def misses(reading: Reading, motion: Motion) -> Misses:
    """Integrate the velocities of one recording, understood as ``reading``, by trapezoids."""
    pose, twist = apply_reading(reading, motion.pose, motion.velocity)
    dt = motion.dt
    mean = 0.5 * (twist[1:] + twist[:-1])
    turn = np.diff(pose[:, 2])
    heading = pose[:-1, 2] + 0.5 * turn
    cos, sin = np.cos(heading), np.sin(heading)
    step = dt[:, None] * np.column_stack(
        [cos * mean[:, 0] - sin * mean[:, 1], sin * mean[:, 0] + cos * mean[:, 1], mean[:, 2]]
    )
    moved = np.diff(pose, axis=0)
    stretch = ((np.cumsum(dt) - dt) // _STRETCH_S).astype(int)
    starts = np.flatnonzero(np.diff(stretch, prepend=-1))

    def total(values):
        return np.add.reduceat(values, starts, axis=0)

    missed = total(step - moved)
    path = np.maximum(total(np.hypot(moved[:, 0], moved[:, 1])), _LEAST_PATH)
    turned = np.maximum(total(np.abs(turn)), _LEAST_TURN)
    return Misses(
        missed_m=float(np.hypot(missed[:, 0], missed[:, 1]).sum()),
        path_m=float(path.sum()),
        missed_rad=float(np.abs(missed[:, 2]).sum()),
        turned_rad=float(turned.sum()),
    )


def find_reading(
    motions: Sequence[Motion],
    allowed: Sequence[Reading] = (Reading("body"), Reading("world")),
) -> tuple[Reading, Misses]:
    """Decide what the velocities of recordings of one kind mean, by integrating them all.

    Args:
        motions: Recordings; at least one.
        allowed: Readings to accept. Of several that fit, the one that misses least is taken.

    Returns:
        The reading, and what it misses over all recordings.

    Raises:
        DatasetError: No allowed reading fits all recordings together, or the one that does fails on
            one of them; says which other reading would fit.
    """
    tried = {reading: _all_misses(reading, motions) for reading in allowed}
    best = min(tried, key=lambda reading: (not tried[reading].fit, _size(tried[reading])))
    if not tried[best].fit:
        raise DatasetError(_unfit(best, motions, tried[best], allowed))
    for motion in motions:
        alone = misses(best, motion)
        if not alone.fit:
            raise DatasetError(_unfit(best, [motion], alone, allowed))
    return best, tried[best]


def check_command_order(
    twist: Float[np.ndarray, "state 3"], command: Float[np.ndarray, "state 2"], place: str
) -> None:
    """Check that the first command, not the second, is what the forward velocity follows.

    Args:
        twist: In the body frame.
        command: Velocity and steering, as named.
        place: File, for the message.

    Raises:
        DatasetError: The second is (correlation above 0.8, that of the first below 0.5).
    """
    columns = np.column_stack([twist[:, 0], command])
    if (columns.std(axis=0) < 1e-6).any():
        return
    correlation = np.abs(np.corrcoef(columns.T)[0])
    if correlation[2] > 0.8 and correlation[1] < 0.5:
        raise DatasetError(
            f"{place}: the forward velocity must follow the velocity command; its correlation with "
            f"it is {correlation[1]:.2f}, with the steering command {correlation[2]:.2f}: the two "
            "columns look swapped"
        )


def check_yaw_unit(yaw: Float[np.ndarray, " row"], place: str, column: str = "yaw") -> None:
    """Check that a wrapped heading is in radians: within one turn of 0.

    Raises:
        DatasetError: It spans more.
    """
    largest = float(np.abs(yaw).max())
    if largest > 2 * np.pi:
        raise DatasetError(
            f"{place}, column {column!r}: yaw is in radians and wrapped, within ±2π; it spans "
            f"{np.ptp(yaw):.0f}: degrees?"
        )


def check_moves(twist: Float[np.ndarray, "state 3"], place: str, least_speed: float = 0.1) -> None:
    """Check that a vehicle moves at all.

    Raises:
        DatasetError: It is nowhere as fast as ``least_speed`` (m/s).
    """
    fastest = float(np.hypot(twist[:, 0], twist[:, 1]).max(initial=0.0))
    if fastest < least_speed:
        raise DatasetError(
            f"{place}: no motion: the speed must reach {least_speed:g} m/s somewhere; its largest "
            f"value is {fastest:.3g} m/s"
        )


def _all_misses(reading: Reading, motions: Sequence[Motion]) -> Misses:
    parts = [misses(reading, motion) for motion in motions]
    return sum(parts[1:], parts[0])


def _size(missed: Misses) -> float:
    return missed.position + missed.heading


def _unfit(
    reading: Reading, motions: Sequence[Motion], missed: Misses, allowed: Sequence[Reading]
) -> str:
    others = {
        other: _all_misses(other, motions)
        for other in itertools.starmap(
            Reading, itertools.product(("body", "world"), (False, True), (False, True))
        )
        if other not in allowed
    }
    fitting = [other for other in others if others[other].fit]
    hint = (
        f"they would fit as: {min(fitting, key=lambda other: _size(others[other]))}"
        if fitting
        else "no frame, order of columns or unit of angles fits: is the time right?"
    )
    place = motions[0].place + (f" and {len(motions) - 1} more" if len(motions) > 1 else "")
    return (
        f"{place}: integrating the velocities must reproduce the pose within {TOLERANCE:.0%} of "
        f"the path; read as {reading}, they miss {missed.position:.1%} of the path and "
        f"{missed.heading:.1%} of the turning; {hint}"
    )
