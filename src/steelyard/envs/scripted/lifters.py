"""Operators of robosuite's tasks: six of them, two of each tier, none like another.

An operator goes above the object, down to it, closes the gripper, and takes the object where it
belongs. Operators differ in speed, in noise that lasts (AR(1)), in pauses, in the side from which
they come and in how deep they grasp. Unlike people they never grasp again what they have dropped.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steelyard.envs.robosuite import NAMES

GAIN = 12.0
"""Full command from 8 cm on, 1/m."""
TURN_GAIN = 2.0
NOISE_MEMORY = 0.8
HOVER_M = 0.10
OVER_WITHIN, AT_WITHIN, THERE_WITHIN = 0.015, 0.012, 0.02
GRASP_STEPS = 10
DESCENT_STEPS = 25
"""Steps after which the gripper closes where the hand is, at full speed."""
LIFT_HEIGHT = 0.25
"""Of a lifted object above where it was grasped, m."""
CAN_BIN = np.array([0.1975, 0.4025, 0.80])
"""Middle of the can's bin, m."""
PEG = np.array([0.23, 0.10, 0.85])
"""Foot of the square peg, m."""
HANDLE = 0.055
"""Of the nut's handle from its middle, along its x axis, m."""


@dataclasses.dataclass(frozen=True)
class Lifter:
    """One operator.

    Attributes:
        tier: ``better``, ``okay`` or ``worse``: robomimic's names.
        speed: Factor of the command.
        noise: Standard deviation of the lasting noise.
        pause: Chance a step to begin a pause of five steps.
        side: Offset of the point above the object, m, x and y.
        depth: How far below its middle the object is grasped, m.
    """

    tier: str
    speed: float
    noise: float
    pause: float
    side: tuple[float, float]
    depth: float


OPERATORS: Mapping[str, Lifter] = {
    "better-1": Lifter("better", 1.0, 0.05, 0.0, (0.0, 0.0), 0.01),
    "better-2": Lifter("better", 0.9, 0.08, 0.0, (0.02, 0.0), 0.0),
    "okay-1": Lifter("okay", 0.7, 0.15, 0.02, (0.0, 0.03), 0.01),
    "okay-2": Lifter("okay", 0.6, 0.20, 0.02, (-0.03, 0.0), 0.0),
    "worse-1": Lifter("worse", 0.5, 0.35, 0.05, (0.04, 0.04), -0.005),
    "worse-2": Lifter("worse", 0.45, 0.45, 0.05, (-0.04, 0.03), 0.005),
}
"""By name."""


