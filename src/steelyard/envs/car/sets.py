"""Sets of trajectories by name: which commands, which friction, which noise.

=============  =====================================================================================
``reference``  constant commands up to 0.6 m/s, friction 0.8
``mixed``      a third constant, two thirds varying, up to 3 m/s; friction 0.7–0.9, and 0.25–0.4 in
               10 % of the trajectories, which nobody observes
``lowgrip``    as ``mixed`` with friction 0.3
``fast``       as ``mixed`` up to 4 m/s
``reverse``    as ``mixed``, backwards only
``noisy``      as ``mixed`` with measured twists: noise of 0.02 m/s, 0.02 m/s, 0.05 rad/s
=============  =====================================================================================
"""

import dataclasses
import difflib
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from steelyard.envs.car.commands import LAWS, Commands
from steelyard.envs.car.scene import STEER_LIMIT

_CONSTANT = {"constant": 1.0}
_MIXED = {"constant": 1 / 3} | {name: 1 / 6 for name in LAWS if name != "constant"}


class CarRecording(NamedTuple):
    """One trajectory of ``T`` control steps, SI units.

    Attributes:
        twist: ``(vx, vy, w)`` of the tracked point in the heading frame; m/s, m/s, rad/s.
        pose: ``(x, y, theta)`` in the world; m, m, rad, theta unwrapped.
        command: Speed (m/s) and steering (rad, positive left), held over each step.
        dt: Length of each step, s.
        terminated: Whether the car rolled over; the trajectory then ends before that step.
        friction: Coefficient between tyres and floor.
        kind: Name of the command law.
    """

    twist: Float[np.ndarray, "state 3"]
    pose: Float[np.ndarray, "state 3"]
    command: Float[np.ndarray, "step 2"]
    dt: Float[np.ndarray, " step"]
    terminated: bool
    friction: float
    kind: str


class CarDraw(NamedTuple):
    """What one trajectory of a set is asked to be.

    Attributes:
        command: ``[step, 2]`` m/s, rad.
        friction: Coefficient between tyres and floor.
        kind: Name of the command law.
        noise: ``[step + 1, 3]`` added to the twist, m/s, m/s, rad/s.
    """

    command: Commands
    friction: float
    kind: str
    noise: Float[np.ndarray, "state 3"]


@dataclasses.dataclass(frozen=True)
class CarSet:
    """A law of trajectories: trajectory ``i`` follows from the seed, the set and ``i`` alone.

    Attributes:
        name: Part of every random stream; two sets with one name and one seed draw alike.
        velocity: Least and largest commanded speed, m/s.
        steering: Least and largest commanded steering, rad, within ±0.38.
        laws: Share of the trajectories per command law; names of ``LAWS``, shares sum to 1.
        friction: Bounds between which a trajectory's friction is uniform.
        rare_friction: Likewise, for a share ``rare_share`` of the trajectories.
        rare_share: In ``[0, 1]``.
        twist_noise: Standard deviation of what is added to the recorded twist, m/s, m/s, rad/s.
        steps: Control steps of a trajectory.
        dt: Length of a control step, s.

    Raises:
        ValueError: A field breaks its rule; the message names set, field and value.
    """

    name: str
    velocity: tuple[float, float] = (-3.0, 3.0)
    steering: tuple[float, float] = (-STEER_LIMIT, STEER_LIMIT)
    laws: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(_MIXED))
    friction: tuple[float, float] = (0.7, 0.9)
    rare_friction: tuple[float, float] = (0.25, 0.4)
    rare_share: float = 0.1
    twist_noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    steps: int = 100
    dt: float = 0.1

    def __post_init__(self):
        unknown = sorted(set(self.laws) - set(LAWS))
        rules = {
            "name": (bool(self.name), "is not empty"),
            "velocity": (self.velocity[0] <= self.velocity[1], "is (least, largest) in m/s"),
            "steering": (
                -STEER_LIMIT <= self.steering[0] <= self.steering[1] <= STEER_LIMIT,
                f"is (least, largest) in rad within ±{STEER_LIMIT}",
            ),
            "laws": (
                not unknown
                and min(self.laws.values(), default=-1.0) >= 0.0
                and abs(sum(self.laws.values()) - 1.0) < 1e-9,
                f"maps names among {', '.join(LAWS)} to shares that sum to 1",
            ),
            "friction": (0.0 < self.friction[0] <= self.friction[1], "is (least, largest), > 0"),
            "rare_friction": (
                0.0 < self.rare_friction[0] <= self.rare_friction[1],
                "is (least, largest), > 0",
            ),
            "rare_share": (0.0 <= self.rare_share <= 1.0, "lies in [0, 1]"),
            "twist_noise": (min(self.twist_noise) >= 0.0, "has three values >= 0"),
            "steps": (self.steps >= 1, "is at least 1"),
            "dt": (self.dt > 0.0, "is positive, in s"),
        }
        for field, (holds, rule) in rules.items():
            if not holds:
                value = getattr(self, field)
                raise ValueError(f"car set {self.name!r}: {field} {rule}, got {value!r}")

    def draw(self, seed: int, index: int) -> CarDraw:
        """Draw trajectory ``index``; a function of ``(seed, name, index)`` and the set's fields.

        Args:
            seed: Of the set, >= 0. Training and test data need different ones.
            index: Of the trajectory, >= 0.
        """
        label = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "little")
        root = np.random.SeedSequence([seed, label, index])
        of_law, of_command, of_friction, of_noise = map(np.random.default_rng, root.spawn(4))
        # Sorted, so that equal sets draw alike however their laws were written down.
        laws = sorted(self.laws)
        kind = str(of_law.choice(laws, p=[self.laws[law] for law in laws]))
        bounds = np.array([self.velocity, self.steering]).T
        command = LAWS[kind](of_command, np.arange(self.steps) * self.dt, bounds[0], bounds[1])
        rare = of_friction.uniform() < self.rare_share
        friction = of_friction.uniform(*(self.rare_friction if rare else self.friction))
        noise = of_noise.normal(size=(self.steps + 1, 3)) * np.array(self.twist_noise)
        return CarDraw(command, float(friction), kind, noise)


CAR_SETS: dict[str, CarSet] = {
    car_set.name: car_set
    for car_set in (
        CarSet("reference", (-0.6, 0.6), laws=dict(_CONSTANT), friction=(0.8, 0.8), rare_share=0.0),
        CarSet("mixed"),
        CarSet("lowgrip", friction=(0.3, 0.3), rare_share=0.0),
        CarSet("fast", velocity=(-4.0, 4.0)),
        CarSet("reverse", velocity=(-3.0, 0.0)),
        CarSet("noisy", twist_noise=(0.02, 0.02, 0.05)),
    )
}
"""The sets of the study by name."""


def car_set(name: str) -> CarSet:
    """Return the set of this name.

    Raises:
        ValueError: There is none; the message lists all and the nearest.
    """
    if name in CAR_SETS:
        return CAR_SETS[name]
    near = difflib.get_close_matches(name, CAR_SETS, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"no car set is named {name!r}; there are {', '.join(CAR_SETS)}{hint}")


def checked_request(trajectories: int, seed: int) -> None:
    """Refuse a number of trajectories below 1 and a negative seed.

    Raises:
        ValueError: One of them is out of range.
    """
    if trajectories < 1:
        raise ValueError(f"a set has at least 1 trajectory: got {trajectories}")
    if seed < 0:
        raise ValueError(f"a set's seed is at least 0: got {seed}")
