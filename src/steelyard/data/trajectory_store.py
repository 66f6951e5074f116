"""Whole trajectories on the device, from which chunks are drawn, offline ones and new ones.

An item is a trajectory and keeps its place as long as it is held. Its ``T`` steps and its final
observation lie in ``T + 1`` rows end to end, so what an action led to is always the next row, and a
chunk is cut at the end of its own trajectory by arithmetic alone. New trajectories go round in rows
and places of their own behind the offline ones; what they overwrite is given up whole.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from steelyard.data.demonstrations import Demonstrations
from steelyard.numerics.chunk_returns import ChunkReturn, chunk_return
from steelyard.types import ChunkTransition


class TrajectoryStore(eqx.Module):
    """Trajectories of one run; stack them for a group.

    Attributes:
        observation: A row a step, and one for the final observation of each trajectory.
        action: What was done there, ``[-1, 1]``; 0 in final rows.
        reward: What it paid; 0 in final rows.
        terminated: Whether the task ended in that step; false in final rows.
        offset: First row of each item.
        length: Steps of each item; 0 where the place is free.
        next_row: Where the next new trajectory is written.
        next_place: Its item.
        offline_rows: Rows that are never overwritten.
        offline_items: Items likewise.
        longest: Most steps of a new trajectory.
    """

    observation: Float[Array, "*seed row obs"]
    action: Float[Array, "*seed row act"]
    reward: Float[Array, "*seed row"]
    terminated: Bool[Array, "*seed row"]
    offset: Int[Array, "*seed item"]
    length: Int[Array, "*seed item"]
    next_row: Int[Array, "*seed"]
    next_place: Int[Array, "*seed"]
    offline_rows: int = eqx.field(static=True)
    offline_items: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)

    @classmethod
    def of(cls, data: Demonstrations, new_steps: int = 0, new_items: int = 0) -> "TrajectoryStore":
        """Put a dataset on the device, with room for new trajectories behind it.

        Args:
            data: Episodes with rewards.
            new_steps: Least number of new steps to keep.
            new_items: New trajectories to keep at most.

        Raises:
            DatasetError: The dataset has no rewards.
            ValueError: There is room for new steps, but for no new trajectory.
        """
        if new_steps > 0 and new_items < 1:
            raise ValueError(f"new_items must be at least 1 to keep {new_steps} new steps, got 0")
        steps, longest = data.transitions_with_reward(), data.env_spec.max_episode_steps
        lengths = np.asarray(data.lengths, np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int32)
        offline = int(offsets[-1])
        # A block of the longest trajectory is written at a time, so the last one needs its room.
        rows = offline + (new_steps + 2 * longest + 2 if new_steps else 0)
        inside = np.arange(data.num_steps) + data.step_episodes()

        def laid(values: Array) -> Array:
            blank = jnp.zeros((rows, *values.shape[1:]), values.dtype)
            return blank.at[inside].set(values)

        seen = jnp.zeros((rows, data.observations.shape[1]))
        room = np.zeros(new_items, np.int32)
        return cls(
            observation=seen.at[:offline].set(jnp.asarray(data.observations)),
            action=laid(steps.action),
            reward=laid(steps.reward),
            terminated=laid(steps.terminated),
            offset=jnp.asarray(np.concatenate([offsets[:-1], room + offline])),
            length=jnp.asarray(np.concatenate([lengths, room])),
            next_row=jnp.asarray(offline, jnp.int32),
            next_place=jnp.asarray(len(lengths), jnp.int32),
            offline_rows=offline,
            offline_items=len(lengths),
            longest=longest,
        )

    @property
    def held(self) -> Bool[Array, " item"]:
        """Which places hold a trajectory."""
        return self.length > 0

    @property
    def new(self) -> Bool[Array, " item"]:
        """Which of them are no part of the offline data."""
        return self.held & (jnp.arange(self.length.shape[0]) >= self.offline_items)

    def critic_starts(self, chunk: int) -> Int[Array, " item"]:
        """Starts of each item that train a critic: all where the task ended, else whole chunks.

        Args:
            chunk: Actions of a chunk.
        """
        last = jnp.maximum(self.offset + self.length - 1, 0)
        whole = jnp.maximum(self.length - chunk + 1, 0)
        return jnp.where(self.terminated[last] & self.held, self.length, whole)

    def chunks(
        self,
        item: Int[Array, " batch"],
        start: Int[Array, " batch"],
        chunk: int,
        gamma: float,
        with_next: bool = False,
    ) -> ChunkTransition:
        """Take chunks.

        Args:
            item: Trajectory of each.
            start: Its first step, ``0 <= start < length``.
            chunk: Actions of a chunk.
            gamma: Discount.
            with_next: Whether to take the data's chunk that follows, too.
        """
        first = self.offset[item] + start
        end = self.offset[item] + self.length[item]
        found = self._returns(first, end, chunk, gamma)
        after = first + found.steps
        following, known = None, None
        if with_next:
            following = self.action[self._rows(after, end, chunk)]
            over = found.discount == 0
            known = over | (end - after >= chunk)
        return ChunkTransition(
            observation=self.observation[first],
            actions=self.action[self._rows(first, end, chunk)],
            mask=found.played,
            reward=found.reward,
            discount=found.discount,
            next_observation=self.observation[after],
            next_actions=following,
            next_known=known,
        )

    def insert(
        self,
        observations: Float[Array, "frame obs"],
        actions: Float[Array, "step act"],
        rewards: Float[Array, " step"],
        terminated: Bool[Array, " step"],
        length: Int[Array, ""],
    ) -> tuple["TrajectoryStore", Bool[Array, " item"]]:
        """Add a trajectory behind the last new one, and give up whole what it overwrites.

        Args:
            observations: ``longest + 1`` of them; those behind ``length`` are not read.
            actions: ``longest`` of them, likewise.
            rewards: Likewise.
            terminated: Likewise.
            length: Its steps; 0 adds nothing.

        Returns:
            The store, and which places now hold another trajectory than before, or none.
        """
        block, rows = self.longest + 1, self.reward.shape[0]
        room = rows - self.offline_rows >= block
        if not room or self.length.shape[0] <= self.offline_items:
            raise ValueError(
                "this store has no room for new trajectories; make it with new_steps and new_items"
            )
        wraps = self.next_row + block > rows
        at = jnp.where(wraps, self.offline_rows, self.next_row)
        inside = jnp.arange(block) < length
        item = jnp.arange(self.length.shape[0])
        overlaps = (self.offset < at + block) & (self.offset + self.length + 1 > at)
        gone = self.new & overlaps | (item == self.next_place)
        gone = gone & (item >= self.offline_items) & (length > 0)
        here = (item == self.next_place) & (length > 0)

        def write(store: Array, values: Array, kept: Array) -> Array:
            values = jnp.pad(values, [(0, block - values.shape[0]), *[(0, 0)] * (values.ndim - 1)])
            values = jnp.where(kept.reshape((-1,) + (1,) * (values.ndim - 1)), values, 0)
            old = jax.lax.dynamic_slice_in_dim(store, at, block)
            chosen = jnp.where(length > 0, values.astype(store.dtype), old)
            return jax.lax.dynamic_update_slice_in_dim(store, chosen, at, 0)

        last_place = self.length.shape[0]
        after = jnp.where(
            self.next_place + 1 >= last_place, self.offline_items, self.next_place + 1
        )
        store = eqx.tree_at(
            lambda s: (
                s.observation,
                s.action,
                s.reward,
                s.terminated,
                s.offset,
                s.length,
                s.next_row,
                s.next_place,
            ),
            self,
            (
                write(self.observation, observations, jnp.arange(block) <= length),
                write(self.action, actions, inside),
                write(self.reward, rewards, inside),
                write(self.terminated, terminated, inside),
                jnp.where(here, at, self.offset),
                jnp.where(here, length, jnp.where(gone, 0, self.length)),
                jnp.where(length > 0, at + length + 1, self.next_row),
                jnp.where(length > 0, after, self.next_place),
            ),
        )
        return store, gone | here

    def _rows(
        self, first: Int[Array, " batch"], end: Int[Array, " batch"], chunk: int
    ) -> Int[Array, "batch chunk"]:
        """Rows of a chunk; behind the trajectory's last step that step again."""
        return jnp.minimum(first[:, None] + jnp.arange(chunk)[None], end[:, None] - 1)

    def _returns(
        self, first: Int[Array, " batch"], end: Int[Array, " batch"], chunk: int, gamma: float
    ) -> ChunkReturn:
        rows = self._rows(first, end, chunk)
        return chunk_return(self.reward[rows], self.terminated[rows], end - first, gamma)
