"""The real car: motion-captured recordings of the DART platform, made into trajectories.

Every constant of the preprocessing is a field of :class:`DartConfig`; every dropped row is counted
in the metadata, under ``"files"``.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from steelyard.data.clock import UniformClock, fit_uniform_clock
from steelyard.data.dart_files import DartFile, absent_message, find_dart, read_dart_file
from steelyard.data.findings import DatasetError, DatasetNotFoundError
from steelyard.data.motion_checks import check_moves
from steelyard.data.smoothing import LocalFit, local_quadratic
from steelyard.data.splits import Split
from steelyard.data.trajectories import Trajectories, concatenate

FREE = "free"
TEST_GROUPS = ("validation", "ramps", "drifting")
VEHICLE = {
    "wheelbase_m": 0.1735,
    "tracked_point_ahead_of_rear_axle_m": 0.115,
    "mass_kg": 1.58,
}
"""Geometry of the car as its authors measured it."""

_GROUP_OF_PREFIX = {
    "free_driving": FREE,
    "validation": "validation",
    "throttle_ramp": "ramps",
    "drifting": "drifting",
}


@dataclasses.dataclass(frozen=True)
class DartConfig:
    """Constants of the preprocessing."""

    dt: float = 0.05
    """Step between states, s; a multiple of the capture's period."""
    max_step_s: float = 0.015
    """A longer step between rows is a gap and ends a trajectory."""
    end_margin_s: float = 0.15
    """Rows nearer to a gap, or to an end of the recording, are dropped."""
    half_window_s: float = 0.05
    """Local quadratic fits reach this far to both sides."""
    causal: bool = False
    """Whether fits see only the past; for what a controller on the car could know."""
    causal_window_s: float = 0.10
    """How far back they then reach."""
    yaw_offset_rad: float = 0.0077
    """Added to the captured yaw, to point along the car. From free driving: one steering value, as
    in the ramps, does not identify it."""
    safety_threshold: float = 0.5
    """The motor gets the throttle while the safety value is above this, else 0."""
    steering_lock_rad: float = 0.386
    """Road-wheel angle at steering command 1; nominal, a fit of `atan(wheelbase w / vx)` to slow
    free driving."""
    max_jitter_s: float = 0.005
    """A stamp further from the uniform clock is an error."""
    least_speed: float = 0.1
    """A file that is nowhere faster than this (m/s) is an error."""

    def __post_init__(self):
        for name in ("dt", "max_step_s", "half_window_s", "causal_window_s", "max_jitter_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"DartConfig.{name} must be above 0; got {getattr(self, name)}")
        if self.end_margin_s < 0:
            raise ValueError(f"DartConfig.end_margin_s must be >= 0; got {self.end_margin_s}")


@dataclasses.dataclass(frozen=True)
class DartMotion:
    """The motion in one file, one row per sample of the capture, before resampling.

    Attributes:
        clock: The uniform clock, in pieces between gaps.
        fit: Local fits of ``x``, ``y`` and yaw.
        pose: ``(x, y, theta)``, theta along the car and unwrapped; NaN where no fit is complete.
        twist: In the body frame; likewise.
        usable: Whether a row has a complete fit and is far enough from gaps and ends.
        near_end: Whether it is too near to one.
    """

    clock: UniformClock
    fit: LocalFit
    pose: Float[np.ndarray, "row 3"]
    twist: Float[np.ndarray, "row 3"]
    usable: Bool[np.ndarray, " row"]
    near_end: Bool[np.ndarray, " row"]


def load_dart(
    dart_dir: str | Path | None = None, config: DartConfig = DartConfig()
) -> Trajectories:
    """Read and preprocess all recordings; one trajectory per stretch without gaps.

    Names are ``<file>`` or, where gaps cut a file, ``<file>#<number>``; groups are ``"free"``,
    ``"validation"``, ``"ramps"`` and ``"drifting"``, else the name of the file.

    Args:
        dart_dir: Their folder; see :func:`steelyard.data.dart_files.find_dart`.
        config: Constants.

    Raises:
        DatasetNotFoundError: There are none; says where they are looked for.
        DatasetError: A file is not usable, or two are the same recording.
    """
    folder = find_dart(dart_dir)
    if folder is None:
        raise DatasetNotFoundError(absent_message())
    paths = sorted(folder.glob("*.csv"))
    files = [read_dart_file(path) for path in paths]
    seen: dict[str, Path] = {}
    for path, file in zip(paths, files, strict=True):
        if file.sha256 in seen:
            raise DatasetError(
                f"{path}: the same recording as {seen[file.sha256]} (sha-256 {file.sha256[:12]}…); "
                "each may occur once"
            )
        seen[file.sha256] = path
    parts = [dart_trajectories(file, config) for file in files]
    joined = concatenate(parts)
    metadata = {
        "source": "DART, Lyons et al. 2024, arXiv:2402.07602 (MIT)",
        "units": {
            "command": "effective throttle in [-1, 1]; steering rad, positive left, nominal",
            "twist": "m/s, m/s, rad/s in the body frame of the tracked point",
            "pose": "m, m, rad",
            "dt": "s",
        },
        "vehicle": VEHICLE,
        "config": dataclasses.asdict(config),
        "files": {file.name: part.metadata for file, part in zip(files, parts, strict=True)},
    }
    return dataclasses.replace(joined, metadata=_plain(metadata))


def dart_trajectories(file: DartFile, config: DartConfig = DartConfig()) -> Trajectories:
    """Make one recording into trajectories; ``metadata`` says what became of each of its rows.

    Raises:
        DatasetError: Its clock is not uniform, ``config.dt`` is no multiple of its period, nothing
            is usable or nothing moves.
    """
    motion = dart_motion(file, config)
    stride = round(config.dt / motion.clock.period)
    if stride < 1 or abs(stride * motion.clock.period / config.dt - 1) > 0.01:
        raise DatasetError(
            f"{file.name}: `dt` must be a multiple of the sampling period "
            f"{motion.clock.period:.4f} s; got {config.dt}"
        )
    states = [
        rows
        for rows in (_resampled(motion, piece, stride) for piece in range(len(motion.clock.start)))
        if len(rows) >= 2
    ]
    if not states:
        raise DatasetError(
            f"{file.name}: no stretch between gaps is long enough for a step of {config.dt} s"
        )
    rows = np.concatenate(states)
    check_moves(motion.twist[rows], file.name, config.least_speed)
    cut = len(motion.clock.start) > 1
    prefix = next((p for p in _GROUP_OF_PREFIX if file.name.startswith(p)), None)
    command = held_commands(file, config)
    return Trajectories(
        twist=motion.twist[rows],
        pose=motion.pose[rows],
        command=np.concatenate([_step_means(command, each, stride) for each in states]),
        dt=np.full(len(rows), stride * motion.clock.period),
        lengths=np.array([len(each) for each in states]),
        ids=tuple(f"{file.name}#{i}" if cut else file.name for i in range(len(states))),
        groups=(_GROUP_OF_PREFIX[prefix] if prefix else file.name,) * len(states),
        command_kind="throttle",
        metadata=_plain(_account(file, motion, states, stride, config)),
    )


def dart_motion(file: DartFile, config: DartConfig = DartConfig()) -> DartMotion:
    """Estimate pose and twist at every row of one recording.

    Raises:
        DatasetError: A stamp is too far from the uniform clock.
    """
    clock = fit_uniform_clock(file.time, config.max_step_s)
    if clock.max_jitter > config.max_jitter_s:
        raise DatasetError(
            f"{file.name}: stamps must follow a uniform clock within {config.max_jitter_s:g} s; "
            f"one is {clock.max_jitter:.4f} s away"
        )
    before = config.causal_window_s if config.causal else config.half_window_s
    after = 0.0 if config.causal else config.half_window_s
    signal = np.column_stack([file.x, file.y, np.unwrap(file.yaw)])
    fits, near = [], []
    for piece, (start, stop) in enumerate(zip(clock.start, clock.stop, strict=True)):
        time = clock.times(piece)
        fits.append(local_quadratic(time, signal[start:stop], before, after))
        near.append(np.minimum(time - time[0], time[-1] - time) < config.end_margin_s)
    fit = LocalFit(
        **{
            field.name: np.concatenate([getattr(each, field.name) for each in fits])
            for field in dataclasses.fields(LocalFit)
        }
    )
    near_end = np.concatenate(near)
    theta = fit.value[:, 2] + config.yaw_offset_rad
    cos, sin = np.cos(theta), np.sin(theta)
    vx, vy, w = fit.rate.T
    return DartMotion(
        clock=clock,
        fit=fit,
        pose=np.column_stack([fit.value[:, :2], theta]),
        twist=np.column_stack([cos * vx + sin * vy, cos * vy - sin * vx, w]),
        usable=fit.complete & ~near_end,
        near_end=near_end,
    )


def held_commands(file: DartFile, config: DartConfig = DartConfig()) -> Float[np.ndarray, "row 2"]:
    """Return effective throttle and steering (rad) at every row, as the car held them."""
    throttle = file.throttle * (file.safety > config.safety_threshold)
    return np.column_stack([throttle, file.steering * config.steering_lock_rad])


def dart_split(trajectories: Trajectories, fold: int) -> Split:
    """Split by file: one free-driving file selects, the other three train, the rest tests.

    Args:
        trajectories: From :func:`load_dart`.
        fold: Free-driving file ``fold`` modulo their number, in the order of their names, selects.

    Raises:
        DatasetError: There are fewer than two free-driving files.
    """
    files = sorted({_file_of(name) for name, group in _members(trajectories) if group == FREE})
    if len(files) < 2:
        raise DatasetError(
            f"a split by file needs at least 2 free-driving files; got {files or 'none'}"
        )
    held = files[fold % len(files)]
    free = [name for name, group in _members(trajectories) if group == FREE]
    tests = sorted({group for _, group in _members(trajectories)} - {FREE})
    return Split(
        name=f"dart-{held}",
        train=tuple(name for name in free if _file_of(name) != held),
        validation=tuple(name for name in free if _file_of(name) == held),
        test={
            group: tuple(name for name, of in _members(trajectories) if of == group)
            for group in tests
        },
    )


def _members(trajectories: Trajectories):
    return list(zip(trajectories.ids, trajectories.groups, strict=True))


def _file_of(trajectory: str) -> str:
    return trajectory.split("#")[0]


def _resampled(motion: DartMotion, piece: int, stride: int) -> Int[np.ndarray, " state"]:
    start, stop = motion.clock.start[piece], motion.clock.stop[piece]
    usable = start + np.flatnonzero(motion.usable[start:stop])
    # Complete fits and distance from gaps only cut the ends of a piece: what is left is contiguous.
    return usable[::stride]


def _step_means(
    command: Float[np.ndarray, "row 2"], states: Int[np.ndarray, " state"], stride: int
) -> Float[np.ndarray, "state 2"]:
    """Average a held signal over each step; the last state has none and repeats the one before."""
    steps = np.stack([command[states[:-1] + row] for row in range(stride)]).mean(axis=0)
    return np.concatenate([steps, steps[-1:]])


def _account(
    file: DartFile, motion: DartMotion, states: list, stride: int, config: DartConfig
) -> dict[str, Any]:
    """Say what became of each row; the counts sum to the rows of the file."""
    covered = sum(int(each[-1] - each[0]) + 1 for each in states)
    incomplete = int((~motion.fit.complete & ~motion.near_end).sum())
    gaps = np.diff(file.time)[motion.clock.stop[:-1] - 1]
    stands = (file.throttle > 0.02) & (file.safety <= config.safety_threshold)
    return {
        "sha256": file.sha256,
        "rows": {
            "in_file": file.rows,
            "dropped_leading": file.leading,
            "dropped_near_end": int(motion.near_end.sum()),
            "dropped_incomplete_fit": incomplete,
            "dropped_remainder": int(motion.usable.sum()) - covered,
            "states": sum(len(each) for each in states),
            "between_states": covered - sum(len(each) for each in states),
        },
        "rows_throttle_without_effect": int(stands.sum()),
        "gaps_s": [round(float(gap), 4) for gap in gaps],
        "period_s": motion.clock.period,
        "jitter_rms_s": motion.clock.jitter,
        "jitter_max_s": motion.clock.max_jitter,
        "residual_rms_m": float(np.sqrt(np.nanmean(motion.fit.residual[:, :2] ** 2))),
        "stride": stride,
    }


def _plain(value: Any) -> Any:
    """Return nested mappings as dictionaries, which JSON can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value
