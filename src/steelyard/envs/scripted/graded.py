"""Experts for MetaWorld's dense tasks, and graded failures of them: they see the scene displaced.

An expert is a proportional controller on the way from the hand to a point, in a few phases that
follow from what is seen. A defective one sees object and goal displaced by ``m`` metres along one
direction; growing ``m`` takes success from near one to zero, as checkpoints of a training run do.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from steelyard.envs.dense import GOAL, HAND, OBJECT

GAIN = 10.0
"""Full command from 100 mm on, 1/m."""
OPEN, CLOSED = -1.0, 1.0
Points = Float[np.ndarray, "env 3"]
Aim = Callable[[Points, Points, Points], tuple[Points, np.ndarray]]
"""Places of hand, object and goal to the point to go to, and the gripper's command."""


def _near(a: Points, b: Points, axes: list[int], within: float) -> np.ndarray:
    return np.linalg.norm((a - b)[:, axes], axis=1) < within


def _from(place: Points, x: float, y: float, z: float) -> Points:
    return place + np.array([x, y, z])


def _choose(*choices: tuple[np.ndarray | bool, Points]) -> Points:
    """The first point whose condition holds, row by row."""
    points = choices[-1][1].copy()
    for holds, point in reversed(choices[:-1]):
        points = np.where(np.asarray(holds)[:, None], point, points)
    return points


def _sweep_into(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    above = _near(hand, thing, [0, 1], 0.03)
    down = np.abs(hand[:, 2] - thing[:, 2]) < 0.04
    place = _choose(
        (~above, _from(thing, 0.0, 0.0, 0.12)),
        (~down, _from(thing, 0.0, 0.0, 0.0)),
        (True, np.concatenate([goal[:, :2], thing[:, 2:]], axis=1)),
    )
    return place, np.where(above & down, CLOSED, OPEN)


def _button_press(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    ahead = _near(hand, _from(thing, 0.0, 0.0, -0.07), [0, 2], 0.03)
    before = _from(thing, 0.0, -0.12, -0.07)
    before[:, 1] = np.minimum(hand[:, 1], before[:, 1])
    place = _choose((~ahead, before), (True, _from(thing, 0.0, 0.2, -0.07)))
    return place, np.full(len(hand), CLOSED)


def _door_open(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    handle = _from(thing, -0.05, 0.0, 0.0)
    beside = _near(hand, handle, [0, 1], 0.12)
    down = np.abs(hand[:, 2] - handle[:, 2]) < 0.04
    place = _choose(
        (~beside, _from(handle, 0.06, 0.02, 0.2)),
        (~down, _from(handle, 0.06, 0.02, 0.0)),
        (True, handle),
    )
    return place, np.full(len(hand), CLOSED)


def _drawer_open(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    handle = _from(thing, 0.0, 0.0, -0.02)
    above = _near(hand, handle, [0, 1], 0.06)
    down = np.abs(hand[:, 2] - handle[:, 2]) < 0.04
    place = _choose(
        (~above, _from(handle, 0.0, 0.0, 0.2)),
        (~down, handle),
        (True, _from(handle, 0.0, -0.2, 0.0)),
    )
    return place, np.full(len(hand), OPEN)


def _plate_slide(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    before = _from(thing, 0.0, -0.055, 0.03)
    aligned = _near(hand, before, [0, 1], 0.03)
    down = np.abs(hand[:, 2] - before[:, 2]) < 0.04
    place = _choose((~aligned, _from(before, 0.0, 0.0, 0.1)), (~down, before), (True, goal))
    return place, np.full(len(hand), CLOSED)


_BIN = np.array([0.12, 0.7, 0.02])


def _bin_picking(hand: Points, thing: Points, goal: Points) -> tuple[Points, np.ndarray]:
    cube = _from(thing, 0.0, 0.0, 0.03)
    above = _near(hand, cube, [0, 1], 0.02)
    down = np.abs(hand[:, 2] - cube[:, 2]) < 0.03
    held = _near(hand, cube, [0, 1], 0.04) & (np.abs(hand[:, 2] - cube[:, 2]) < 0.05)
    lifted = hand[:, 2] > 0.16
    over = _near(hand, np.broadcast_to(_BIN, hand.shape), [0], 0.03)
    target = np.broadcast_to(_BIN, hand.shape)
    carry = np.concatenate([target[:, :2], np.full((len(hand), 1), 0.2)], axis=1)
    lift = np.concatenate([hand[:, :2], np.full((len(hand), 1), 0.3)], axis=1)
    place = _choose(
        (held & over, target),
        (held & lifted, carry),
        (held & down, lift),
        (~above, _from(cube, 0.0, 0.0, 0.12)),
        (True, cube),
    )
    return place, np.where(held, CLOSED, OPEN)


class Graded(NamedTuple):
    """A task's expert, and how it is made to fail.

    Attributes:
        aim: The expert.
        direction: Unit vector along which scenes are displaced.
        defects_m: Displacements of the four grades, from mild to hopeless, m.
    """

    aim: Aim
    direction: tuple[float, float, float]
    defects_m: tuple[float, float, float, float]


X, Y = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
GRADED: Mapping[str, Graded] = {
    "BinPicking-v3": Graded(_bin_picking, X, (0.02, 0.03, 0.04, 0.06)),
    "ButtonPress-v3": Graded(_button_press, X, (0.05, 0.06, 0.07, 0.09)),
    "DoorOpen-v3": Graded(_door_open, Y, (0.03, 0.04, 0.05, 0.06)),
    "DrawerOpen-v3": Graded(_drawer_open, Y, (0.02, 0.03, 0.04, 0.05)),
    "PlateSlide-v3": Graded(_plate_slide, X, (0.05, 0.06, 0.07, 0.09)),
    "SweepInto-v3": Graded(_sweep_into, X, (0.035, 0.04, 0.05, 0.06)),
}
"""By task, without the family's prefix."""


def expert_action(
    task: str,
    observation: Float32[np.ndarray, "env 35"],
    displaced_m: Float[np.ndarray, "env 3"] | None = None,
) -> Float32[np.ndarray, "env 4"]:
    """What an expert does, in ``[-1, 1]``.

    Args:
        task: A key of ``GRADED``.
        observation: Of the family ``dense/``.
        displaced_m: Where it takes object and goal to be, from where they are; none sees rightly.
    """
    seen = observation.astype(np.float64)
    shift = np.zeros((len(seen), 3)) if displaced_m is None else displaced_m
    hand = seen[:, HAND]
    point, grip = GRADED[task].aim(hand, seen[:, OBJECT] + shift, seen[:, GOAL] + shift)
    command = np.concatenate([GAIN * (point - hand), grip[:, None]], axis=1)
    return np.clip(command, -1.0, 1.0).astype(np.float32)
