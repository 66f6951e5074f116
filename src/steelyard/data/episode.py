"""One episode of a dataset, and how episodes are joined into columns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from steelyard.data.findings import DatasetError

UNKNOWN_SEED = -1
"""The start seed of an episode whose source does not say it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """One episode of ``T`` steps: ``T + 1`` observations, actions in environment units."""

    observations: Float32[np.ndarray, "frame obs"]
    actions: Float32[np.ndarray, "time act"]
    rewards: Float32[np.ndarray, "time"] | None
    terminated: bool
    truncated: bool
    start_seed: int = UNKNOWN_SEED


def join_episodes(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Join episodes end to end into the columns of a dataset.

    Args:
        episodes: At least one; all with rewards, or all without.

    Raises:
        DatasetError: There is none, or only some have rewards.
    """
    if not episodes:
        raise DatasetError("a dataset holds at least 1 episode; got 0")
    bare = [index for index, episode in enumerate(episodes) if episode.rewards is None]
    if bare and len(bare) < len(episodes):
        raise DatasetError(
            f"all episodes have rewards or none has; {len(bare)} of {len(episodes)} have none, "
            f"first episode {bare[0]}"
        )
    lengths = np.array([len(episode.actions) for episode in episodes], np.int64)
    last = np.cumsum(lengths) - 1
    flags = np.zeros((2, int(lengths.sum())), bool)
    if lengths.min() > 0:
        flags[0, last] = [episode.terminated for episode in episodes]
        flags[1, last] = [episode.truncated for episode in episodes]
    return {
        "observations": np.concatenate([episode.observations for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": None if bare else np.concatenate([np.asarray(e.rewards) for e in episodes]),
        "terminations": flags[0],
        "truncations": flags[1],
        "lengths": lengths,
        "start_seeds": np.array([episode.start_seed for episode in episodes], np.int64),
    }


def read_only(array: np.ndarray, name: str) -> np.ndarray:
    """Return ``array`` contiguous and read-only; integers become int64, for one hash."""
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"`{name}` must be a numpy array; got {type(array).__name__}")
    dtype = np.int64 if np.issubdtype(array.dtype, np.integer) else array.dtype
    # A caller that can still write to the array would change the dataset behind its hash.
    owned = np.array(array, dtype, order="C", copy=True if array.flags.writeable else None)
    owned.flags.writeable = False
    return owned
