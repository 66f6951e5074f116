"""Play a dynamics model forward from recorded starts, all recordings at once in one program.

The model sees the first twist and the commands, never a later state; the poses follow from its
twists. Beside the model stand two references that every report prints: the **floor**, the recorded
twists integrated again, which is what a perfect model would score, and the **naive** prediction
that the twist never changes.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from steelyard.data.trajectories import Trajectories
from steelyard.numerics import se2
from steelyard.types import Window

TWIST_LIMIT = 100.0
"""A predicted twist beyond this (m/s, rad/s) counts as diverged; no wheeled vehicle reaches it."""

Rollout = Callable[
    [
        Float[Array, "item 3"],
        Float[Array, "item commands 2"],
        Float[Array, "item steps"],
    ],
    Float[Array, "item states 3"],
]
"""``(first twist, commands with their history, dt) -> twists at H + 1 states``."""


class Recordings(eqx.Module):
    """Pieces of recorded motion of unequal length, as one batch on the device.

    Attributes:
        window: The motion; past its own end an item repeats its last row, so that a model sees
            ordinary numbers there.
        valid: Which states are recorded; the first two of an item always are.
    """

    window: Window
    valid: Bool[Array, "item states"]

    def __check_init__(self):
        if self.window.twist.shape[:-1] != self.valid.shape:
            raise ValueError(
                "valid must have one entry per recorded state, got "
                f"{self.valid.shape} for states {self.window.twist.shape[:-1]}"
            )

    @classmethod
    def of_window(cls, window: Window) -> "Recordings":
        """Take pieces of one length, all states of which are recorded."""
        return cls(window, jnp.ones(window.twist.shape[:-1], bool))


class Prediction(NamedTuple):
    """What was predicted for each item and how far off it is, ``H + 1`` states an item.

    Attributes:
        twist: Predicted ``(vx, vy, w)``; m/s, m/s, rad/s.
        pose: Predicted ``(x, y, theta)``; m, m, rad.
        error: Predicted minus recorded ``(x, y, theta, vx, vy, w)``, the heading's without whole
            turns; infinite from the first diverged state on, 0 at the start.
        alive: Which states come before any divergence.
    """

    twist: Float[Array, "item states 3"]
    pose: Float[Array, "item states 3"]
    error: Float[Array, "item states 6"]
    alive: Bool[Array, "item states"]


class Speed(NamedTuple):
    """How fast a model rolled out: steps of all items, and seconds without compilation."""

    steps: int
    total_time_s: float


def whole_trajectories(
    trajectories: Trajectories, history: int = 0, max_steps: int | None = None
) -> Recordings:
    """Take each trajectory from its first state that has ``history`` past commands to its end.

    Args:
        trajectories: What was recorded.
        history: Past commands that the model reads, >= 0.
        max_steps: Cut longer ones after this many steps; None keeps all.

    Raises:
        ValueError: A trajectory has no step left behind its history; the message names it.
    """
    if history < 0 or (max_steps is not None and max_steps < 1):
        raise ValueError(
            f"history must be >= 0 and max_steps >= 1 or None, got {history} and {max_steps}"
        )
    steps = trajectories.lengths - 1 - history
    short = np.flatnonzero(steps < 1)
    if len(short):
        raise ValueError(
            f"trajectory {trajectories.ids[short[0]]!r} has {trajectories.lengths[short[0]]} "
            f"states; a rollout with {history} past commands needs at least {history + 2}"
        )
    steps = steps if max_steps is None else np.minimum(steps, max_steps)
    longest = int(steps.max())
    first = trajectories.offsets + history

    def rows(low: int, high: int, last: np.ndarray) -> np.ndarray:
        return first[:, None] + np.minimum(np.arange(low, high)[None, :], last[:, None])

    states, commands = rows(0, longest + 1, steps), rows(-history, longest, steps - 1)
    window = Window(
        twist=jnp.asarray(trajectories.twist[states]),
        pose=jnp.asarray(trajectories.pose[states]),
        command=jnp.asarray(trajectories.command[commands]),
        dt=jnp.asarray(trajectories.dt[commands[:, history:]]),
    )
    return Recordings(window, jnp.asarray(np.arange(longest + 1)[None, :] <= steps[:, None]))


@eqx.filter_jit
def predict(rollout: Rollout, recordings: Recordings, integrator: str = "trapezoid") -> Prediction:
    """Roll a model out from the start of every recording, in one compiled program.

    Args:
        rollout: The model. Where it is a pytree (an ``eqx.Module`` or
            ``jax.tree_util.Partial(function, model)``), models of one shape share the program; a
            plain function is compiled anew for each function object.
        recordings: Where to start, what to command, and what happened.
        integrator: How poses follow from twists; see :func:`steelyard.numerics.se2.integrate`.

    Raises:
        ValueError: The model returns another number of twists, or the integrator is unknown.
    """
    window = recordings.window
    twist = rollout(window.twist[:, 0], window.command, window.dt)
    if twist.shape != window.twist.shape:
        raise ValueError(
            f"a rollout must return one twist per state, {window.twist.shape}, got {twist.shape}"
        )
    pose = jax.vmap(functools.partial(se2.integrate, integrator=integrator))(
        window.pose[:, 0], twist, window.dt
    )
    # Comparisons with NaN are false: what is not a number is not alive.
    ordinary = jnp.all(jnp.abs(twist) <= TWIST_LIMIT, axis=-1) | ~recordings.valid
    alive = jnp.cumsum(~ordinary, axis=1) == 0
    heading = se2.heading_error(pose[..., 2], window.pose[..., 2])[..., None]
    error = jnp.concatenate(
        [pose[..., :2] - window.pose[..., :2], heading, twist - window.twist], axis=-1
    )
    return Prediction(twist, pose, jnp.where(alive[..., None], error, jnp.inf), alive)


def floor(recordings: Recordings, integrator: str = "trapezoid") -> Prediction:
    """Integrate the recorded twists again: the error that a perfect model would have."""
    recorded = jax.tree_util.Partial(_recorded, recordings.window.twist)
    return predict(recorded, recordings, integrator)


def naive(recordings: Recordings, integrator: str = "trapezoid") -> Prediction:
    """Predict that the first twist never changes."""
    return predict(_constant, recordings, integrator)


def timed(
    rollout: Rollout, recordings: Recordings, integrator: str = "trapezoid", repeats: int = 3
) -> tuple[Prediction, Speed]:
    """Roll out as :func:`predict` does and measure the fastest of ``repeats`` runs once compiled.

    Args:
        rollout: The model.
        recordings: What to roll out; padded steps do not count.
        integrator: How poses follow from twists.
        repeats: Timed runs, >= 1.
    """
    prediction = jax.block_until_ready(predict(rollout, recordings, integrator))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(predict(rollout, recordings, integrator))
        seconds.append(time.perf_counter() - start)
    steps = int(recordings.valid.sum()) - recordings.valid.shape[0]
    return prediction, Speed(steps, min(seconds))


def _recorded(
    twist: Float[Array, "item states 3"],
    twist0: Float[Array, "item 3"],
    command: Float[Array, "item commands 2"],
    dt: Float[Array, "item steps"],
) -> Float[Array, "item states 3"]:
    return twist


def _constant(
    twist0: Float[Array, "item 3"],
    command: Float[Array, "item commands 2"],
    dt: Float[Array, "item steps"],
) -> Float[Array, "item states 3"]:
    return jnp.repeat(twist0[:, None], dt.shape[1] + 1, axis=1)
