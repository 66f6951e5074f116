"""Simulated cars with unknown numbers: what ``mujoco.sysid`` may change, and the model it makes.

Both are the MJCF of :mod:`steelyard.envs.car.scene`. The MuSHR-like car follows speeds, as in
``car-mujoco``. The DART car is driven by a throttle, whose curve MuJoCo can express: the force is
``(c1 - c2 v) (clip(u, u0, 1) - u0)`` behind a first-order lag, against dry and viscous friction of
the drive. Its start ``u0`` is sharp where the single track's is a softplus, and there is no term in
``v|v|``.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from steelyard.data.dart import DartConfig
from steelyard.envs.car.scene import MUSHR, CarParameters, car_xml, require_mujoco
from steelyard.numerics.vehicle import DART

WHEELS = ("front_left", "front_right", "rear_left", "rear_right")
MUSHR_FRICTION = 0.8
"""Middle of the frictions of nine in ten trajectories of ``mixed``."""

Values = Mapping[str, float]


class Unknown(NamedTuple):
    """A number to identify.

    Attributes:
        start: First guess.
        low: Least value.
        high: Largest value, above ``low``.
    """

    start: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Plant:
    """A simulator with unknown numbers.

    Attributes:
        name: Of the car, for reports.
        unknowns: What to identify, by name; SI units.
        spec: ``values -> mujoco.MjSpec``, for a value of every unknown. Its first joint is the free
            one of the tracked point; its actuators are ``velocity``, which takes the first command,
            and ``steering``.

    Raises:
        ValueError: There is no unknown, or a first guess is not between its bounds.
    """

    name: str
    unknowns: Mapping[str, Unknown]
    spec: Callable[[Values], Any]

    def __post_init__(self):
        object.__setattr__(self, "unknowns", MappingProxyType(dict(self.unknowns)))
        if not self.unknowns:
            raise ValueError(f"plant {self.name!r} has no unknown; a fit needs at least 1")
        for name, unknown in self.unknowns.items():
            if not unknown.low <= unknown.start <= unknown.high or unknown.low >= unknown.high:
                raise ValueError(
                    f"plant {self.name!r}: {name} must start between its bounds, low < high; got "
                    f"start {unknown.start}, low {unknown.low}, high {unknown.high}"
                )

    @property
    def start(self) -> dict[str, float]:
        """First guess of every unknown."""
        return {name: unknown.start for name, unknown in self.unknowns.items()}

    def model(self, values: Values) -> Any:
        """Compile the ``mujoco.MjModel`` of some values."""
        return self.spec(values).compile()


MUSHR_TRUTH: Values = MappingProxyType(
    {
        "friction": MUSHR_FRICTION,
        **{
            name: getattr(MUSHR, name)
            for name in (
                "drive_kv",
                "steering_lag",
                "steering_kp",
                "front_axle",
                "rear_axle",
                "base_mass",
            )
        },
    }
)
"""What ``car-mujoco`` is made with; the friction of one trajectory differs, see ``mixed``."""

_GUESS = {
    "friction": 0.75,
    "drive_kv": 0.75,
    "steering_lag": 1.3,
    "steering_kp": 0.75,
    "front_axle": 1.25,
    "rear_axle": 0.8,
    "base_mass": 1.25,
}


def mushr_plant(guess: Mapping[str, float] | None = None) -> Plant:
    """The car of ``car-mujoco``, of true structure, with seven numbers unknown.

    Args:
        guess: First guess of each unknown as a share of the truth; by default 20 to 30 % off it.
            Bounds are 0.4 and 2.5 times the guess. Leaving an unknown out makes it known.

    Raises:
        ValueError: A name is not one of ``MUSHR_TRUTH``.
    """
    shares = dict(_GUESS if guess is None else guess)
    unheard = sorted(set(shares) - set(MUSHR_TRUTH))
    if unheard:
        raise ValueError(f"unknown of {', '.join(MUSHR_TRUTH)}: got {unheard[0]!r}")
    starts = {name: MUSHR_TRUTH[name] * share for name, share in shares.items()}
    unknowns = {name: Unknown(value, 0.4 * value, 2.5 * value) for name, value in starts.items()}
    return Plant("mushr", unknowns, mushr_spec)


def mushr_spec(values: Values) -> Any:
    """Return the ``mujoco.MjSpec`` of ``car-mujoco`` with some of its numbers changed.

    Args:
        values: By name: ``friction`` or fields of :class:`CarParameters`.
    """
    fields = {name: float(value) for name, value in values.items() if name != "friction"}
    spec = require_mujoco().MjSpec.from_string(car_xml(dataclasses.replace(MUSHR, **fields)))
    return _with_friction(spec, values.get("friction", MUSHR_FRICTION))


_MASS, _ARM, _CENTRE, _FRONT = (
    float(getattr(DART.single_track, name)) for name in ("mass", "arm", "rear", "front")
)
DART_CAR = CarParameters(
    front_axle=_CENTRE + _FRONT - _ARM,
    rear_axle=_ARM,
    track=0.16,
    wheel_radius=0.0325,
    wheel_half_width=0.013,
    wheel_mass=0.04,
    base_mass=_MASS - 4 * 0.04 - 0.01,
    base_half_size=(0.07, 0.045, 0.02),
    base_centre=(_CENTRE - _ARM, 0.0, 0.01),
    camera_mass=1e-6,
    lidar_mass=1e-6,
    wheel_armature=1e-5,
)
"""The DART car: wheelbase, mass and centre of mass as its authors measured them; track and wheels
are nominal, the box gives the yaw inertia that they identified within 5 %. (With their ``track`` of
0.08 m, which must be half of it, the simulated car tips over in turns.)"""


def dart_plant() -> Plant:
    """The DART car with eleven numbers unknown; first guesses as the single-track peer's.

    Forces are in N: ``c1`` at standstill and full opening, ``c2`` its loss per m/s, ``r0`` dry,
    ``r1`` per m/s. Steering is ``steering_gain · command + steering_trim``, rad. The nearest that
    MuJoCo has to a tyre's slip is how soft friction is beside the normal contact: ``log_impratio``,
    a power of ten.
    """
    car, drive = DART.single_track, DART.single_track.drive
    guesses = {
        "c1": drive.c1 * _MASS,
        "c2": drive.c2 * _MASS,
        "r0": drive.r0 * _MASS,
        "r1": drive.r1 * _MASS,
        "drive_lag": car.tau_drive,
        "steering_lag": car.tau_steer,
        "steering_gain": car.steering_gain / DartConfig().steering_lock_rad,
    }
    unknowns = {
        name: Unknown(float(value), float(value / 3), float(3 * value))
        for name, value in guesses.items()
    }
    unknowns["friction"] = Unknown(float(car.front_tyre.peak), 0.2, 1.5)
    unknowns["u0"] = Unknown(float(drive.u0), 0.05, 0.3)
    unknowns["steering_trim"] = Unknown(float(car.steering_trim), -0.1, 0.1)
    unknowns["log_impratio"] = Unknown(-1.0, -2.5, 1.0)
    return Plant("dart", unknowns, dart_spec)


def dart_spec(values: Values) -> Any:
    """Return the ``mujoco.MjSpec`` of the DART car.

    Args:
        values: Of every unknown of :func:`dart_plant`.
    """
    mujoco = require_mujoco()
    car = dataclasses.replace(
        DART_CAR,
        steering_lag=float(values["steering_lag"]),
        impratio=10.0 ** float(values["log_impratio"]),
    )
    spec = mujoco.MjSpec.from_string(car_xml(car))
    spec.joint("steering").range = (-_DART_STEERING, _DART_STEERING)

    drive = spec.actuator("velocity")
    drive.gaintype = mujoco.mjtGain.mjGAIN_AFFINE
    drive.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    drive.gainprm[:3] = (values["c1"], 0.0, -values["c2"])
    # Together with the gain: (c1 - c2 v) (u - u0).
    drive.biasprm[:3] = (-values["c1"] * values["u0"], 0.0, values["c2"] * values["u0"])
    drive.dyntype = mujoco.mjtDyn.mjDYN_FILTEREXACT
    drive.dynprm[0] = values["drive_lag"]
    drive.actlimited = drive.ctrllimited = True
    drive.actrange = drive.ctrlrange = (values["u0"], 1.0)
    tendon = spec.tendon("drive")
    tendon.frictionloss = values["r0"] * car.wheel_radius
    tendon.damping[0] = values["r1"] * car.wheel_radius**2

    steering = spec.actuator("steering")
    steering.ctrlrange = (-_DART_STEERING, _DART_STEERING)
    steering.gainprm[0] = car.steering_kp * values["steering_gain"]
    steering.biasprm[0] = car.steering_kp * values["steering_trim"]
    return _with_friction(spec, values["friction"])


_DART_STEERING = 0.7
"""Bound of angle and command, rad, beyond what either reaches."""


def _with_friction(spec: Any, friction: float) -> Any:
    if not 0.0 < friction < math.inf:
        raise ValueError(f"a tyre's friction is positive and finite: got {friction}")
    for wheel in WHEELS:
        spec.geom(wheel).friction[0] = friction
    return spec
