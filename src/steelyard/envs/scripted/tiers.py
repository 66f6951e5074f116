"""The scripted experts by task and quality tier, and what each was measured to achieve.

A tier is the expert of its task made worse in a known way: noise added to what it commands, a
systematic error in where it believes the goal to be, or a pause. Quality is thus a dial that is
known exactly, which no outcome tells: ``stalling`` demonstrations all succeed.
"""

import dataclasses
import difflib
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Tier:
    """How an expert is made worse, and what it then achieves within 150 steps.

    Attributes:
        noise: Standard deviation of the noise that is added to each component of a command, before
            it is clipped to ``[-1, 1]``.
        bias_mm: How far from the goal the expert believes it to be, mm: to the left (y) for the
            peg; to the front right (x, -y) for the nut.
        stalling: Whether the gripper closes only after the arm has stopped.
        success: Measured share of successful episodes.
        steps: Measured mean length of the successful ones, steps; None where there is none.
    """

    noise: float = 0.0
    bias_mm: float = 0.0
    stalling: bool = False
    success: float = float("nan")
    steps: float | None = None

    @property
    def bias_m(self) -> float:
        """The systematic error, m."""
        return self.bias_mm / 1000.0


MEASURED_EPISODES = 256
"""Episodes behind ``success`` and ``steps``: EnvPool 1.2.5, the first evaluation seeds, seed 0.
Wilson's 95 % interval of a rate then reaches at most 0.06 to either side."""

TIERS: dict[str, dict[str, Tier]] = {
    "PegInsertSide-v3": {
        "good": Tier(success=1.0, steps=86.4),
        "stalling": Tier(stalling=True, success=1.0, steps=106.9),
        "biased": Tier(noise=0.6, bias_mm=20.0, success=0.633, steps=108.5),
        "noise-0.3": Tier(noise=0.3, success=1.0, steps=91.2),
        "noise-0.6": Tier(noise=0.6, success=0.984, steps=102.4),
        "noise-1.0": Tier(noise=1.0, success=0.66, steps=121.7),
        "noise-1.5": Tier(noise=1.5, success=0.168, steps=134.5),
        "bias-5mm": Tier(bias_mm=5.0, success=1.0, steps=86.3),
        "bias-10mm": Tier(bias_mm=10.0, success=1.0, steps=87.0),
        "bias-15mm": Tier(bias_mm=15.0, success=1.0, steps=89.2),
        "bias-20mm": Tier(bias_mm=20.0, success=0.336, steps=91.4),
        "bias-30mm": Tier(bias_mm=30.0, success=0.0),
    },
    "Assembly-v3": {
        "good": Tier(success=1.0, steps=96.1),
        "noise-0.6": Tier(noise=0.6, success=0.879, steps=120.4),
        "noise-1.0": Tier(noise=1.0, success=0.41, steps=130.1),
        "noise-1.5": Tier(noise=1.5, success=0.07, steps=138.1),
        "bias-10mm": Tier(bias_mm=10.0, success=1.0, steps=95.6),
        "bias-20mm": Tier(bias_mm=20.0, success=1.0, steps=97.8),
        "bias-30mm": Tier(bias_mm=30.0, success=0.734, steps=111.3),
    },
}
"""By task and name."""


@dataclasses.dataclass(frozen=True)
class ScriptedExpert:
    """One expert: a task and a tier of it.

    Attributes:
        task: A key of ``TIERS``; given without its version, ``"PegInsertSide"``, it is completed.
        tier: Name of one of the task's tiers.

    Raises:
        ValueError: If one is unknown; names the nearest and all legal ones.
    """

    task: str
    tier: str = "good"

    def __post_init__(self):
        object.__setattr__(self, "task", _task(self.task))
        if self.tier not in TIERS[self.task]:
            raise ValueError(_unknown("tier", self.tier, TIERS[self.task], f" of {self.task}"))

    @property
    def env_id(self) -> str:
        """Name of the environment it acts in."""
        return f"assembly/{self.task}"

    @property
    def settings(self) -> Tier:
        """How it is made worse."""
        return TIERS[self.task][self.tier]


def _task(name: str) -> str:
    """Complete the name of a task."""
    for task in TIERS:
        if name.removeprefix("assembly/") in (task, task.rpartition("-v")[0]):
            return task
    raise ValueError(_unknown("task", name, [task.rpartition("-v")[0] for task in TIERS], ""))


def _unknown(kind: str, name: str, legal: Iterable[str], of: str) -> str:
    """Word the error about a name that is not there."""
    legal = list(legal)
    near = difflib.get_close_matches(name, legal, n=3, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"there is no scripted {kind} {name!r}{of}{hint}. Legal: {', '.join(legal)}"
