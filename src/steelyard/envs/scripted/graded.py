"""Experts for MetaWorld's dense tasks, and graded failures of them: they see the scene displaced.

An expert is a proportional controller on the way from the hand to a point, in a few phases that
follow from what is seen. A defective one sees object and goal displaced by ``m`` metres along one
direction; growing ``m`` takes success from near one to zero, as checkpoints of a training run do.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from steelyard.envs.dense import GOAL, HAND, OBJECT, OPENING

GAIN = 10.0
"""Full command from 100 mm on, 1/m."""
OPEN, CLOSED = -1.0, 1.0
Points = Float[np.ndarray, "env 3"]
Widths = Float[np.ndarray, " env"]
Aim = Callable[[Points, Points, Points, Widths], tuple[Points, np.ndarray]]
"""Places of hand, object and goal, and the gripper's opening, to the point to go to and the
gripper's command."""


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


def _sweep_into(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    above = _near(hand, thing, [0, 1], 0.03)
    down = np.abs(hand[:, 2] - thing[:, 2]) < 0.04
    place = _choose(
        (~above, _from(thing, 0.0, 0.0, 0.12)),
        (~down, _from(thing, 0.0, 0.0, 0.0)),
        (True, np.concatenate([goal[:, :2], thing[:, 2:]], axis=1)),
    )
    return place, np.where(above & down, CLOSED, OPEN)


def _button_press(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    ahead = _near(hand, _from(thing, 0.0, 0.0, -0.07), [0, 2], 0.03)
    before = _from(thing, 0.0, -0.12, -0.07)
    before[:, 1] = np.minimum(hand[:, 1], before[:, 1])
    place = _choose((~ahead, before), (True, _from(thing, 0.0, 0.2, -0.07)))
    return place, np.full(len(hand), CLOSED)


def _door_open(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    handle = _from(thing, -0.05, 0.0, 0.0)
    beside = _near(hand, handle, [0, 1], 0.12)
    down = np.abs(hand[:, 2] - handle[:, 2]) < 0.04
    place = _choose(
        (~beside, _from(handle, 0.06, 0.02, 0.2)),
        (~down, _from(handle, 0.06, 0.02, 0.0)),
        (True, handle),
    )
    return place, np.full(len(hand), CLOSED)


def _drawer_open(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    handle = _from(thing, 0.0, 0.0, -0.02)
    above = _near(hand, handle, [0, 1], 0.06)
    down = np.abs(hand[:, 2] - handle[:, 2]) < 0.04
    place = _choose(
        (~above, _from(handle, 0.0, 0.0, 0.2)),
        (~down, handle),
        (True, _from(handle, 0.0, -0.2, 0.0)),
    )
    return place, np.full(len(hand), OPEN)


def _plate_slide(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    before = _from(thing, 0.0, -0.055, 0.03)
    aligned = _near(hand, before, [0, 1], 0.03)
    down = np.abs(hand[:, 2] - before[:, 2]) < 0.04
    place = _choose((~aligned, _from(before, 0.0, 0.0, 0.1)), (~down, before), (True, goal))
    return place, np.full(len(hand), CLOSED)


_BIN = np.array([0.12, 0.7, 0.03])
"""Where the block shall be let down, m."""


def _bin_picking(
    hand: Points, thing: Points, goal: Points, opening: Widths
) -> tuple[Points, np.ndarray]:
    above = _near(hand, thing, [0, 1], 0.02)
    around = _near(hand, thing, [0, 1], 0.03) & (hand[:, 2] - thing[:, 2] < 0.05)
    up = _near(hand, thing, [0, 1], 0.04) & (thing[:, 2] > 0.05)
    held = (around & (opening < 0.8)) | (up & (hand[:, 2] - thing[:, 2] < 0.06))
    over = np.abs(hand[:, 0] - _BIN[0]) < 0.03
    lifted = hand[:, 2] > 0.15
    across = np.broadcast_to(np.array([_BIN[0], _BIN[1], 0.2]), hand.shape)
    lift = np.concatenate([hand[:, :2], np.full((len(hand), 1), 0.3)], axis=1)
    place = _choose(
        (held & over, np.broadcast_to(_BIN, hand.shape)),
        (held & lifted, across),
        (held, lift),
        (~above, _from(thing, 0.0, 0.0, 0.15)),
        (True, _from(thing, 0.0, 0.0, 0.02)),
    )
    return place, np.where(around | up, CLOSED, OPEN)


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
    point, grip = GRADED[task].aim(
        hand, seen[:, OBJECT] + shift, seen[:, GOAL] + shift, seen[:, OPENING]
    )
    command = np.concatenate([GAIN * (point - hand), grip[:, None]], axis=1)
    return np.clip(command, -1.0, 1.0).astype(np.float32)
