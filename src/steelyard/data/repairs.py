"""The known faults of recorded episodes: found, named, and repaired where the data allow it."""

import numpy as np

from steelyard.data.findings import Finding
from steelyard.data.raw import RawEpisode

SHIFT_TOLERANCE = 1e-6
"""How far ``next_observations[t]`` and ``observations[t + 1]`` may differ, relative to 1 + size."""


def frames_from_rows(episodes: list[RawEpisode]) -> tuple[list[RawEpisode], list[Finding]]:
    """Turn rows ``(o, a, o')`` into ``T + 1`` observations, checking that o' is the next o."""
    if any(episode.next_observations is None for episode in episodes):
        what = "the data hold no `next_observations`"
        return _shifted(episodes, "next observations", what)
    break_at = _first_break(episodes)
    if break_at is None:
        return [_framed(episode) for episode in episodes], []
    if all(_same(e.next_observations, e.observations) for e in episodes):
        what = (
            "`next_observations` equal `observations` on every row, which is the reference "
            "collector's off-by-one (it stores the observation that it acted on twice)"
        )
        return _shifted(episodes, "off-by-one", what)
    return episodes, [break_at]


def _same(left: np.ndarray | None, right: np.ndarray) -> bool:
    return left is not None and np.array_equal(left, right, equal_nan=True)


def _first_break(episodes: list[RawEpisode]) -> Finding | None:
    """Find the first row whose o' is not the o of the next row of its episode."""
    for index, episode in enumerate(episodes):
        before = np.asarray(episode.next_observations, np.float64)[:-1]
        after = np.asarray(episode.observations, np.float64)[1:]
        if before.shape != after.shape:
            message = (
                f"`observations` and `next_observations` must have one size; episode {index} has "
                f"{after.shape[1:]} and {before.shape[1:]}"
            )
            return Finding("error", "shape", message, index)
        # Rows that are not finite are left to the check that names them as such.
        with np.errstate(invalid="ignore"):
            apart = np.abs(before - after) > SHIFT_TOLERANCE * (1 + np.abs(after))
        apart &= np.isfinite(before) & np.isfinite(after)
        if apart.any():
            row = int(np.argmax(apart.any(axis=1)))
            component = int(np.argmax(apart[row]))
            return Finding(
                "error",
                "next observations",
                "`next_observations[t]` must equal `observations[t + 1]` inside an episode; "
                f"episode {index}, row {row}, component {component}: "
                f"{before[row, component]:.6g} against {after[row, component]:.6g} (an episode "
                "that ends without a mark also looks like this)",
                index,
                row,
            )
    return None


def _framed(episode: RawEpisode) -> RawEpisode:
    assert episode.next_observations is not None
    frames = np.concatenate([episode.observations, episode.next_observations[-1:]])
    return episode._replace(observations=frames, next_observations=None)


def _shifted(
    episodes: list[RawEpisode], rule: str, what: str
) -> tuple[list[RawEpisode], list[Finding]]:
    """Take the next row's o for o' and drop each episode's last row, whose o' is nowhere."""
    kept = [
        RawEpisode(
            observations=episode.observations,
            actions=episode.actions[:-1],
            rewards=None if episode.rewards is None else episode.rewards[:-1],
            terminations=episode.terminations[:-1],
            # The new last row is where the recording was cut: bootstrapping goes on there.
            truncations=np.arange(len(episode.actions) - 1) == len(episode.actions) - 2,
            start_seed=episode.start_seed,
        )
        for episode in episodes
        if len(episode.actions) > 1
    ]
    lost = len(episodes) - len(kept)
    message = (
        f"{what}: rebuilt them from the following row and dropped the last row of each of the "
        f"{len(episodes)} episodes" + (f"; {lost} of one row are gone" if lost else "")
    )
    if not kept:
        message = f"{what}, and no episode is longer than 1 row, so none can be rebuilt"
        return [], [Finding("error", rule, message)]
    return kept, [Finding("warning", rule, message)]


def close_open_ends(episodes: list[RawEpisode]) -> tuple[list[RawEpisode], list[Finding]]:
    """Mark episodes that stop without an end as truncated: bootstrapping goes on there."""
    open_ends = [
        index for index, e in enumerate(episodes) if not (e.terminations[-1] or e.truncations[-1])
    ]
    for index in open_ends:
        truncations = np.array(episodes[index].truncations)
        truncations[-1] = True
        episodes[index] = episodes[index]._replace(truncations=truncations)
    if not open_ends:
        return episodes, []
    message = (
        f"{len(open_ends)} of {len(episodes)} episodes end neither terminated nor truncated "
        f"(first: episode {open_ends[0]}); taken as truncated"
    )
    return episodes, [Finding("note", "episode end", message, open_ends[0])]
