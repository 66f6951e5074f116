"""Trajectories on the device, from which chunks are drawn, offline ones and new ones.

An item is a trajectory and keeps its place as long as it is held. Its ``T`` steps and its final
observation lie in ``T + 1`` rows end to end, so what an action led to is always the next row, and a
chunk is cut at the end of its own trajectory by arithmetic alone. New trajectories go round in rows
and places of their own behind the offline ones and grow step by step; what one can reach is given
up whole when it begins.
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
        beyond: Steps of its episode behind it, where an item is a segment of one.
        next_row: First row of the new trajectory that is open, or else of the next one.
        next_place: Its item.
        open_steps: Steps of the one that is open; 0 where none is.
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
    beyond: Int[Array, "*seed item"]
    next_row: Int[Array, "*seed"]
    next_place: Int[Array, "*seed"]
    open_steps: Int[Array, "*seed"]
    offline_rows: int = eqx.field(static=True)
    offline_items: int = eqx.field(static=True)
    longest: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        data: Demonstrations,
        new_steps: int = 0,
        new_items: int = 0,
        offline_rows: int | None = None,
        segment: int | None = None,
    ) -> "TrajectoryStore":
        """Put a dataset on the device, with room for new trajectories behind it.

        Args:
            data: Episodes with rewards.
            new_steps: Least number of new steps to keep.
            new_items: New trajectories to keep at most.
            offline_rows: Rows for the dataset, so that stores of several are of one shape; none
                takes what it needs, a row a step and one more an episode.
            segment: Steps of an item, where episodes are cut into several; see :func:`segments`.

        Raises:
            DatasetError: The dataset has no rewards.
            ValueError: There is room for new steps, but for no new trajectory.
        """
        if new_steps > 0 and new_items < 1:
            raise ValueError(f"new_items must be at least 1 to keep {new_steps} new steps, got 0")
        steps, longest = data.transitions_with_reward(), data.env_spec.max_episode_steps
        lengths = np.asarray(data.lengths, np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int32)
        used = int(offsets[-1])
        cuts = [
            (o, n, *cut)
            for o, n in zip(offsets, lengths, strict=False)
            for cut in segments(int(n), segment)
        ]
        items = np.array([(o + a, b - a, n - b) for o, n, a, b in cuts], np.int32)
        offline = used if offline_rows is None else offline_rows
        if offline < used:
            raise ValueError(f"the dataset needs {used} rows, offline_rows is {offline}")
        # A block of the longest trajectory is written at a time, so the last one needs its room.
        rows = offline + (new_steps + 2 * longest + 2 if new_steps else 0)
        inside = np.arange(data.num_steps) + data.step_episodes()

        def laid(values: Array) -> Array:
            blank = jnp.zeros((rows, *values.shape[1:]), values.dtype)
            return blank.at[inside].set(values)

        seen = jnp.zeros((rows, data.observations.shape[1]))
        room = np.zeros(new_items, np.int32)
        return cls(
            observation=seen.at[:used].set(jnp.asarray(data.observations)),
            action=laid(steps.action),
            reward=laid(steps.reward),
            terminated=laid(steps.terminated),
            offset=jnp.asarray(np.concatenate([items[:, 0], room + offline])),
            length=jnp.asarray(np.concatenate([items[:, 1], room])),
            beyond=jnp.asarray(np.concatenate([items[:, 2], room])),
            next_row=jnp.asarray(offline, jnp.int32),
            next_place=jnp.asarray(len(items), jnp.int32),
            open_steps=jnp.asarray(0, jnp.int32),
            offline_rows=offline,
            offline_items=len(items),
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
        whole = jnp.clip(self.length + self.beyond - chunk + 1, 0, self.length)
        return jnp.where(self.held & self.terminated[self._last], self.length, whole)

    @property
    def success(self) -> Bool[Array, " item"]:
        """In which of them the task ended with the last step."""
        return self.held & self.terminated[self._last] & (self.beyond == 0)

    @property
    def _following_place(self) -> Int[Array, ""]:
        """The place behind that of the new trajectory, round and round."""
        following = self.next_place + 1
        return jnp.where(following >= self.length.shape[0], self.offline_items, following)

    @property
    def _last(self) -> Int[Array, " item"]:
        """Last row of a step of each item's episode."""
        return jnp.maximum(self.offset + self.length + self.beyond - 1, 0)

    @property
    def order(self) -> Int[Array, " item"]:
        """0 for offline trajectories, then 1, 2, … in the order in which new ones began."""
        items = self.length.shape[0]
        room = max(items - self.offline_items, 1)
        since = (jnp.arange(items) - self.next_place - (self.open_steps > 0)) % room
        held = jnp.where(self.new, since + 1, 0)
        return jnp.where(self.new, held - jnp.min(jnp.where(self.new, held, room)) + 1, 0)

    def row_items(self) -> Int[Array, " row"]:
        """The item that each row's step belongs to; their number where it belongs to none."""
        rows, items = self.reward.shape[0], self.length.shape[0]
        first = jnp.where(self.held, self.offset, rows)
        begun = jnp.full(rows, -1, jnp.int32).at[first].set(jnp.arange(items), mode="drop")
        row = jnp.arange(rows)
        item = begun[jax.lax.cummax(jnp.where(begun >= 0, row, 0))]
        place = jnp.maximum(item, 0)
        inside = (item >= 0) & (row < self.offset[place] + self.length[place])
        return jnp.where(inside, item, items)

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
        end = self.offset[item] + self.length[item] + self.beyond[item]
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

    def append(
        self,
        observation: Float[Array, " obs"],
        action: Float[Array, " act"],
        reward: Float[Array, ""],
        terminated: Bool[Array, ""],
        next_observation: Float[Array, " obs"],
        ended: Bool[Array, ""],
    ) -> tuple["TrajectoryStore", Bool[Array, " item"]]:
        """Add a step to the trajectory that is open, or begin one with it.

        Args:
            observation: Before the step.
            action: In ``[-1, 1]``.
            reward: What it paid.
            terminated: Whether the task ended in it.
            next_observation: What it led to: the true final observation.
            ended: Whether the trajectory ends with it.

        Returns:
            The store, and which places now hold another trajectory than before, or none.

        Raises:
            ValueError: The store has no room for new trajectories.
        """
        block, rows = self.longest + 1, self.reward.shape[0]
        items = self.length.shape[0]
        if rows - self.offline_rows < block or items <= self.offline_items:
            raise ValueError(
                "this store has no room for new trajectories; make it with new_steps and new_items"
            )
        begins = self.open_steps == 0
        wraps = begins & (self.next_row + block > rows)
        at = jnp.where(wraps, self.offline_rows, self.next_row)
        item = jnp.arange(items)
        here = item == self.next_place
        overlaps = (self.offset < at + block) & (self.offset + self.length + 1 > at)
        gone = begins & (self.new & overlaps | here)
        row, steps = at + self.open_steps, self.open_steps + 1
        store = TrajectoryStore(
            observation=self.observation.at[row].set(observation).at[row + 1].set(next_observation),
            action=self.action.at[row].set(action).at[row + 1].set(0.0),
            reward=self.reward.at[row].set(reward).at[row + 1].set(0.0),
            terminated=self.terminated.at[row].set(terminated).at[row + 1].set(False),
            offset=jnp.where(here, at, self.offset),
            length=jnp.where(here, steps, jnp.where(gone, 0, self.length)),
            beyond=self.beyond,
            next_row=jnp.where(ended, row + 2, at),
            next_place=jnp.where(ended, self._following_place, self.next_place),
            open_steps=jnp.where(ended, 0, steps),
            offline_rows=self.offline_rows,
            offline_items=self.offline_items,
            longest=self.longest,
        )
        return store, gone

    def close(self) -> "TrajectoryStore":
        """End the trajectory that is open, as a time limit would."""
        is_open = self.open_steps > 0
        return eqx.tree_at(
            lambda s: (s.next_row, s.next_place, s.open_steps),
            self,
            (
                jnp.where(is_open, self.next_row + self.open_steps + 1, self.next_row),
                jnp.where(is_open, self._following_place, self.next_place),
                jnp.zeros_like(self.open_steps),
            ),
        )

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


def segments(steps: int, length: int | None) -> list[tuple[int, int]]:
    """First step and end of each segment of an episode; a rest below half joins its neighbour.

    Args:
        steps: Of the episode.
        length: Of a segment; none leaves the episode whole.
    """
    if length is None or steps < length + length // 2:
        return [(0, steps)]
    edges = list(range(0, steps, length))
    if 2 * (steps - edges[-1]) < length:
        edges.pop()
    return list(zip(edges, [*edges[1:], steps], strict=True))
