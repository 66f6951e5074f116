"""Demonstrations as a short text table, for people."""

import numpy as np

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import UNKNOWN_SEED
from steelyard.data.provenance import DatasetStatistics

_SHOWN_COMPONENTS = 8


def inspect(demonstrations: Demonstrations) -> str:
    """Describe a dataset in a few lines of text, the same for the same content.

    Args:
        demonstrations: The dataset.

    Returns:
        A table of two columns: task, sizes, episodes, returns, statistics, origin and hash.
    """
    spec, origin, numbers = (
        demonstrations.env_spec,
        demonstrations.provenance,
        demonstrations.statistics(),
    )
    known = demonstrations.start_seeds[demonstrations.start_seeds != UNKNOWN_SEED]
    mean_length = numbers.steps / numbers.episodes
    rows = [
        ("task", f"{spec.id}: {spec.observation_size} observations, {spec.action_size} actions"),
        ("action bounds", f"{_vector(spec.action_low)} to {_vector(spec.action_high)}"),
        (
            "episodes",
            f"{numbers.episodes} of {numbers.shortest} to {numbers.longest} steps "
            f"(mean {mean_length:g}, together {numbers.steps}); {numbers.terminated_share:.0%} "
            "terminated",
        ),
        ("returns", _returns(numbers)),
        ("observations", _moments(numbers.observation_mean, numbers.observation_std)),
        ("actions", _moments(numbers.action_mean, numbers.action_std)),
        ("start seeds", f"{known.min()} to {known.max()}" if len(known) else "unknown"),
        ("recorded by", f"{origin.algorithm}, seed {origin.seed}, {origin.frames} frames"),
        ("deterministic", _known(origin.deterministic)),
        ("checkpoint", _known(origin.checkpoint_hash)),
        (
            "versions",
            ", ".join(f"{k} {v}" for k, v in sorted(origin.versions.items())) or "unknown",
        ),
        *(("note", note) for note in origin.notes),
        ("sha-256", demonstrations.sha256),
    ]
    return "\n".join(f"{name:<14} {value}" for name, value in rows)


def summary_line(demonstrations: Demonstrations) -> str:
    """Describe a dataset in one line: task, episodes, steps and mean return."""
    numbers = demonstrations.statistics()
    return (
        f"{demonstrations.env_spec.id}: {numbers.episodes} episodes, {numbers.steps} steps, "
        f"return {_returns(numbers)}"
    )


def _returns(numbers: DatasetStatistics) -> str:
    if numbers.return_mean is None:
        return "unknown (reward-free)"
    return (
        f"{numbers.return_mean:.6g} (sd {numbers.return_std:.4g}, {numbers.return_min:.6g} to "
        f"{numbers.return_max:.6g})"
    )


def _moments(mean: np.ndarray, std: np.ndarray) -> str:
    return f"mean {_vector(mean.tolist())}, sd {_vector(std.tolist())}"


def _vector(values: tuple[float, ...] | list[float]) -> str:
    shown = " ".join(f"{value:.4g}" for value in values[:_SHOWN_COMPONENTS])
    return f"[{shown}{' …' if len(values) > _SHOWN_COMPONENTS else ''}]"


def _known(value: object) -> str:
    return "unknown" if value is None else str(value)
