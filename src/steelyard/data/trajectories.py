"""Trajectories: recorded motion of a vehicle, on the host, as one immutable object; its windows.

A trajectory of ``T`` states has ``T - 1`` steps. Commands and step lengths have one row per state
too, so that one row index serves all four arrays; the last row of a trajectory repeats the one
before it and is never part of a window.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from steelyard.data.findings import DatasetError
from steelyard.data.trajectory_rules import ARRAYS, check_labels, check_values
from steelyard.types import Window

CommandKind = Literal["velocity", "throttle"]


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Which pieces of some trajectories to look at: row numbers, no copies.

    No window crosses the end of a trajectory, and the ``history`` steps before each lie in the same
    trajectory.

    Attributes:
        start: Row of the first state.
        trajectory: Index of the trajectory it lies in.
        horizon: Steps ``H`` of a window; it has ``H + 1`` states.
        history: Past commands that belong to it.
    """

    start: Int[np.ndarray, " window"]
    trajectory: Int[np.ndarray, " window"]
    horizon: int
    history: int

    def __len__(self) -> int:
        return len(self.start)

    def take(self, chosen: np.ndarray) -> "Windows":
        """Return the windows that an index or a mask chooses, in that order."""
        return dataclasses.replace(
            self, start=self.start[chosen], trajectory=self.trajectory[chosen]
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Recorded motion, trajectories end to end; checked when built, float32 and read-only after.

    Attributes:
        twist: ``(vx, vy, w)`` in the body frame of the tracked point, per state; m/s, m/s, rad/s.
        pose: ``(x, y, theta)`` in the world, per state; m, m, rad, theta unwrapped.
        command: Velocity (m/s) or throttle in ``[-1, 1]``, and steering (rad, positive left), held
            from this state to the next.
        dt: Seconds from this state to the next, above 0.
        lengths: States of each trajectory, at least 2.
        ids: Name of each trajectory, unique.
        groups: The set that each belongs to, e.g. ``"mixed"`` or ``"ramps"``.
        command_kind: What the first command is.
        metadata: Units, origin, counts of dropped samples; JSON values only.

    Raises:
        DatasetError: A rule above is broken; the message names the trajectory, the row in it, and
            the value.
    """

    # The axis of states is unchecked here (`_`): the rules below check it with a better error.
    twist: Float[np.ndarray, "_state 3"]
    pose: Float[np.ndarray, "_state 3"]
    command: Float[np.ndarray, "_state 2"]
    dt: Float[np.ndarray, " _state"]
    lengths: Int[np.ndarray, " trajectory"]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    command_kind: CommandKind
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in ARRAYS:
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float32))
        object.__setattr__(self, "lengths", _frozen(self.lengths, np.int64))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        check_labels(self)
        check_values(self)

    @property
    def num_trajectories(self) -> int:
        """Number of trajectories."""
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Number of steps, one fewer than states in each trajectory, all together."""
        return int((self.lengths - 1).sum())

    @functools.cached_property
    def offsets(self) -> Int[np.ndarray, " trajectory"]:
        """Row of the first state of each trajectory."""
        return np.cumsum(self.lengths) - self.lengths

    def step_rows(self) -> Int[np.ndarray, " step"]:
        """Return the row that each step begins at; it leads to the next row."""
        has_step = np.ones(len(self.dt), bool)
        has_step[self.offsets + self.lengths - 1] = False
        return np.flatnonzero(has_step)

    @functools.cached_property
    def content_hashes(self) -> tuple[str, ...]:
        """sha-256 of each trajectory's numbers, whatever it is called: the identity of a recording.

        The unused last rows of ``command`` and ``dt`` do not count.
        """
        return tuple(
            _digest(
                (name, getattr(self, name)[start : start + length - (name in ("command", "dt"))])
                for name in ARRAYS
            )
            for start, length in zip(self.offsets, self.lengths, strict=True)
        )

    @functools.cached_property
    def sha256(self) -> str:
        """sha-256 of all arrays, names and groups; the identity of the content."""
        labels = json.dumps([self.ids, self.groups, self.command_kind]).encode()
        arrays = [(name, getattr(self, name)) for name in (*ARRAYS, "lengths")]
        return _digest([*arrays, ("labels", np.frombuffer(labels, np.uint8))])

    def select(self, indices: Sequence[int] | np.ndarray) -> "Trajectories":
        """Return the trajectories ``indices``, in that order.

        Raises:
            DatasetError: There is none, one is named twice, or one does not exist.
        """
        chosen = [int(index) for index in indices]
        illegal = [index for index in chosen if not 0 <= index < self.num_trajectories]
        if not chosen or illegal:
            raise DatasetError(
                f"select(): at least 1 index from 0 to {self.num_trajectories - 1}; got "
                f"{illegal[0] if illegal else 'none'}"
            )
        rows = np.concatenate(
            [np.arange(self.offsets[i], self.offsets[i] + self.lengths[i]) for i in chosen]
        )
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[rows] for name in ARRAYS},
            lengths=self.lengths[chosen],
            ids=tuple(self.ids[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
        )

    def select_groups(self, *groups: str) -> "Trajectories":
        """Return the trajectories of these groups, in the order of the data.

        Raises:
            DatasetError: No trajectory belongs to one of them.
        """
        for group in groups:
            if group not in self.groups:
                raise DatasetError(
                    f"no trajectory of group {group!r}; there are {sorted(set(self.groups))}"
                )
        return self.select([i for i, group in enumerate(self.groups) if group in groups])

    def windows(
        self, horizon: int, stride: int, history: int = 0, min_speed: float = 0.0
    ) -> Windows:
        """Return the windows of ``horizon`` steps, every ``stride`` steps of each trajectory.

        The first one of a trajectory starts ``history`` steps after its beginning. Trajectories
        that are too short have none.

        Args:
            horizon: Steps of a window, at least 1.
            stride: Steps from one start to the next, at least 1; ``horizon`` for windows that share
                no step.
            history: Steps before the start that must exist, at least 0.
            min_speed: Windows in which the speed is below this throughout are left out; m/s.

        Raises:
            DatasetError: An argument is out of range, or no trajectory is long enough.
        """
        _at_least("horizon", horizon, 1)
        _at_least("stride", stride, 1)
        _at_least("history", history, 0)
        if history + horizon > self.lengths.max() - 1:
            raise DatasetError(
                f"windows(): history + horizon = {history} + {horizon} steps must fit into a "
                f"trajectory; the longest has {self.lengths.max() - 1} steps"
            )
        counts = np.maximum((self.lengths - 1 - horizon - history) // stride + 1, 0)
        trajectory = np.repeat(np.arange(self.num_trajectories), counts)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        start = self.offsets[trajectory] + history + stride * number
        windows = Windows(start, trajectory, horizon, history)
        if min_speed <= 0:
            return windows
        fast = np.hypot(self.twist[:, 0], self.twist[:, 1]) >= min_speed
        before = np.concatenate([[0], np.cumsum(fast)])
        return windows.take(before[start + horizon + 1] > before[start])

    def blocks(self, windows: Windows, steps: int) -> Int[np.ndarray, " window"]:
        """Return which piece of ``steps`` steps of its trajectory each window starts in.

        Windows of one piece are near-copies of each other: the unit for a grouped tail and for a
        block bootstrap. Numbers run from 0 without holes, in the order of the data.
        """
        _at_least("steps", steps, 1)
        piece = (windows.start - self.offsets[windows.trajectory]) // steps
        _, number = np.unique(np.stack([windows.trajectory, piece]), axis=1, return_inverse=True)
        return number.reshape(-1)

    def cut(self, start: Int[np.ndarray, "window"], horizon: int, history: int) -> Window:
        """Return windows as :meth:`TrajectoryData.gather` does, cut on the host.

        Nothing is compiled for it, whatever their number and length.

        Args:
            start: First rows, from :attr:`Windows.start`.
            horizon: Steps of a window.
            history: Past commands before them.
        """
        states = start[:, None] + np.arange(horizon + 1)
        commands = start[:, None] + np.arange(-history, horizon)
        return Window(
            twist=jnp.asarray(self.twist[states]),
            pose=jnp.asarray(self.pose[states]),
            command=jnp.asarray(self.command[commands]),
            dt=jnp.asarray(self.dt[states[:, :-1]]),
        )

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the directory ``path``: arrays as safetensors, the rest as JSON; atomically.

        Raises:
            FileExistsError: Something lies there and ``overwrite`` is false.
        """
        from steelyard.data.trajectory_files import save_trajectories  # built on this class

        return save_trajectories(self, Path(path), overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "Trajectories":
        """Read what :meth:`save` wrote and verify its sha-256.

        Raises:
            DatasetError: A file is missing or damaged, or the arrays are not those written.
        """
        from steelyard.data.trajectory_files import load_trajectories  # built on this class

        return load_trajectories(Path(path))


def concatenate(parts: Sequence[Trajectories]) -> Trajectories:
    """Put the trajectories of all ``parts`` end to end.

    Metadata that differ are kept under ``"parts"``, in order.

    Raises:
        DatasetError: There is no part, their commands differ in kind, or a name occurs twice.
    """
    if not parts:
        raise DatasetError("concatenate() needs at least 1 part; got 0")
    kinds = sorted({part.command_kind for part in parts})
    if len(kinds) > 1:
        raise DatasetError(f"all parts must have commands of one kind; got {kinds}")
    metadata = [dict(part.metadata) for part in parts]
    same = all(each == metadata[0] for each in metadata)
    return Trajectories(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (*ARRAYS, "lengths")
        },
        ids=tuple(name for part in parts for name in part.ids),
        groups=tuple(group for part in parts for group in part.groups),
        command_kind=parts[0].command_kind,
        metadata=metadata[0] if same else {"parts": metadata},
    )


class TrajectoryData(eqx.Module):
    """Trajectories on the device: one array each, of which windows are index views."""

    twist: Float[Array, "state 3"]
    pose: Float[Array, "state 3"]
    command: Float[Array, "state 2"]
    dt: Float[Array, " state"]

    @classmethod
    def of(cls, trajectories: Trajectories) -> "TrajectoryData":
        """Copy to JAX's default device."""
        return cls(*(jnp.asarray(getattr(trajectories, name)) for name in ARRAYS))

    def gather(self, start: Int[Array, "*batch"], horizon: int, history: int) -> Window:
        """Return the windows that begin at the rows ``start``.

        Args:
            start: First rows, from :attr:`Windows.start`; not checked, since values are unknown
                while tracing.
            horizon: Steps of a window.
            history: Past commands before them.
        """

        def rows(first: int, stop: int) -> Int[Array, "..."]:
            return start[..., None] + jnp.expand_dims(jnp.arange(first, stop), range(start.ndim))

        states, steps = rows(0, horizon + 1), rows(0, horizon)
        return Window(
            twist=self.twist[states],
            pose=self.pose[states],
            command=self.command[rows(-history, horizon)],
            dt=self.dt[steps],
        )


def _frozen(array: np.ndarray, dtype: type) -> np.ndarray:
    owned = np.array(array, dtype, order="C")
    owned.flags.writeable = False
    return owned


def _digest(arrays) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise DatasetError(f"`{name}` must be at least {least}; got {value}")
