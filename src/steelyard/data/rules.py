"""The rules that every dataset obeys, as pure functions from arrays to findings.

The same functions guard :class:`~steelyard.data.demonstrations.Demonstrations` and the import of
every file format, so a dataset cannot pass one and fail the other.
"""

from collections.abc import Iterator

import numpy as np

from steelyard.data.findings import Finding
from steelyard.data.specs import BOUND_TOLERANCE
from steelyard.types import EnvSpec


def place_of(index: int, counts: np.ndarray) -> tuple[int, int]:
    """Return episode and row of flat row ``index``, given the rows per episode ``counts``."""
    ends = np.cumsum(counts)
    episode = int(np.searchsorted(ends, index, side="right"))
    return episode, int(index - (ends[episode] - counts[episode]))


def dataset_findings(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray | None,
    terminations: np.ndarray,
    truncations: np.ndarray,
    lengths: np.ndarray,
    start_seeds: np.ndarray,
    env_spec: EnvSpec,
    action_units: str = "env",
) -> list[Finding]:
    """Check the arrays of a dataset against all rules.

    Args:
        observations: ``[sum(T + 1), obs]`` float32.
        actions: ``[sum T, act]`` float32, environment units.
        rewards: ``[sum T]`` float32, or ``None``.
        terminations: ``[sum T]`` bool, true at most on the last step of an episode.
        truncations: ``[sum T]`` bool, likewise.
        lengths: ``[episode]`` integers, steps per episode, each at least 1.
        start_seeds: ``[episode]`` integers.
        env_spec: The task.
        action_units: The units that the actions were read in, for the hint of the error.

    Returns:
        Findings, none if all is well. If the arrays do not fit together, only those findings: no
        row can be named before they do.
    """
    structure = [
        *_spec_findings(env_spec),
        *_episode_findings(lengths, start_seeds),
        *_shape_findings(
            observations, actions, rewards, terminations, truncations, lengths, env_spec
        ),
    ]
    if structure:
        return structure
    values = [
        *_finite_findings("observations", observations, lengths + 1),
        *_finite_findings("actions", actions, lengths),
        *([] if rewards is None else _finite_findings("rewards", rewards, lengths)),
    ]
    if not values:
        values = bound_findings(actions, lengths, env_spec, action_units)
    return [*values, *_flag_findings(terminations, truncations, lengths)]


def bound_findings(
    actions: np.ndarray, lengths: np.ndarray, env_spec: EnvSpec, action_units: str = "env"
) -> list[Finding]:
    """Check that actions lie in the box of the task, within 1e-6 of its half width.

    Args:
        actions: ``[step, act]``, environment units.
        lengths: ``[episode]``, steps per episode.
        env_spec: The task.
        action_units: The units they were read in; the hint names the other.

    Returns:
        At most one finding: the worst row, the share of rows outside and the likely remedy.
    """
    low, high = np.asarray(env_spec.action_low), np.asarray(env_spec.action_high)
    scale = (high - low) / 2
    excess = np.maximum(low - actions, actions - high) / scale
    # A float32 action at a bound that float32 cannot hold is off by up to half a unit in the last
    # place of the bound, which exceeds 1e-6 of the half width for a narrow box far from zero.
    rounding = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)) / scale
    outside = excess > np.maximum(BOUND_TOLERANCE, rounding)
    if not outside.any():
        return []
    step, component = np.unravel_index(int(np.argmax(excess)), excess.shape)
    episode, row = place_of(int(step), lengths)
    other = "env" if action_units == "normalised" else "normalised"
    return [
        Finding(
            "error",
            "action bounds",
            f"actions must lie within the bounds of {env_spec.id}; worst is episode {episode}, row "
            f"{row}, component {component}: {float(actions[step, component]):.6g} outside "
            f"[{low[component]:g}, {high[component]:g}]; {outside.any(axis=1).mean():.1%} of the "
            f"rows are outside. They were read as {action_units} units: if that is wrong, pass "
            f'`--action-units {other}` (`action_units="{other}"`)',
            episode,
            row,
        )
    ]


