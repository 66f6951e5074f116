"""What a reader hands over: a dataset as the file holds it, not yet judged."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from steelyard.data.episode import UNKNOWN_SEED
from steelyard.data.findings import Finding
from steelyard.data.provenance import Provenance
from steelyard.data.specs import UNKNOWN_TASK
from steelyard.types import EnvSpec

ActionUnits = Literal["env", "normalised"]


class RawEpisode(NamedTuple):
    """One episode as a file holds it, unchecked.

    Attributes:
        observations: ``[T + 1, obs]``, or ``[T, obs]`` where ``next_observations`` stand beside.
        actions: ``[T, act]``.
        rewards: ``[T]``, or ``None`` where the file has none.
        terminations: ``[T]``.
        truncations: ``[T]``.
        next_observations: ``[T, obs]``; ``None`` where there are none.
        start_seed: Seed of the start state, -1 where unknown.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray | None
    terminations: np.ndarray
    truncations: np.ndarray
    next_observations: np.ndarray | None = None
    start_seed: int = UNKNOWN_SEED


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """A dataset as a reader found it.

    Attributes:
        episodes: Its episodes, unchecked.
        framed: Whether episodes hold ``T + 1`` observations; otherwise rows ``(o, a, o')``.
        env_spec: The task, if the file says it in full.
        task: Name of the task, if the file says at least that.
        action_units: Units of the actions, by the rules of the format.
        units_stated: Whether the file itself says so, so that nobody can know better.
        provenance: The origin, if the file says it.
        findings: What the reader itself has to say.
    """

    episodes: tuple[RawEpisode, ...]
    framed: bool
    env_spec: EnvSpec | None = None
    task: str = UNKNOWN_TASK
    action_units: ActionUnits = "env"
    units_stated: bool = False
    provenance: Provenance | None = None
    findings: tuple[Finding, ...] = ()


def structure_findings(raw: RawDataset) -> list[Finding]:
    """Check that the columns of each episode have the same number of rows."""
    findings: list[Finding] = []
    if not raw.episodes:
        findings.append(Finding("error", "empty", "a dataset holds at least 1 episode; got 0"))
    for index, episode in enumerate(raw.episodes):
        axes = [
            Finding("error", "shape", _AXES.format(name, count, index, column.shape), index)
            for name, count in _COLUMNS.items()
            if (column := getattr(episode, name)) is not None and column.ndim != count
        ]
        if axes:
            return findings + axes
        steps = len(episode.actions)
        if steps == 0:
            message = f"an episode has at least 1 step; episode {index} has 0"
            findings.append(Finding("error", "empty episode", message, index))
            continue
        columns = {
            "observations": (episode.observations, steps + raw.framed),
            "next_observations": (episode.next_observations, steps),
            "rewards": (episode.rewards, steps),
            "terminations": (episode.terminations, steps),
            "truncations": (episode.truncations, steps),
        }
        for name, (column, wanted) in columns.items():
            if column is not None and len(column) != wanted:
                message = (
                    f"the lengths must agree: episode {index} has {steps} actions, which need "
                    f"{wanted} rows of `{name}`; got {len(column)}"
                )
                findings.append(Finding("error", "lengths", message, index))
        for name, column in (("observations", episode.observations), ("actions", episode.actions)):
            if column.shape[1] != getattr(raw.episodes[0], name).shape[1]:
                message = (
                    f"`{name}` must have one size throughout; episode {index} has "
                    f"{column.shape[1]} components, episode 0 has "
                    f"{getattr(raw.episodes[0], name).shape[1]}"
                )
                findings.append(Finding("error", "shape", message, index))
    return findings


_COLUMNS = {
    "observations": 2,
    "actions": 2,
    "next_observations": 2,
    "rewards": 1,
    "terminations": 1,
    "truncations": 1,
}
_AXES = (
    "`{}` must have {} axes, a vector or a number per row; episode {} holds an array of shape {}"
)
