"""Expert for ``assembly/Assembly-v3``: lift the nut by its handle, lower its ring over the rod.

It works from the observation alone (see ``steelyard.envs.metaworld``) and remembers one phase an
environment.
"""

import enum

import numpy as np
from jaxtyping import Float32, Int

from steelyard.envs.scripted.tiers import Tier

GAIN = 20.0  # full command from 50 mm on, 1/m
RING = 0.130  # of the ring from the handle, along the nut's y axis
GRIP = np.array([-0.020, 0.0, 0.0], np.float32)  # where the hand holds, from the handle
HOVER = np.array([0.0, 0.0, 0.080], np.float32)
REACH = np.array([0.0, 0.0, 0.030], np.float32)
HIGH = np.array([0.0, 0.0, 0.100], np.float32)  # of the ring above the rod while it is carried
DOWN = np.array([0.0, 0.0, 0.050], np.float32)
DIRECTION = np.array([np.sqrt(0.5), -np.sqrt(0.5), 0.0], np.float32)  # of the bias

OVER_WITHIN = 0.012
CLOSE_BELOW = 0.035
HELD_STILL = 0.004  # change of the opening per step
HELD_BELOW = 0.9
LIFTED_ABOVE = 0.060  # from here on sideways, still rising
CARRIED_WITHIN = 0.006
LOST_BEYOND = 0.090


class Phase(enum.IntEnum):
    """What the arm is about."""

    HOVER = 0
    DESCEND = 1
    GRASP = 2
    LIFT = 3
    CARRY = 4
    LOWER = 5
    RELEASE = 6


def nut_expert(
    observation: Float32[np.ndarray, "env 20"], phase: Int[np.ndarray, "env"], tier: Tier
) -> tuple[Float32[np.ndarray, "env 4"], Int[np.ndarray, "env"]]:
    """Command the arm towards the target of its phase: ``gain · (target - hand)``.

    Args:
        observation: What the task shows.
        phase: A :class:`Phase` an environment; 0 where an episode begins.
        tier: Of which its bias counts here; noise is added elsewhere.

    Returns:
        Commands, not clipped, and the phases that they belong to.
    """
    hand, opening, handle = observation[:, :3], observation[:, 3], observation[:, 4:7]
    change, goal = observation[:, 13:17], observation[:, 17:20]
    ring = handle + RING * observation[:, 10:13]
    rod = goal + tier.bias_m * DIRECTION
    grasp = handle + GRIP
    miss = rod - ring

    lost = np.linalg.norm(handle - hand, axis=1) > LOST_BEYOND
    done = {
        Phase.HOVER: np.linalg.norm((grasp - hand)[:, :2], axis=1) < OVER_WITHIN,
        Phase.DESCEND: hand[:, 2] - handle[:, 2] < CLOSE_BELOW,
        Phase.GRASP: (np.abs(change[:, 3]) < HELD_STILL) & (opening < HELD_BELOW),
        Phase.LIFT: miss[:, 2] < -LIFTED_ABOVE,
        Phase.CARRY: np.linalg.norm(miss[:, :2], axis=1) < CARRIED_WITHIN,
        Phase.LOWER: miss[:, 2] > 0,
        Phase.RELEASE: np.zeros_like(lost),
    }
    held = (phase >= Phase.LIFT) & (phase < Phase.RELEASE)
    phase = np.where(held & lost, int(Phase.HOVER), phase)
    phase = phase + np.select([phase == p for p in done], list(done.values()))

    onto = hand + miss
    target = {
        Phase.HOVER: grasp + HOVER,
        Phase.DESCEND: grasp + REACH,
        Phase.GRASP: grasp + REACH,
        Phase.LIFT: np.concatenate([hand[:, :2], (onto + HIGH)[:, 2:]], axis=1),
        Phase.CARRY: onto + HIGH,
        Phase.LOWER: onto - DOWN,
        Phase.RELEASE: hand,
    }
    way = np.select([(phase == p)[:, None] for p in target], list(target.values())) - hand
    closed = (phase >= Phase.GRASP) & (phase < Phase.RELEASE)
    grip = np.where(closed, 1.0, -1.0)[:, None]
    return np.concatenate([GAIN * way, grip], axis=1).astype(np.float32), phase