def _spec_findings(spec: EnvSpec) -> Iterator[Finding]:
    for component, (low, high) in enumerate(zip(spec.action_low, spec.action_high, strict=True)):
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            yield Finding(
                "error",
                "action bounds",
                f"the action bounds of {spec.id} must be finite and low < high; component "
                f"{component} has [{low}, {high}]",
            )


def _episode_findings(lengths: np.ndarray, start_seeds: np.ndarray) -> Iterator[Finding]:
    for name, array in (("lengths", lengths), ("start_seeds", start_seeds)):
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            yield Finding(
                "error",
                "lengths",
                f"`{name}` must be integers [episode]; got {array.dtype} {array.shape}",
            )
            return
    if len(lengths) == 0:
        yield Finding("error", "empty", "a dataset holds at least 1 episode; got 0")
    if len(start_seeds) != len(lengths):
        yield Finding(
            "error",
            "lengths",
            "there must be one start seed per episode; "
            f"got {len(start_seeds)} for {len(lengths)} episodes",
        )
    for episode in np.flatnonzero(lengths < 1)[:1]:
        yield Finding(
            "error",
            "empty episode",
            f"an episode has at least 1 step; episode {episode} has {lengths[episode]}",
            int(episode),
        )


def _shape_findings(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray | None,
    terminations: np.ndarray,
    truncations: np.ndarray,
    lengths: np.ndarray,
    spec: EnvSpec,
) -> Iterator[Finding]:
    steps, frames = int(np.sum(lengths)), int(np.sum(lengths)) + len(lengths)
    wanted = [
        ("observations", observations, np.float32, (frames, spec.observation_size)),
        ("actions", actions, np.float32, (steps, spec.action_size)),
        ("rewards", rewards, np.float32, (steps,)),
        ("terminations", terminations, np.bool_, (steps,)),
        ("truncations", truncations, np.bool_, (steps,)),
    ]
    for name, array, dtype, shape in wanted:
        if array is None:
            continue
        if array.dtype != dtype:
            yield Finding(
                "error",
                "dtype",
                f"`{name}` must be {np.dtype(dtype)}; got {array.dtype} (convert with `.astype`)",
            )
        if array.shape != shape:
            rule = "one row per step, and one more observation per episode"
            yield Finding(
                "error",
                "lengths",
                f"the lengths must agree ({rule}): {len(lengths)} episodes of {steps} steps of "
                f"{spec.id} need `{name}` {shape}; got {array.shape}",
            )


def _finite_findings(name: str, array: np.ndarray, counts: np.ndarray) -> list[Finding]:
    bad = ~np.isfinite(array)
    if not bad.any():
        return []
    rows: np.ndarray = bad.reshape(len(bad), -1).any(axis=1)  # pyright: ignore
    first = int(np.argmax(rows))
    episode, row = place_of(first, counts)
    value = array[first] if array.ndim == 1 else array[first][bad[first]][0]
    return [
        Finding(
            "error",
            "finite",
            f"`{name}` must be finite; episode {episode}, row {row} holds {value} "
            f"({int(rows.sum())} of {len(rows)} rows are not finite)",
            episode,
            row,
        )
    ]


def _flag_findings(
    terminations: np.ndarray, truncations: np.ndarray, lengths: np.ndarray
) -> Iterator[Finding]:
    last = np.zeros(len(terminations), bool)
    last[np.cumsum(lengths) - 1] = True
    for name, flags in (("terminations", terminations), ("truncations", truncations)):
        inside = np.flatnonzero(flags & ~last)
        if len(inside):
            episode, row = place_of(int(inside[0]), lengths)
            yield Finding(
                "error",
                "episode end",
                f"`{name}` may be true on the last step of an episode only; episode {episode} has "
                f"{lengths[episode]} steps and ends at row {row}",
                episode,
                row,
            )
    open_ends = np.flatnonzero(last & ~(terminations | truncations))
    if len(open_ends):
        episode, row = place_of(int(open_ends[0]), lengths)
        yield Finding(
            "error",
            "episode end",
            "the last step of an episode must be terminated or truncated; episode "
            f"{episode}, row {row} is neither (a cut episode is truncated)",
            episode,
            row,
        )
