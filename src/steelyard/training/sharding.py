"""Data-parallel training: the devices of the ambient mesh share each batch among them.

Parameters are on every device; a gradient is summed over all of them, which XLA sees to. So it
changes how fast a step is, and what is rounded, and nothing else.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, PartitionSpec

Batch = TypeVar("Batch")
DATA = "data"
"""The mesh's axis."""


def share_batches(devices: Sequence[Any]) -> None:
    """Let devices share each batch from now on, in this process."""
    jax.set_mesh(Mesh(list(devices), (DATA,), axis_types=(AxisType.Auto,)))


def spread(batch: Batch) -> Batch:
    """Share a batch's rows out to the devices; without a mesh it stays as it is.

    Args:
        batch: Arrays whose first axis are rows. Others, such as a scale, are everywhere.

    Raises:
        ValueError: The rows of no array can be shared out evenly.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or DATA not in mesh.axis_names:
        return batch
    count = mesh.shape[DATA]
    sizes = {x.shape[0] for x in jax.tree.leaves(batch) if getattr(x, "ndim", 0)}
    if sizes and not any(size % count == 0 for size in sizes):
        raise ValueError(
            f"{count} devices share each batch, so its rows must be a multiple of {count}, got "
            f"{', '.join(map(str, sorted(sizes)))}"
        )

    def share(x: Any) -> Any:
        if not getattr(x, "ndim", 0) or x.shape[0] % count:
            return x
        return jax.lax.with_sharding_constraint(x, PartitionSpec(DATA))

    return jax.tree.map(share, batch)
