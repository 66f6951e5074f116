"""What a trajectory looks like, in numbers that can be clustered: observations → features.

A layout says which numbers of an observation are what, so that no unit and no width dominates and a
quaternion and its negative, which are one orientation, give one feature.

Source of the idea: the reference clusters keyframes of a trajectory with its length and speed.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from steelyard.numerics.rotations import quaternion_to_6d

KEYFRAMES = 20
EXPLAINED, MOST_COMPONENTS = 0.95, 32
LEAST_VARIANCE = 1e-12


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which numbers of an observation are what.

    Attributes:
        position: Place of the hand, or of whatever moves; its speed is a feature. Empty: all.
        objects: Places that are seen relative to the hand.
        quaternions: Orientations, and whether the scalar is ``first`` or ``last``.
        others: Everything else that matters, such as the gripper's opening.
    """

    position: tuple[int, ...] = ()
    objects: tuple[tuple[int, ...], ...] = ()
    quaternions: tuple[tuple[tuple[int, ...], str], ...] = ()
    others: tuple[int, ...] = ()


def _range(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last))


ARM = Layout(position=_range(0, 3), objects=(_range(4, 7),), others=(3,))
"""Of the tasks ``sparse/`` in MetaWorld."""
POINT = Layout(position=(0, 1))
"""Of ``sparse/Fork-v0``."""


def robomimic_layout(size: int) -> Layout:
    """Of low-dimensional robomimic data: hand, its quaternion, two fingers, then the object."""
    if size < 16:
        return Layout()
    return Layout(
        position=_range(0, 3),
        objects=(_range(9, 12),),
        quaternions=((_range(3, 7), "last"), (_range(12, 16), "last")),
        others=_range(7, 9),
    )


def layout_of(env: str, size: int) -> Layout:
    """The layout of a task's observations; one without names where it is not known."""
    if env == "sparse/Fork-v0":
        return POINT
    if env.startswith("sparse/"):
        return ARM
    if env.startswith("robosuite/"):
        return robomimic_layout(size)
    return Layout()


def describe_trajectory(
    observations: Float[np.ndarray, "frame obs"], layout: Layout, relative: bool = False
) -> list[Float[np.ndarray, " feat"]]:
    """Features of one trajectory, group by group.

    Args:
        observations: Its frames, two at least.
        layout: What they hold.
        relative: Whether places are taken relative to the first frame, as those of a segment are.

    Returns:
        Length and speeds, then the keyframes of each part of the layout, each flat.
    """
    frames = np.asarray(observations, np.float64)
    hand = frames[:, list(layout.position)] if layout.position else frames
    speed = np.linalg.norm(np.diff(hand, axis=0), axis=1)
    speeds = speed if len(speed) else np.zeros(1)
    # Of every step, not of keyframes, so that speed says nothing of length.
    summary = np.array([np.log(len(frames)), speeds.mean(), speeds.std()])
    keys = np.round(np.linspace(0, len(frames) - 1, KEYFRAMES)).astype(int)
    origin = hand[0] if relative else np.zeros(hand.shape[1])
    parts = [hand[keys] - origin]
    parts += [frames[keys][:, list(columns)] - hand[keys] for columns in layout.objects]
    for columns, scalar in layout.quaternions:
        parts.append(quaternion_to_6d(frames[keys][:, list(columns)], scalar))
    if layout.others:
        parts.append(frames[keys][:, list(layout.others)])
    return [summary, *(part.reshape(-1) for part in parts)]


class Projection(NamedTuple):
    """How groups of features become the numbers that are clustered; plain arrays.

    Attributes:
        mean: Of every feature.
        scale: Root of the total variance of its group.
        components: Directions that keep most of the variance, ``[kept, feat]``.
    """

    mean: Float[np.ndarray, " feat"]
    scale: Float[np.ndarray, " feat"]
    components: Float[np.ndarray, "kept feat"]

    @classmethod
    def of(cls, groups: Sequence[Sequence[np.ndarray]]) -> "Projection":
        """Fit to the features of some trajectories.

        Length and speeds, the first group, have units of their own: each gets a third of its
        variance.
        """
        flat = np.stack([np.concatenate(own) for own in groups])
        sizes = [len(group) for group in groups[0]]
        mean, variance = flat.mean(0), flat.var(0)
        ends = np.cumsum(sizes)
        totals = [variance[end - size : end].sum() for end, size in zip(ends, sizes, strict=True)]
        spread = np.repeat(totals, sizes)
        spread[: sizes[0]] = sizes[0] * variance[: sizes[0]]
        scale = np.sqrt(np.maximum(spread, LEAST_VARIANCE))
        scaled = (flat - mean) / scale
        _, values, directions = np.linalg.svd(scaled, full_matrices=False)
        share = np.cumsum(values**2) / max(float(np.sum(values**2)), 1e-300)
        kept = min(int(np.searchsorted(share, EXPLAINED)) + 1, MOST_COMPONENTS, len(share))
        return cls(mean, scale, directions[:kept])

    def __call__(self, groups: Sequence[Sequence[np.ndarray]]) -> Float[np.ndarray, "item kept"]:
        """Project features of trajectories."""
        flat = np.stack([np.concatenate(own) for own in groups])
        return ((flat - self.mean) / self.scale) @ self.components.T
