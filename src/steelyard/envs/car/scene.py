"""The 1/10 car in MuJoCo: its numbers, its MJCF, and a compiled model for a given friction.

A car of the MuSHR class made of boxes, cylinders and ellipsoids, four driven wheels, Ackermann
steering. The origin of the base is the tracked point: 0.158 m ahead of the rear axle, at the height
of the axles. Commands are a speed in m/s and a steering angle in rad, positive left.
"""

import dataclasses
import functools
from typing import Any

STEER_LIMIT = 0.38
"""Largest steering angle, rad."""


@dataclasses.dataclass(frozen=True)
class CarParameters:
    """What the MJCF is made of; SI units.

    Attributes:
        front_axle: Distance of the front axle ahead of the tracked point, m.
        rear_axle: Distance of the rear axle behind the tracked point (the arm), m.
        track: Distance between the left and the right wheels, m.
        wheel_radius: m; also the gear of the drive, which makes the command a speed.
        wheel_half_width: Half width of the ellipsoid that a wheel is, m.
        wheel_mass: Each of four, kg.
        base_mass: The box, kg.
        base_half_size: Half length, width and height of the box, m.
        base_centre: Centre of the box from the tracked point, m.
        camera_mass: kg.
        camera_centre: From the tracked point, m.
        lidar_mass: kg.
        lidar_centre: From the tracked point, m.
        steering_mass: The steering link, which carries the commanded angle, kg.
        steering_armature: Rotor inertia of the steering joint, kg m².
        wheel_armature: Rotor inertia of each wheel's drive, kg m²: 2e-3 acts like 3.4 kg more.
        steering_kp: Gain of the steering servo, N m/rad.
        steering_kv: Its damping, N m s/rad.
        steering_lag: Time constant of the command's first-order filter before the servo, s.
        drive_kv: Gain of the drive, N per m/s.
        contact_time: Time constant of the tyres' contact with the floor, s. With this and
            ``impratio``, halving the time step moves a driving car by 4.5 mm on average, with
            MuJoCo's defaults by 18.5 mm (24 constant commands up to 3 m/s, after 2 s).
        impratio: How much stiffer friction is than the normal contact.
        timestep: Of the physics, s.
    """

    front_axle: float = 0.1385
    rear_axle: float = 0.158
    track: float = 0.23
    wheel_radius: float = 0.0488
    wheel_half_width: float = 0.03
    wheel_mass: float = 0.499
    base_mass: float = 3.542
    base_half_size: tuple[float, float, float] = (0.2, 0.09, 0.025)
    base_centre: tuple[float, float, float] = (-0.01, 0.0, 0.02)
    camera_mass: float = 0.072
    camera_centre: tuple[float, float, float] = (0.1, 0.0, 0.075)
    lidar_mass: float = 0.180
    lidar_centre: tuple[float, float, float] = (-0.035, 0.0, 0.1)
    steering_mass: float = 0.010
    steering_armature: float = 2e-3
    wheel_armature: float = 2e-3
    steering_kp: float = 25.0
    steering_kv: float = 1.0
    steering_lag: float = 0.06
    drive_kv: float = 60.0
    contact_time: float = 0.01
    impratio: float = 10.0
    timestep: float = 0.002

    @property
    def wheelbase(self) -> float:
        """Distance between the axles ``L``, m."""
        return self.front_axle + self.rear_axle

    @property
    def ackermann(self) -> float:
        """``c = W / 2L``: half track over wheelbase."""
        return self.track / (2.0 * self.wheelbase)


MUSHR = CarParameters()
"""The car of the study."""