def lifter_policies(
    task: str, operators: Sequence[str], seed: int, first: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """Return policies that play an episode for each operator named, all at once.

    Args:
        task: A key of ``steelyard.envs.robosuite.NAMES``.
        operators: Who acts in each episode.
        seed: Of noise and pauses.
        first: Place of the first episode, where these are a part of more.

    Returns:
        A function of observations ``[1, episode, obs]`` to actions ``[1, episode, 7]``.

    Raises:
        ValueError: Task or operator is unknown.
    """
    if task not in NAMES:
        raise ValueError(f"no operator knows {task!r}. Legal: {', '.join(NAMES)}")
    for name in operators:
        if name not in OPERATORS:
            raise ValueError(f"no operator {name!r}. Legal: {', '.join(OPERATORS)}")
    randoms = [np.random.default_rng([seed, first + i]) for i in range(len(operators))]
    playing = [
        _Playing(task, OPERATORS[name], random)
        for name, random in zip(operators, randoms, strict=True)
    ]

    def act(observation: np.ndarray) -> np.ndarray:
        seen = observation[0].astype(np.float64)
        return np.stack([p.command(o) for p, o in zip(playing, seen, strict=True)])[None]

    return act


class _Playing:
    """One operator in one episode."""

    def __init__(self, task: str, who: Lifter, random: np.random.Generator):
        self._task, self._who, self._random = task, who, random
        self._stage, self._since, self._pause = 0, 0, 0
        self._noise = np.zeros(3)
        self._grasped = np.zeros(3)

    def command(self, seen: np.ndarray) -> np.ndarray:
        hand, quaternion, thing = seen[0:3], seen[9 + 3 : 9 + 7], seen[9:12]
        yaw = _yaw(quaternion)
        place = thing.copy()
        if self._task == "square":
            place[:2] += HANDLE * np.array([np.cos(yaw), np.sin(yaw)])
        place[2] -= self._who.depth
        target, near, grip = self._target(hand, place, thing, yaw)
        late = self._stage == 1 and self._since * self._who.speed > DESCENT_STEPS
        if late or np.linalg.norm((target - hand) * near[:3]) < near[3]:
            self._advance(hand)
        wanted = np.clip(GAIN * (target - hand), -1.0, 1.0) * self._who.speed
        turn = self._turn(seen[3:7], yaw)
        fresh = self._random.standard_normal(3)
        spread = self._who.noise * np.sqrt(1.0 - NOISE_MEMORY**2)
        self._noise = NOISE_MEMORY * self._noise + spread * fresh
        if self._pause == 0 and self._random.uniform() < self._who.pause:
            self._pause = 5
        if self._pause:
            self._pause, wanted = self._pause - 1, np.zeros(3)
        action = np.concatenate([wanted + self._noise, [0.0, 0.0, turn], [grip]])
        self._since += 1
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _advance(self, hand: np.ndarray) -> None:
        self._stage, self._since = self._stage + 1, 0
        self._grasped = hand.copy() if self._stage == 2 else self._grasped

    def _target(
        self, hand: np.ndarray, place: np.ndarray, thing: np.ndarray, yaw: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Where to go, which components must be how near, and the gripper's command."""
        side = np.array([*self._who.side, HOVER_M])
        every, flat = np.ones(3), np.array([1.0, 1.0, 0.0])
        if self._stage == 0:
            return place + side, np.array([*flat, OVER_WITHIN + np.linalg.norm(side[:2])]), -1.0
        if self._stage == 1:
            return place, np.array([*every, AT_WITHIN]), -1.0
        if self._stage == 2:
            done = 1.0 if self._since >= GRASP_STEPS else 0.0
            return self._grasped, np.array([*every, 1.0 * done]), 1.0
        up = np.array([hand[0], hand[1], self._grasped[2] + LIFT_HEIGHT])
        if self._stage == 3 or self._task == "lift":
            return up, np.array([0.0, 0.0, 1.0, 0.05 if self._task != "lift" else -1.0]), 1.0
        goal = CAN_BIN if self._task == "can" else PEG
        over = hand + (goal - thing)
        over[2] = self._grasped[2] + LIFT_HEIGHT
        if self._stage == 4:
            return over, np.array([*flat, THERE_WITHIN]), 1.0
        down = hand + (goal - thing)
        down[2] = self._grasped[2] + (0.06 if self._task == "can" else 0.0)
        if self._stage == 5:
            return down, np.array([0.0, 0.0, 1.0, 0.03]), 1.0
        return hand, np.array([*every, -1.0]), -1.0

    def _turn(self, hand: np.ndarray, yaw: float) -> float:
        """Turn about the vertical that brings fingers across the handle, or the nut on the peg."""
        if self._task != "square":
            return 0.0
        if self._stage < 2:
            off = yaw - _yaw(hand)
        elif self._stage < 4:
            return 0.0
        else:
            off = -yaw  # the peg is square: a quarter turn is as good as none
            off = (off + np.pi / 4) % (np.pi / 2) - np.pi / 4
            return float(np.clip(TURN_GAIN * off, -1.0, 1.0))
        off = (off + np.pi / 2) % np.pi - np.pi / 2
        return float(np.clip(TURN_GAIN * off, -1.0, 1.0))


def _yaw(quaternion: np.ndarray) -> float:
    """Turn about the vertical of a quaternion, scalar last."""
    x, y, z, w = quaternion
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
