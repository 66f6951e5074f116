"""``car-single-track``: trajectories of a car whose every parameter is known; instant and exact.

The same command laws as ``car-mujoco``, driven through the single-track model, so that a fit can be
held against the truth. A trajectory's friction is the peak of both tyres.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.envs.car.sets import CarRecording, CarSet, car_set, checked_request
from steelyard.numerics import se2
from steelyard.numerics.vehicle import MUSHR, SingleTrackParameters, single_track_step

SUBSTEPS = 50
"""Steps of the model per control step: 2 ms, as the simulated car's."""


def generate_single_track(
    source: CarSet | str,
    trajectories: int,
    seed: int,
    *,
    parameters: SingleTrackParameters = MUSHR.single_track,
    substeps: int = SUBSTEPS,
) -> list[CarRecording]:
    """Drive the known car from rest through the first ``trajectories`` draws of a set.

    Args:
        source: A set or its name (``CAR_SETS``); its commands, frictions and noise are those of
            ``car-mujoco`` for the same seed.
        trajectories: How many, at least 1.
        seed: Of the set, >= 0; training and test data need different ones.
        parameters: The car. Its tyres' peaks are replaced by each trajectory's friction.
        substeps: Steps of the model per control step, at least 1. A model that takes the same
            number predicts these recordings without any error of discretisation.

    Returns:
        The recordings in their order; none ends early, as this car cannot roll over.

    Raises:
        ValueError: An argument is out of its range or the set is unknown.
    """
    chosen = car_set(source) if isinstance(source, str) else source
    checked_request(trajectories, seed)
    if substeps < 1:
        raise ValueError(f"substeps is at least 1: got {substeps}")
    draws = [chosen.draw(seed, index) for index in range(trajectories)]
    twists, poses = _drive(
        parameters,
        jnp.array([draw.friction for draw in draws], jnp.float32),
        jnp.array(np.stack([draw.command for draw in draws]), jnp.float32),
        jnp.asarray(chosen.dt / substeps, jnp.float32),
        substeps,
    )
    return [
        CarRecording(
            twist=twist + draw.noise,
            pose=pose,
            command=draw.command,
            dt=np.full(chosen.steps, chosen.dt),
            terminated=False,
            friction=draw.friction,
            kind=draw.kind,
        )
        for draw, twist, pose in zip(
            draws, np.asarray(twists, np.float64), np.asarray(poses, np.float64), strict=True
        )
    ]


def with_friction(
    parameters: SingleTrackParameters, friction: Float[Array, ""] | float
) -> SingleTrackParameters:
    """Return the car with both tyres' peaks at ``friction``, a share of the load."""
    return eqx.tree_at(
        lambda car: (car.front_tyre.peak, car.rear_tyre.peak), parameters, (friction, friction)
    )


@eqx.filter_jit
def _drive(
    parameters: SingleTrackParameters,
    frictions: Float[Array, " trajectory"],
    commands: Float[Array, "trajectory step 2"],
    substep: Float[Array, ""],
    substeps: int,
) -> tuple[Float[Array, "trajectory state 3"], Float[Array, "trajectory state 3"]]:
    def one(friction, command):
        car = with_friction(parameters, friction)

        def advance(carry, held):
            def small(carry, _):
                twist, pose, actuators = carry
                following, actuators = single_track_step(
                    car, twist, held, substep, actuators, "velocity", 1
                )
                pose = se2.compose(pose, se2.exp(0.5 * (twist + following), substep))
                return (following, pose, actuators), None

            carry, _ = jax.lax.scan(small, carry, length=substeps)
            return carry, carry[:2]

        rest = jnp.zeros(3), jnp.zeros(3), jnp.zeros(2)
        _, (twist, pose) = jax.lax.scan(advance, rest, command)
        return jnp.pad(twist, ((1, 0), (0, 0))), jnp.pad(pose, ((1, 0), (0, 0)))

    return jax.vmap(one)(frictions, commands)
