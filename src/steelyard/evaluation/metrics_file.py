"""The file ``metrics.json`` of one evaluation of a dynamics model: written whole, read with care.

Every key of the reference's file keeps its name, place and meaning; ours stand beside them. Numbers
that are not finite have no JSON: ``null`` stands for them, and ``diverged`` says which of them are
infinite. The reference's own keys are always numbers (see
:data:`~steelyard.evaluation.motion_metrics.DIVERGED_MSE`), so that scripts written for it run.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from jaxtyping import Float

from steelyard.evaluation.model_rollout import Speed
from steelyard.evaluation.motion_metrics import (
    HORIZONS_S,
    MotionErrors,
    horizon_name,
    motion_metrics,
    reference_metrics,
    summarise_motion,
)
from steelyard.files import FileError, field, read_json, write_text

_AVERAGED = tuple(
    f"{part}_{kind}_mse" for part in ("traj", "final") for kind in ("state", "pos", "vel")
)
_KEYS = (
    "experiment_dir", "config_path", "checkpoint_path", "device", "eval_run_name", "eval_config",
    "metrics", "speed", "per_trajectory", "summary",
)  # fmt: skip

Id = str | int


@dataclasses.dataclass(frozen=True)
class EvaluationInfo:
    """What was evaluated and how it was chosen.

    Attributes:
        experiment_dir: Folder of the run.
        config_path: Its configuration.
        checkpoint_path: The weights.
        device: Where it ran, e.g. ``"cpu"``.
        eval_run_name: Name of this evaluation, e.g. its time.
        num_eval_trajs_requested: How many trajectories were asked for.
        random_select: Whether they were drawn at random from the test set.
        seed: Seed of that draw; None without one.
        selected_ids: The trajectories chosen.
    """

    experiment_dir: str
    config_path: str
    checkpoint_path: str
    device: str
    eval_run_name: str
    num_eval_trajs_requested: int
    random_select: bool
    seed: int | None
    selected_ids: tuple[Id, ...]


@dataclasses.dataclass(frozen=True)
class MetricsFile:
    """The content of a ``metrics.json``, checked.

    Attributes:
        content: Everything in it, as plain JSON values.
    """

    content: Mapping[str, Any]

    @property
    def ids(self) -> tuple[Id, ...]:
        """The trajectories, in the order of all arrays."""
        return tuple(row["id"] for row in self.content["per_trajectory"])

    def values(self, metric: str, horizon_s: float | None = None) -> Float[np.ndarray, " item"]:
        """Return a metric of every trajectory.

        Args:
            metric: A key of a trajectory, e.g. ``"ate_m"`` or ``"traj_state_mse"``.
            horizon_s: In seconds; None for the whole trajectory.

        Returns:
            NaN where a trajectory does not reach the horizon or has no value, infinity where the
            prediction diverged within it.

        Raises:
            ValueError: No trajectory has that metric at that horizon; the message lists what there
                is.
        """
        rows = self.content["per_trajectory"]
        name = horizon_name(horizon_s)
        found = rows if horizon_s is None else [row["horizons"].get(name, {}) for row in rows]
        if not any(metric in row for row in found):
            legal = sorted({key for row in found for key in row} - {"id", "horizons"})
            raise ValueError(
                f"no trajectory has {metric!r} at horizon {name!r}; it has {legal}"
                if legal
                else f"no trajectory reaches horizon {name!r}"
            )
        return np.array([_number(row, metric) for row in found])


def metrics_json(
    info: EvaluationInfo,
    ids: Sequence[Id],
    model: MotionErrors,
    floor: MotionErrors,
    naive: MotionErrors,
    speed: Speed,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> dict[str, Any]:
    """Build the content of ``metrics.json``.

    Args:
        info: What was evaluated.
        ids: Name of each item, in the order of the errors.
        model: Errors of the model.
        floor: Errors of the recorded twists, integrated again.
        naive: Errors of the constant twist.
        speed: How fast the model rolled out.
        horizons_s: In seconds; an item lists those that it reaches.

    Raises:
        ValueError: The number of ids is not that of the items.
    """
    if len(ids) != len(model.error):
        raise ValueError(f"ids must name each item, got {len(ids)} for {len(model.error)} items")
    reference, whole = reference_metrics(model), motion_metrics(model)
    at = {horizon_name(h): motion_metrics(model, h) for h in horizons_s}
    rows = [
        {"id": name}
        | _row(reference, item)
        | _row(whole, item)
        | {"horizons": {h: _row(m, item) for h, m in at.items() if not np.isnan(m["ate_m"][item])}}
        for item, name in enumerate(ids)
    ]
    per_step = speed.total_time_s / speed.steps
    content = {
        "experiment_dir": info.experiment_dir,
        "config_path": info.config_path,
        "checkpoint_path": info.checkpoint_path,
        "device": info.device,
        "eval_run_name": info.eval_run_name,
        "eval_config": {
            "num_eval_trajs_requested": info.num_eval_trajs_requested,
            "num_eval_trajs_evaluated": len(ids),
            "random_select": info.random_select,
            "seed": info.seed,
            "selected_ids": list(info.selected_ids),
            "evaluated_ids": list(ids),
        },
        "metrics": {f"avg_{key}": float(reference[key].mean()) for key in _AVERAGED},
        "speed": {
            "steps": speed.steps,
            "total_time_sec": speed.total_time_s,
            "time_per_step_sec": per_step,
            "steps_per_sec": 1 / per_step,
        },
        "per_trajectory": rows,
        "summary": summarise_motion(model, floor, naive, horizons_s),
    }
    return _plain(content)


def write_metrics(path: Path, content: Mapping[str, Any]) -> Path:
    """Write what :func:`metrics_json` built, complete or not at all; make the folder."""
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_metrics(path: Path) -> MetricsFile:
    """Read a ``metrics.json``.

    Raises:
        ValueError: It is no JSON object, or lacks keys; the message names file and keys. A file of
            the reference itself lacks ``summary`` and is told so.
    """
    content = read_json(path)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise ValueError(f"{path} lacks {missing}; metrics.json has {list(_KEYS)}")
    for row in field(content, "per_trajectory", kind=list, place=path):
        name = field(row, "id", kind=(str, int), place=path)
        field(row, "diverged", kind=bool, place=path)
        horizons = field(row, "horizons", kind=dict, place=path)
        for part in (row, *horizons.values()):
            if not isinstance(part, dict):
                raise FileError(f"{path}: the horizons of trajectory {name!r} must be objects")
            for key, value in part.items():
                if key not in ("id", "horizons"):
                    kind = list if key.endswith("_per_dim") else (int, float, bool, NoneType)
                    field(part, key, kind=kind, place=path)
                    if isinstance(value, int) and abs(value) > sys.float_info.max:
                        raise FileError(f"{path}: `{key}` of trajectory {name!r} is no number")
    return MetricsFile(content)


def _row(metrics: Mapping[str, np.ndarray], item: int) -> dict[str, Any]:
    return {name: values[item].tolist() for name, values in metrics.items()}


def _number(row: Mapping[str, Any], metric: str) -> float:
    """Undo :func:`_plain` for one number; what is infinite once diverged is infinite again."""
    value = row.get(metric)
    if value is not None:
        return float(value)
    lost = metric in row and row["diverged"] and metric != "time_to_10cm_s"
    return math.inf if lost else math.nan


def _plain(value: Any) -> Any:
    """Replace numbers that are not finite by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
