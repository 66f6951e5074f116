"""A point, a wall with two gates, and a goal: two ways that conflict where they begin.

The point starts at the left and its goal is at the right of a wall. Gate A, above, leads there;
gate B, below, leads into a closed pocket. Which gate a policy takes is all there is to it, so its
success is the odds of A against B.

::

      +1  ┌───────────┃───────────┐
          │           ┃           │
      A   │                       │
          │           ┃           │
          │ start     ┃      goal │
          │           ┃━━━━┓      │
      B   │                ┃      │
          │           ┃━━━━┛      │
      -1  └───────────┃───────────┘
         -1           0   0.4     +1

Observation, four numbers: place ``(x, y)`` and the last step's change of it, in steps. Reward is -1
a step, and 0 in the step that reaches the goal, which ends the episode; after 60 steps it is cut.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from steelyard.envs.traced import TracedEnv, TracedTask
from steelyard.types import EnvSpec

HORIZON = 60
STEP = 0.06
"""Largest change of place in a step, per axis."""
GATES = {"A": (0.25, 0.55), "B": (-0.55, -0.25)}
"""Where the wall at ``x = 0`` is open, in ``y``."""
POCKET = (0.4, (-0.65, -0.15))
"""Depth of the pocket behind gate B, and its lower and upper wall."""
GOAL, GOAL_RADIUS = (0.8, 0.0), 0.1
_START = (-0.8, 0.1)


class ForkState(NamedTuple):
    """Where one environment stands.

    Attributes:
        place: ``x, y``.
        change: Of the place in the last step.
        elapsed: Steps of this episode.
        episode: Episodes begun before this one.
        seed: Of the environment.
    """

    place: Float[Array, "2"]
    change: Float[Array, "2"]
    elapsed: Int[Array, ""]
    episode: Int[Array, ""]
    seed: Int[Array, ""]


def begin(seed: Int[Array, ""], episode: Int[Array, ""]) -> ForkState:
    """Start an episode; its height follows from the seed and its number alone."""
    key = jax.random.fold_in(jax.random.key(seed), episode)
    height = jax.random.uniform(key, minval=-_START[1], maxval=_START[1])
    place = jnp.stack([jnp.float32(_START[0]), height])
    return ForkState(place, jnp.zeros(2), jnp.zeros((), jnp.int32), episode, seed)


def observe(state: ForkState) -> Float[Array, "4"]:
    """What is seen of a state."""
    return jnp.concatenate([state.place, state.change / STEP])


def move(state: ForkState, action: Float[Array, "2"]) -> tuple[ForkState, Array, Array]:
    """Take one step, first along x, then along y; a wall in the way stops that part of it."""
    (x, y), wanted = state.place, STEP * jnp.clip(action, -1.0, 1.0)
    depth, (low, high) = POCKET
    open_here = jnp.zeros((), bool)
    for bottom, top in GATES.values():
        open_here |= (y > bottom) & (y < top)
    beside = jnp.clip(x + wanted[0], -1.0, 1.0)
    blocked = _crosses(x, beside, 0.0) & ~open_here
    blocked |= _crosses(x, beside, depth) & (y > low) & (y < high)
    x = jnp.where(blocked, x, beside)
    above = jnp.clip(y + wanted[1], -1.0, 1.0)
    in_pocket = (x > 0.0) & (x < depth)
    blocked = in_pocket & (_crosses(y, above, low) | _crosses(y, above, high))
    place = jnp.stack([x, jnp.where(blocked, y, above)])
    elapsed = state.elapsed + 1
    moved = state._replace(place=place, change=place - state.place, elapsed=elapsed)
    success = jnp.linalg.norm(place - jnp.asarray(GOAL)) <= GOAL_RADIUS
    return moved, success, (elapsed >= HORIZON) & ~success


def _crosses(before: Array, after: Array, wall: float) -> Array:
    """Whether a coordinate passes a wall; one that stands on it is on its upper side."""
    return (before < wall) != (after < wall)


def _pay(success: Array) -> Array:
    return success.astype(jnp.float32) - 1.0


TASK = TracedTask(begin, observe, move, _pay)


def fork_spec(name: str = "Fork-v0") -> EnvSpec:
    """Describe the task."""
    return EnvSpec(f"sparse/{name}", 4, (-1.0,) * 2, (1.0,) * 2, HORIZON, can_terminate=True)


class ForkEnv(TracedEnv):
    """The task; implements ``VectorEnv``."""

    def __init__(self, name: str, seeds: Sequence[int]):
        """Build it, one seed per environment."""
        super().__init__(fork_spec(name), TASK, seeds)
