"""Mean and standard deviation of what a model sees, fitted on training trajectories only."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from steelyard.data.findings import DatasetError
from steelyard.data.trajectories import Trajectories
from steelyard.files import read_json, reading

STANDARDISERS_FILE = "standardizers.json"
TWIST_COLUMNS = ("vx", "vy", "w")

_LEAST_STD = 1e-6


@dataclasses.dataclass(frozen=True)
class Standardiser:
    """``(value - mean) / std``, per column.

    Attributes:
        mean: In the units of the column.
        std: Likewise, above 0.
        columns: Their names.

    Raises:
        DatasetError: A standard deviation is not above 0; names the column.
    """

    mean: Float64[np.ndarray, " column"]
    std: Float64[np.ndarray, " column"]
    columns: tuple[str, ...]

    def __post_init__(self):
        for name, mean, std in zip(self.columns, self.mean, self.std, strict=True):
            if not (std > _LEAST_STD and np.isfinite(mean)):
                raise DatasetError(
                    f"column {name!r} must vary in the training data: its standard deviation is "
                    f"{std:g}, its mean {mean:g}; a constant column teaches nothing"
                )

    def standardise(self, values: Float[np.ndarray, "*rows column"]) -> np.ndarray:
        """Return values without unit."""
        return (values - self.mean) / self.std

    def restore(self, values: Float[np.ndarray, "*rows column"]) -> np.ndarray:
        """Return values in the units of their columns: the inverse of :meth:`standardise`."""
        return values * self.std + self.mean


@dataclasses.dataclass(frozen=True)
class Standardisers:
    """The standardisers of a model: of its input (twist and command) and its target (twist).

    The twist has one scale in both.
    """

    input: Standardiser
    target: Standardiser


def fit_standardisers(training: Trajectories) -> Standardisers:
    """Fit on all states of the training trajectories; commands on all their steps.

    Raises:
        DatasetError: A column is constant; names it.
    """
    twist = training.twist.astype(np.float64)
    command = training.command[training.step_rows()].astype(np.float64)
    names = (f"{training.command_kind} command", "steering command")
    target = Standardiser(twist.mean(axis=0), twist.std(axis=0), TWIST_COLUMNS)
    return Standardisers(
        input=Standardiser(
            np.concatenate([target.mean, command.mean(axis=0)]),
            np.concatenate([target.std, command.std(axis=0)]),
            (*TWIST_COLUMNS, *names),
        ),
        target=target,
    )


def save_standardisers(standardisers: Standardisers, path: str | Path) -> Path:
    """Write ``standardizers.json``: ``input`` and ``target``, each with ``mean`` and ``std``.

    Args:
        standardisers: What to write.
        path: A folder, or the file.
    """
    fields = {
        name: {
            "mean": part.mean.tolist(),
            "std": part.std.tolist(),
            "columns": list(part.columns),
        }
        for name, part in (("input", standardisers.input), ("target", standardisers.target))
    }
    path = _file(path)
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return path


def load_standardisers(path: str | Path) -> Standardisers:
    """Read ``standardizers.json``, ours or the reference's (which has no ``columns``).

    Raises:
        DatasetError: The file is missing or something else, or a standard deviation is 0.
    """
    path = _file(path)
    defaults = {
        "input": (*TWIST_COLUMNS, "velocity command", "steering command"),
        "target": TWIST_COLUMNS,
    }
    fields = read_json(path, DatasetError)
    with reading(path, "not standardisers of a dynamics model", DatasetError):
        parts = {}
        for name, columns in defaults.items():
            mean, std = (np.asarray(fields[name][key], np.float64) for key in ("mean", "std"))
            columns = tuple(fields[name].get("columns", columns))
            if not mean.shape == std.shape == (len(columns),):
                raise DatasetError(
                    f"`{name}` must have {len(columns)} means and as many deviations; got "
                    f"{mean.shape} and {std.shape}"
                )
            parts[name] = Standardiser(mean, std, columns)
    return Standardisers(**parts)


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / STANDARDISERS_FILE if path.is_dir() else path
