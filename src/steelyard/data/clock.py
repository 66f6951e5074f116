"""Time stamps of recordings: their faults, their gaps, and the uniform clock behind jitter."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from steelyard.data.findings import DatasetError

_STEPS_S = (1e-4, 1.0)
"""Steps between samples of a moving vehicle, in seconds; anything else is another unit."""
_UNITS = (("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9), ("minutes", 60.0), ("hours", 3600.0))


@dataclasses.dataclass(frozen=True)
class UniformClock:
    """One sampling period behind jittering stamps, and an offset per contiguous piece.

    Attributes:
        period: Seconds between samples.
        start: First row of each piece.
        stop: Row after its last.
        origin: Time of its first row on the uniform clock, s.
        jitter: Root mean square of stamp minus clock, s.
        max_jitter: The largest absolute difference, s.
    """

    period: float
    start: Int[np.ndarray, " piece"]
    stop: Int[np.ndarray, " piece"]
    origin: Float[np.ndarray, " piece"]
    jitter: float
    max_jitter: float

    def times(self, piece: int) -> Float[np.ndarray, " row"]:
        """Return the clock's time of each row of a piece, s."""
        return self.origin[piece] + self.period * np.arange(self.stop[piece] - self.start[piece])


def check_time(
    time: Float[np.ndarray, " row"], place: str, column: str = "time", max_jump: float | None = None
) -> None:
    """Check that stamps are finite, strictly increasing, in seconds and, if asked, without jumps.

    Args:
        time: Stamps.
        place: File, for the message.
        column: Name of the column, for the message.
        max_jump: A step longer than this many median steps is an error; ``None`` allows gaps.

    Raises:
        DatasetError: A rule is broken; names file, column, row (from 0), values and the likely
            unit.
    """
    where = f"{place}, column {column!r}"
    wrong = np.flatnonzero(~np.isfinite(time))
    if len(wrong):
        raise DatasetError(f"{where}: time must be finite; row {wrong[0]} is {time[wrong[0]]}")
    if len(time) < 2:
        raise DatasetError(f"{where}: a recording has at least 2 rows; got {len(time)}")
    step = np.diff(time)
    wrong = np.flatnonzero(step <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        what = "repeats the stamp of the row before" if step[row - 1] == 0 else "goes back"
        raise DatasetError(
            f"{where}: time must increase from row to row; row {row} {what}: "
            f"{time[row - 1]:.6f} s, then {time[row]:.6f} s ({len(wrong)} such rows)"
        )
    median = float(np.median(step))
    if not _STEPS_S[0] <= median <= _STEPS_S[1]:
        likely = [name for name, size in _UNITS if 1e-3 <= median * size <= _STEPS_S[1]]
        hint = f"; the stamps look like {likely[0]}" if likely else ""
        raise DatasetError(
            f"{where}: stamps are in seconds, so the median step must lie in [{_STEPS_S[0]:g}, "
            f"{_STEPS_S[1]:g}]; got {median:g}{hint}"
        )
    row = int(np.argmax(step)) + 1
    if max_jump is not None and step[row - 1] > max_jump * median:
        raise DatasetError(
            f"{where}: time must not jump by more than {max_jump:g} median steps "
            f"({max_jump * median:g} s); it jumps by {step[row - 1]:g} s at row {row}"
        )


def fit_uniform_clock(time: Float[np.ndarray, " row"], max_step: float) -> UniformClock:
    """Split stamps at gaps and fit one period and an offset per piece, by least squares.

    Args:
        time: Stamps in seconds, strictly increasing; at least one piece of two rows.
        max_step: A longer step is a gap and breaks a piece, s.
    """
    breaks = np.flatnonzero(np.diff(time) > max_step) + 1
    start = np.concatenate([[0], breaks])
    stop = np.concatenate([breaks, [len(time)]])
    piece = np.repeat(np.arange(len(start)), stop - start)
    row = np.arange(len(time)) - start[piece]
    count = stop - start
    mean_row = (count - 1) / 2
    mean_time = time[start] + np.bincount(piece, weights=time - time[start][piece]) / count
    centred = row - mean_row[piece]
    period = float((centred * (time - mean_time[piece])).sum() / (centred**2).sum())
    left = time - mean_time[piece] - period * centred
    return UniformClock(
        period=period,
        start=start,
        stop=stop,
        origin=mean_time - period * mean_row,
        jitter=float(np.sqrt(np.mean(left**2))),
        max_jitter=float(np.abs(left).max()),
    )
