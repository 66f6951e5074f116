"""Task specifications at rest: to JSON and back, compared, inferred where a file holds none."""

import dataclasses
import json
from typing import Any

import numpy as np

from steelyard.data.findings import DatasetError, Finding
from steelyard.files import reading
from steelyard.types import EnvSpec

UNKNOWN_TASK = "unknown"
"""The task's name where a file does not say it; it agrees with every task."""

BOUND_TOLERANCE = 1e-6
"""Bounds and actions may differ by this share of the half width of the action box."""


def spec_to_json(spec: EnvSpec) -> str:
    """Write a specification as one line of JSON with sorted keys."""
    return json.dumps(dataclasses.asdict(spec), sort_keys=True)


def spec_from_json(text: str, place: str) -> EnvSpec:
    """Read a specification that :func:`spec_to_json` wrote.

    Args:
        text: The JSON text.
        place: Where it was found, for the error.

    Raises:
        DatasetError: The text is not the JSON of an ``EnvSpec``.
    """
    names = [field.name for field in dataclasses.fields(EnvSpec)]
    rule = f"an environment specification is a JSON object with the fields {names}"
    with reading(place, f"{rule}; got {text!r:.120}", DatasetError):
        return spec_from_fields(json.loads(text))


def spec_from_fields(fields: dict[str, Any]) -> EnvSpec:
    """Build a specification from its fields as JSON holds them (lists in place of tuples)."""
    names = {field.name for field in dataclasses.fields(EnvSpec)}
    if not isinstance(fields, dict) or set(fields) != names:
        raise ValueError(f"fields {sorted(fields)}, expected {sorted(names)}")
    return EnvSpec(
        id=str(fields["id"]),
        observation_size=int(fields["observation_size"]),
        action_low=tuple(float(x) for x in fields["action_low"]),
        action_high=tuple(float(x) for x in fields["action_high"]),
        max_episode_steps=int(fields["max_episode_steps"]),
        can_terminate=bool(fields["can_terminate"]),
    )


def spec_differences(dataset_spec: EnvSpec, env_spec: EnvSpec) -> list[tuple[str, str, str]]:
    """List where two specifications differ, as ``(what, in the dataset, in the environment)``.

    The name, the sizes and the action bounds are compared. A task named ``"unknown"`` agrees with
    every name. The time limit and ``can_terminate`` are not compared: files often lack them.
    """
    rows: list[tuple[str, str, str]] = []

    def differ(what: str, left: Any, right: Any) -> None:
        if left != right:
            rows.append((what, str(left), str(right)))

    if UNKNOWN_TASK not in (dataset_spec.id, env_spec.id):
        differ("task", dataset_spec.id, env_spec.id)
    differ("observation size", dataset_spec.observation_size, env_spec.observation_size)
    differ("action size", dataset_spec.action_size, env_spec.action_size)
    if dataset_spec.action_size == env_spec.action_size:
        scale = np.abs(env_spec.action_scale)
        for what in ("action_low", "action_high"):
            left, right = getattr(dataset_spec, what), getattr(env_spec, what)
            gap = np.abs(np.asarray(left) - np.asarray(right))
            if np.any(gap > BOUND_TOLERANCE * scale):
                rows.append((what.replace("_", " "), str(list(left)), str(list(right))))
    return rows


def compare_specs(dataset_spec: EnvSpec, env_spec: EnvSpec) -> None:
    """Check that a dataset and an environment are about the same task.

    Args:
        dataset_spec: What the dataset says of its task.
        env_spec: What the environment, or ``--env``, says.

    Raises:
        DatasetError: They differ in name, sizes or action bounds; both values stand side by side.
    """
    rows = spec_differences(dataset_spec, env_spec)
    if rows:
        table = "".join(f"\n  {what:<17} dataset {a}  |  environment {b}" for what, a, b in rows)
        raise DatasetError(
            f"the dataset and the environment must be of one task; they differ in{table}"
        )


def infer_spec(
    task: str, observation_size: int, actions: np.ndarray, longest: int, terminates: bool
) -> tuple[EnvSpec | None, Finding]:
    """Guess the specification of a dataset whose file holds no action bounds.

    Bounds of ±1 are assumed where all actions lie inside them; anything else is refused, since a
    guess from the data's extremes would scale the actions wrongly without a sign of it.

    Args:
        task: Name of the task, or ``"unknown"``.
        observation_size: Components of an observation.
        actions: ``[step, act]``, as the file holds them.
        longest: Steps of the longest episode, taken as the time limit.
        terminates: Whether any episode terminates.

    Returns:
        The specification (``None`` if it cannot be inferred) and the finding that says so.
    """
    low, high = np.min(actions, axis=0), np.max(actions, axis=0)
    if np.any(np.maximum(-low, high) > 1 + BOUND_TOLERANCE):
        return None, Finding(
            "error",
            "env_spec",
            "the file holds no action bounds, and actions beyond [-1, 1] do not tell them: they "
            f"range from {low.tolist()} to {high.tolist()}; pass `env_spec=` (or `--env`)",
        )
    size = actions.shape[1]
    spec = EnvSpec(task, observation_size, (-1.0,) * size, (1.0,) * size, longest, terminates)
    return spec, Finding(
        "note",
        "env_spec",
        f"the file holds no action bounds: assumed [-1, 1], a time limit of {longest} steps and "
        f"can_terminate={terminates}; pass `env_spec=` (or `--env`) to say otherwise",
    )
