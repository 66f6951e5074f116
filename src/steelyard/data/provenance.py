"""Where a dataset comes from, and what it holds in numbers: the records beside the arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Who made a dataset, with what, and what was done to it since.

    Attributes:
        task: Name of the task it was recorded in.
        algorithm: What acted, e.g. ``"sac"`` or ``"random"``.
        seed: Seed of the run that made it.
        frames: Environment steps that the policy was trained for.
        deterministic: Whether the policy's mean was recorded (``True``) or samples of it.
        checkpoint_hash: sha-256 of the checkpoint that acted.
        versions: Version of each package that made it.
        notes: What was done to the data since (subsets, mixtures, repairs), oldest first.
    """

    task: str
    algorithm: str = "unknown"
    seed: int | None = None
    frames: int | None = None
    deterministic: bool | None = None
    checkpoint_hash: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def noting(self, *notes: str) -> "Provenance":
        """Return a copy with ``notes`` appended."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "versions": dict(self.versions),
            "notes": list(self.notes),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Provenance":
        """Rebuild what :meth:`to_fields` returned.

        Raises:
            TypeError: A field is unknown, or ``task`` is missing.
        """
        notes = tuple(str(note) for note in fields.get("notes", ()))
        if not isinstance(fields.get("versions", {}), Mapping):
            raise TypeError(f"`versions` must map packages to versions, got {fields['versions']!r}")
        return cls(**{**fields, "notes": notes})


@dataclasses.dataclass(frozen=True)
class DatasetStatistics:
    """A dataset in numbers; actions in environment units.

    Means and standard deviations (population) run over all ``sum(T + 1)`` observations and all
    ``sum T`` actions. The returns are undiscounted and ``None`` for reward-free data.
    """

    observation_mean: Float[np.ndarray, "obs"]
    observation_std: Float[np.ndarray, "obs"]
    action_mean: Float[np.ndarray, "act"]
    action_std: Float[np.ndarray, "act"]
    episodes: int
    steps: int
    shortest: int
    longest: int
    terminated_share: float
    return_mean: float | None
    return_std: float | None
    return_min: float | None
    return_max: float | None
