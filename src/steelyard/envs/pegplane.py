"""A peg, a plane and a hole: insertion as a formula, for tests and for many seeds at once.

A peg tip with pose ``(x, z, φ)`` is moved by commanded velocities that it follows with a lag. The
floor stops it at ``z = 0``, except over the hole: where ``|x| ≤ 2 mm`` and ``|φ| ≤ 0.03``, ``x``
being the distance from the hole. In the hole the walls hold both within these bounds. An episode
succeeds, and ends, at a depth of 30 mm; after 80 steps it is cut.

    v' = v + k (v_max a - v),   pose' = pose + v'

A base policy that reads the hole's place with one error per episode, drawn from ``N(0, 4 mm)``,
succeeds where the error is within the hole's play, and nowhere else: with probability
``erf(2 / (4 √2)) = 0.383``. What adds to it sees the hole exactly.

Observation, eight numbers: ``x`` (cm), ``x`` minus the reading (cm), ``z`` (cm), ``φ`` (0.1 rad),
the three velocities (shares of the largest), and 1 where the tip is in the hole.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from steelyard.envs.traced import TracedEnv, TracedTask
from steelyard.types import EnvSpec

HORIZON = 80
PLAY_M, PLAY_RAD = 0.002, 0.03
DEPTH_M = 0.030
READING_STD_M = 0.004
BASE_SUCCESS = 0.3829249
"""What the base policy achieves: ``erf(2 / (4 √2))``."""
MAX_STEP = (0.006, 0.006, 0.03)
"""Largest change of pose in a step, m, m, rad."""
_LAG = 0.5
_HOVER_M = 0.015
_ALIGNED = (1e-3, 1e-2)
_START_LOW, _START_HIGH = (-0.06, 0.03, -0.15), (0.06, 0.06, 0.15)


class PegState(NamedTuple):
    """Where one environment stands.

    Attributes:
        pose: ``x, z, φ``; m, m, rad.
        velocity: Change of pose in the last step.
        reading: What the base takes for the hole's place, m.
        elapsed: Steps of this episode.
        episode: Episodes begun before this one.
        seed: Of the environment.
    """

    pose: Float[Array, "3"]
    velocity: Float[Array, "3"]
    reading: Float[Array, ""]
    elapsed: Int[Array, ""]
    episode: Int[Array, ""]
    seed: Int[Array, ""]


def begin(seed: Int[Array, ""], episode: Int[Array, ""]) -> PegState:
    """Start an episode; what it draws follows from the seed and its number alone."""
    pose_key, reading_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), episode))
    low, high = jnp.asarray(_START_LOW), jnp.asarray(_START_HIGH)
    pose = low + (high - low) * jax.random.uniform(pose_key, (3,))
    reading = READING_STD_M * jax.random.normal(reading_key)
    return PegState(pose, jnp.zeros(3), reading, jnp.zeros((), jnp.int32), episode, seed)


def observe(state: PegState) -> Float[Array, "8"]:
    """What is seen of a state."""
    x, z, angle = state.pose
    places = jnp.stack([x * 100, (x - state.reading) * 100, z * 100, angle * 10])
    inside = (z < 0).astype(jnp.float32)
    return jnp.concatenate([places, state.velocity / jnp.asarray(MAX_STEP), inside[None]])


def move(state: PegState, action: Float[Array, "3"]) -> tuple[PegState, Array, Array]:
    """Take one step; returns the state, whether the peg is in, and whether time is up."""
    limit = jnp.asarray(MAX_STEP)
    velocity = state.velocity + _LAG * (limit * jnp.clip(action, -1.0, 1.0) - state.velocity)
    pose = state.pose + velocity
    inside = state.pose[1] < 0
    # In the hole the walls hold the tip.
    play = jnp.asarray([PLAY_M, jnp.inf, PLAY_RAD])
    pose = jnp.where(inside, jnp.clip(pose, -play, play), pose)
    fits = (jnp.abs(pose[0]) <= PLAY_M) & (jnp.abs(pose[2]) <= PLAY_RAD)
    pose = pose.at[1].set(jnp.where(fits, pose[1], jnp.maximum(pose[1], 0.0)))
    elapsed = state.elapsed + 1
    moved = state._replace(pose=pose, velocity=pose - state.pose, elapsed=elapsed)
    success = pose[1] <= -DEPTH_M
    return moved, success, (elapsed >= HORIZON) & ~success


def reading_policy(observation: Float[np.ndarray, "batch 8"]) -> Float[np.ndarray, "batch 3"]:
    """The base: align above the place that was read, then go down; actions in ``[-1, 1]``."""
    off, height, angle = observation[:, 1] / 100, observation[:, 2] / 100, observation[:, 3] / 10
    # The better it is aligned the faster it goes down, so noise slows it but does not stop it.
    doubt = np.maximum(np.abs(off) / _ALIGNED[0], np.abs(angle) / _ALIGNED[1])
    hover = (_HOVER_M - height) / 0.02
    vertical = np.where(height < 0.9 * _HOVER_M, -1.0, np.minimum(hover, doubt - 1.0))
    action = np.stack([-off / 0.03, vertical, -angle / 0.15], axis=1)
    return np.clip(action, -1.0, 1.0).astype(np.float32)


def _pay(success: Array) -> Array:
    return success.astype(jnp.float32)


TASK = TracedTask(begin, observe, move, _pay)


def peg_plane_spec(name: str = "PegPlane-v0") -> EnvSpec:
    """Describe the task."""
    return EnvSpec(f"assembly/{name}", 8, (-1.0,) * 3, (1.0,) * 3, HORIZON, can_terminate=True)


class PegPlaneEnv(TracedEnv):
    """The task, all environments in one compiled step; implements ``VectorEnv``."""

    def __init__(self, name: str, seeds: Sequence[int], on_success: str = "terminate"):
        """Build it.

        Args:
            name: ``PegPlane-v0``.
            seeds: One per environment, distinct.
            on_success: ``terminate``; nothing else makes sense here, since a peg that is in stays.

        Raises:
            ValueError: A seed or option is refused.
        """
        if on_success != "terminate":
            raise ValueError(f"{name}: on_success is 'terminate', got {on_success!r}")
        super().__init__(peg_plane_spec(name), TASK, seeds)