def car_xml(car: CarParameters = MUSHR) -> str:
    """Return the MJCF of the car on an endless floor.

    The wheels' steering angles follow the link's, ``tan δ_w = tan δ / (1 ∓ c tan δ)``, by their
    series to the fourth order (largest error 1.3 mrad). A friction belongs to the wheels, which
    have priority over the floor: the number set there is the coefficient of the contact.
    """
    c = car.ackermann
    series = (c, c**2, c**3 - c / 3.0)
    left = _numbers((0.0, 1.0, series[0], series[1], series[2]))
    right = _numbers((0.0, 1.0, -series[0], series[1], -series[2]))
    wheels = "".join(
        _wheel_xml(car, name, x, y)
        for name, x, y in (
            ("front_left", car.front_axle, car.track / 2),
            ("front_right", car.front_axle, -car.track / 2),
            ("rear_left", -car.rear_axle, car.track / 2),
            ("rear_right", -car.rear_axle, -car.track / 2),
        )
    )
    return f"""\
<mujoco model="car">
  <!-- Without `radian`, MuJoCo reads the steering limit in degrees. -->
  <compiler angle="radian"/>
  <option timestep="{car.timestep!r}" integrator="implicitfast" cone="elliptic"
    impratio="{car.impratio!r}">
    <flag autoreset="disable"/>
  </option>
  <default>
    <geom contype="0" conaffinity="1"/>
    <default class="wheel">
      <!-- condim 3: torsional friction (4) would cost 7 % of the yaw rate. Contact friction is the
           larger of the two geoms' unless one has priority. -->
      <geom type="ellipsoid" mass="{car.wheel_mass!r}" condim="3" priority="1"
        solref="{car.contact_time!r} 1"
        size="{_numbers((car.wheel_radius, car.wheel_half_width, car.wheel_radius))}"/>
    </default>
  </default>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" contype="1" conaffinity="0"/>
    <body name="base" pos="0 0 {car.wheel_radius!r}">
      <freejoint name="base"/>
      <geom name="base" type="box" mass="{car.base_mass!r}"
        pos="{_numbers(car.base_centre)}" size="{_numbers(car.base_half_size)}"/>
      <geom name="camera" type="box" mass="{car.camera_mass!r}"
        pos="{_numbers(car.camera_centre)}" size="0.012 0.045 0.012"/>
      <geom name="lidar" type="cylinder" mass="{car.lidar_mass!r}"
        pos="{_numbers(car.lidar_centre)}" size="0.035 0.02"/>
      <body name="steering" pos="{car.front_axle!r} 0 0">
        <joint name="steering" axis="0 0 1" limited="true" range="-{STEER_LIMIT} {STEER_LIMIT}"
          armature="{car.steering_armature!r}"/>
        <geom name="steering" type="sphere" size="0.01" mass="{car.steering_mass!r}"
          conaffinity="0"/>
      </body>{wheels}
    </body>
  </worldbody>
  <equality>
    <joint joint1="front_left_steer" joint2="steering" polycoef="{left}"/>
    <joint joint1="front_right_steer" joint2="steering" polycoef="{right}"/>
  </equality>
  <tendon>
    <fixed name="drive">
      <joint joint="front_left_spin" coef="0.25"/>
      <joint joint="front_right_spin" coef="0.25"/>
      <joint joint="rear_left_spin" coef="0.25"/>
      <joint joint="rear_right_spin" coef="0.25"/>
    </fixed>
  </tendon>
  <actuator>
    <velocity name="velocity" tendon="drive" kv="{car.drive_kv!r}" gear="{car.wheel_radius!r}"/>
    <position name="steering" joint="steering" kp="{car.steering_kp!r}" kv="{car.steering_kv!r}"
      timeconst="{car.steering_lag!r}" ctrllimited="true" ctrlrange="-{STEER_LIMIT} {STEER_LIMIT}"/>
  </actuator>
</mujoco>
"""


def compile_car(friction: float, car: CarParameters = MUSHR) -> Any:
    """Return a ``mujoco.MjModel`` whose tyres have the given coefficient of friction.

    Args:
        friction: Coefficient ``μ`` between tyres and floor, > 0.
        car: The car's numbers.

    Raises:
        ValueError: ``friction`` is not positive and finite.
        ImportError: MuJoCo is not installed; names the command that installs it.
    """
    if not 0.0 < friction < float("inf"):
        raise ValueError(f"a tyre's friction is positive and finite: got {friction}")
    model = _compiled(car).__copy__()
    for wheel in ("front_left", "front_right", "rear_left", "rear_right"):
        model.geom(wheel).friction[0] = friction
    return model


def require_mujoco() -> Any:
    """Return the module ``mujoco``, with ``mujoco.rollout`` loaded.

    Raises:
        ImportError: It is not installed; names the command that installs it.
    """
    try:
        import mujoco
        import mujoco.rollout
    except ImportError as error:
        raise ImportError(
            "car-mujoco needs MuJoCo: pip install 'mujoco>=3.8,<3.9' "
            "(car-single-track needs nothing)"
        ) from error
    return mujoco


@functools.lru_cache(maxsize=8)
def _compiled(car: CarParameters) -> Any:
    return require_mujoco().MjModel.from_xml_string(car_xml(car))


def _wheel_xml(car: CarParameters, name: str, x: float, y: float) -> str:
    steer = f'\n        <joint name="{name}_steer" axis="0 0 1"/>' if "front" in name else ""
    return f"""
      <body name="{name}" pos="{x!r} {y!r} 0">{steer}
        <joint name="{name}_spin" axis="0 1 0" armature="{car.wheel_armature!r}"/>
        <geom name="{name}" class="wheel"/>
      </body>"""


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)
