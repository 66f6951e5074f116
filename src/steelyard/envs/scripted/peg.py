"""Expert for ``assembly/PegInsertSide-v3``: pick the peg up, carry it before the hole, push it in.

It works from the observation alone (see ``steelyard.envs.metaworld``) and remembers one phase an
environment. There are two of it, which differ in one thing: the one closes its gripper while it
still descends, the stalling one after it has stopped. Both always succeed; a pause is harder to
clone from single observations, since little that is seen says when it is over.
"""

import enum

import numpy as np
from jaxtyping import Float32, Int

from steelyard.envs.scripted.tiers import Tier

GAIN = 20.0  # full command from 50 mm on, 1/m
HEAD = np.array([-0.130, 0.0, -0.010], np.float32)  # tip from the grasp point; the peg never turns
GRIP = np.array([0.0, 0.0, 0.022], np.float32)  # hand from the grasp point of a held peg
HOVER = np.array([0.0, 0.0, 0.080], np.float32)
STANDOFF = 0.30  # of the hand before the goal
DEPTH = 0.04  # where insertion aims the tip, before the goal; success counts from 0.07 on

OVER_WITHIN = 0.012
CLOSE_BELOW = 0.035
STOPPED_BELOW = 0.0002  # per step
HELD_STILL = 0.004  # change of the opening per step
HELD_BELOW = 0.9
LIFTED_WITHIN = 0.020
ALIGNED_WITHIN = 0.008
LOST_BEYOND = 0.070


class Phase(enum.IntEnum):
    """What the arm is about."""

    HOVER = 0
    DESCEND = 1
    GRASP = 2
    LIFT = 3
    ALIGN = 4
    INSERT = 5


def peg_expert(
    observation: Float32[np.ndarray, "env 20"], phase: Int[np.ndarray, "env"], tier: Tier
) -> tuple[Float32[np.ndarray, "env 4"], Int[np.ndarray, "env"]]:
    """Command the arm towards the target of its phase: ``gain · (target - hand)``.

    Args:
        observation: What the task shows.
        phase: A :class:`Phase` an environment; 0 where an episode begins.
        tier: Of which its bias and whether it stalls count here; noise is added elsewhere.

    Returns:
        Commands, not clipped, and the phases that they belong to.
    """
    hand, opening, peg = observation[:, :3], observation[:, 3], observation[:, 4:7]
    change, goal = observation[:, 13:17], observation[:, 17:20]
    believed = goal + np.array([0.0, tier.bias_m, 0.0], np.float32)
    inserted = believed - HEAD  # of the grasp point, the tip at the goal

    low = hand[:, 2] - peg[:, 2] < CLOSE_BELOW
    stopped = np.linalg.norm(change[:, :3], axis=1) < STOPPED_BELOW
    miss = np.abs(inserted - peg)
    lost = np.linalg.norm(peg - hand, axis=1) > LOST_BEYOND
    done = {
        Phase.HOVER: np.linalg.norm((peg - hand)[:, :2], axis=1) < OVER_WITHIN,
        Phase.DESCEND: low & stopped if tier.stalling else low,
        Phase.GRASP: (np.abs(change[:, 3]) < HELD_STILL) & (opening < HELD_BELOW),
        Phase.LIFT: miss[:, 2] < LIFTED_WITHIN,
        Phase.ALIGN: (miss[:, 1:] < ALIGNED_WITHIN).all(axis=1),
        Phase.INSERT: np.zeros_like(low),
    }
    phase = np.where((phase >= Phase.LIFT) & lost, int(Phase.HOVER), phase)
    phase = phase + np.select([phase == p for p in done], list(done.values()))

    carried = inserted + GRIP
    ahead = np.concatenate([goal[:, :1] + STANDOFF, carried[:, 1:]], axis=1)
    target = {
        Phase.HOVER: peg + HOVER,
        Phase.DESCEND: peg,
        Phase.GRASP: peg,
        Phase.LIFT: np.concatenate([hand[:, :2], carried[:, 2:]], axis=1),
        Phase.ALIGN: ahead,
        Phase.INSERT: carried + np.array([DEPTH, 0.0, 0.0], np.float32),
    }
    way = np.select([(phase == p)[:, None] for p in target], list(target.values())) - hand
    grip = np.where(phase >= Phase.GRASP, 1.0, -1.0)[:, None]
    return np.concatenate([GAIN * way, grip], axis=1).astype(np.float32), phase
