"""Replay that lives on the device: one ring buffer for a group of runs that train together."""

from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

Record = TypeVar("Record")


class Replay(eqx.Module, Generic[Record]):
    """A ring buffer of records for ``seed`` runs in lockstep.

    All runs of a group have seen the same number of frames, so their positions are equal and an
    insertion is one contiguous write. Pass it to a jitted function that donates it, or every
    insertion copies the whole buffer. ``jax.vmap`` over it gives each run its own view.

    Attributes:
        storage: Records, every leaf ``[seed, capacity, ...]``.
        position: Row that the next insertion writes first, the same for every run.
        size: Number of valid rows, always the prefix ``[0, size)``, the same for every run.
    """

    storage: Record
    position: Int[Array, "*seed"]
    size: Int[Array, "*seed"]

    @classmethod
    def create(cls, example: Record, num_seeds: int, capacity: int, rows: int) -> "Replay[Record]":
        """Allocate an empty buffer.

        Args:
            example: One record without leading axes; gives shapes and types.
            num_seeds: Runs in the group.
            capacity: Least number of rows to keep; rounded up to a multiple of ``rows``.
            rows: Rows of each insertion, so that none ever wraps around.
        """
        capacity = -(-capacity // rows) * rows
        storage = jax.tree.map(
            lambda x: jnp.zeros((num_seeds, capacity, *jnp.shape(x)), jnp.result_type(x)), example
        )
        return cls(storage, jnp.zeros(num_seeds, jnp.int32), jnp.zeros(num_seeds, jnp.int32))

    def insert(self, records: Record) -> "Replay[Record]":
        """Write ``[seed, rows, ...]`` records over the oldest rows."""
        rows = jax.tree.leaves(records)[0].shape[1]
        capacity = jax.tree.leaves(self.storage)[0].shape[1]
        if capacity % rows:
            raise ValueError(f"Insertions must divide the capacity: got {rows} rows, {capacity}.")

        def write(store: Array, new: Array) -> Array:
            start = (0, self.position[0]) + (0,) * (store.ndim - 2)
            return jax.lax.dynamic_update_slice(store, new.astype(store.dtype), start)

        return Replay(
            jax.tree.map(write, self.storage, records),
            (self.position + rows) % capacity,
            jnp.minimum(self.size + rows, capacity),
        )

    def recent(self, age: Int[Array, " batch"]) -> Int[Array, " batch"]:
        """In one run's view, the row of the record inserted ``age`` records ago (0 = latest)."""
        capacity = jax.tree.leaves(self.storage)[0].shape[0]
        return (self.position - 1 - age) % capacity


def take(storage: Record, indices: Int[Array, " batch"]) -> Record:
    """Rows of one run's records: every leaf ``[capacity, ...]`` to ``[batch, ...]``."""
    return jax.tree.map(lambda x: x[indices], storage)
