"""Action chunks of demonstrations: which steps a chunk holds, and the range of their actions.

Every step starts one chunk, the next ``chunk`` actions played open loop. A chunk never crosses the
end of an episode: where the episode is over it repeats the last action and says so in its mask.
Chunks are views: a start and the last step of its episode are all that is stored.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from steelyard.data.demonstrations import Demonstrations
from steelyard.types import ActionChunk

MIN_HALF_RANGE = 1e-4
"""Half ranges below this, in learner units, are those of a constant component."""


def last_steps(lengths: Int[np.ndarray, " episode"]) -> Int[np.ndarray, " step"]:
    """Return the last step of the episode that each step belongs to."""
    return np.repeat(np.cumsum(lengths) - 1, lengths)


def chunk_steps(
    start: Int[Array, " batch"], last: Int[Array, " step"], chunk: int
) -> tuple[Int[Array, "batch chunk"], Bool[Array, "batch chunk"]]:
    """Return the steps that chunks hold, and which of them are no padding.

    Args:
        start: First step of each chunk.
        last: Last step of every step's episode, from :func:`last_steps`.
        chunk: Steps of a chunk.

    Returns:
        ``min(start + h, last[start])`` and ``start + h <= last[start]`` for ``h = 0 … chunk - 1``;
        the first step of a chunk is never padding.
    """
    shape = (start.shape[0], chunk)
    steps = jnp.broadcast_to(start[:, None], shape) + jnp.broadcast_to(jnp.arange(chunk), shape)
    end = jnp.broadcast_to(last[start][:, None], shape)
    return jnp.minimum(steps, end), steps <= end


def take_chunks(
    observation: Float[Array, "step obs"],
    action: Float[Array, "step act"],
    last: Int[Array, " step"],
    start: Int[Array, " batch"],
    chunk: int,
) -> ActionChunk:
    """Gather chunks from flat steps.

    Args:
        observation: Of every step.
        action: Of every step, in learner units.
        last: Last step of every step's episode.
        start: First step of each chunk.
        chunk: Steps of a chunk.
    """
    steps, mask = chunk_steps(start, last, chunk)
    return ActionChunk(observation[start], action[steps], mask)


def all_chunks(demonstrations: Demonstrations, chunk: int) -> ActionChunk:
    """Return every chunk of a dataset; the i-th starts at its i-th step.

    Args:
        demonstrations: Episodes of any length, also shorter than a chunk.
        chunk: Steps of a chunk, at least 1.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"a chunk must hold at least 1 action, got chunk = {chunk}")
    steps = demonstrations.transitions()
    last = jnp.asarray(last_steps(demonstrations.lengths), jnp.int32)
    start = jnp.arange(demonstrations.num_steps)
    return take_chunks(steps.observation, steps.action, last, start, chunk)


class ActionRange(eqx.Module):
    """Min–max normaliser of actions: demonstrated ones fill ``[-1, 1]`` in every component.

    A component that never moved has no range; it keeps its units around its one value.

    Attributes:
        centre: Middle of the range per component, learner units.
        half: Half its width, positive; 1 for a constant component.
    """

    centre: Float[Array, "*seed act"]
    half: Float[Array, "*seed act"]

    @classmethod
    def of(cls, actions: Float[Array, "step act"]) -> "ActionRange":
        """Range of the given actions, in learner units."""
        low, high = jnp.min(actions, axis=0), jnp.max(actions, axis=0)
        half = (high - low) / 2
        return cls((low + high) / 2, jnp.where(half < MIN_HALF_RANGE, 1.0, half))

    @classmethod
    def identity(cls, size: int) -> "ActionRange":
        """Leave actions as they are."""
        return cls(jnp.zeros(size), jnp.ones(size))

    def normalise(self, actions: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
        """Map learner units to the demonstrated range, ``(a - centre) / half``."""
        centre, half = (jnp.broadcast_to(x, actions.shape) for x in (self.centre, self.half))
        return (actions - centre) / half

    def denormalise(self, actions: Float[Array, "*batch act"]) -> Float[Array, "*batch act"]:
        """Map the demonstrated range to learner units, ``centre + half · a``."""
        centre, half = (jnp.broadcast_to(x, actions.shape) for x in (self.centre, self.half))
        return centre + half * actions
