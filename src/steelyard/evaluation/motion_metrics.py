"""What the errors of predicted motion amount to: one number per item and metric, then summaries.

Two families. The **reference's** ``traj_*`` and ``final_*`` are plain means of squared errors over
components of different units (m², rad², (m/s)², (rad/s)²; "pos" contains the heading), so the yaw
rate and the position dominate them; they are kept for comparison. **Ours** are in SI units, each of
one quantity:

==================  ==============================================================================
``ate_m``           mean over time of the position error within the horizon
``fde_m``           position error at the horizon
``heading_deg``     mean over time of the absolute heading error within the horizon, degrees
``rmse_vx``         root mean square over time of the error of ``vx``, m/s; ``rmse_vy``, ``rmse_w``
                    (rad/s) likewise
``time_to_10cm_s``  when the position error first exceeds 0.1 m; NaN where it does not
``drift_percent``   100 · ``fde_m`` / path driven; NaN where that is below 0.1 m
``diverged``        whether the prediction diverged within the horizon; then errors are infinite
==================  ==============================================================================

The start is exact and counts in no mean.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from steelyard.evaluation.model_rollout import Prediction, Recordings
from steelyard.numerics.tail_statistics import summarise_tail, wilson

HORIZONS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
DIVERGED_MSE = 1e30
"""What the reference's keys say of a diverged item: scripts sort and average them as numbers."""

NEAR_M = 0.1
LEAST_PATH_M = 0.1
_HORIZON_SLACK = 0.1
TAIL_METRICS = (
    "ate_m", "fde_m", "heading_deg", "rmse_vx", "rmse_vy", "rmse_w", "drift_percent"
)  # fmt: skip

PerItem = Mapping[str, Shaped[np.ndarray, "item *component"]]


@dataclasses.dataclass(frozen=True)
class MotionErrors:
    """Errors of predicted motion on the host, float64; states are padded to a common length.

    Attributes:
        error: Predicted minus recorded ``(x, y, theta, vx, vy, w)``; infinite once diverged.
        valid: Which states are recorded.
        alive: Which states come before any divergence.
        elapsed_s: Time since the start.
        path_m: Distance driven since the start, as recorded.
    """

    error: Float[np.ndarray, "item state 6"]
    valid: Bool[np.ndarray, "item state"]
    alive: Bool[np.ndarray, "item state"]
    elapsed_s: Float[np.ndarray, "item state"]
    path_m: Float[np.ndarray, "item state"]

    @classmethod
    def of(cls, prediction: Prediction, recordings: Recordings) -> "MotionErrors":
        """Fetch a prediction from the device."""
        pose = np.asarray(recordings.window.pose, np.float64)
        moved = np.linalg.norm(np.diff(pose[..., :2], axis=1), axis=-1)
        return cls(
            error=np.asarray(prediction.error, np.float64),
            valid=np.asarray(recordings.valid),
            alive=np.asarray(prediction.alive),
            elapsed_s=_sums(np.asarray(recordings.window.dt, np.float64)),
            path_m=_sums(moved),
        )

    @property
    def states(self) -> Int[np.ndarray, " item"]:
        """Recorded states of each item, its start included."""
        return self.valid.sum(axis=1)

    @property
    def position_m(self) -> Float[np.ndarray, "item state"]:
        """Distance between the predicted and the recorded point."""
        return np.hypot(self.error[..., 0], self.error[..., 1])

    def last_state(self, horizon_s: float | None) -> Int[np.ndarray, " item"]:
        """Return the state at a horizon, for each item.

        The state nearest in time, which must lie within 10 % of the horizon.

        Args:
            horizon_s: In seconds, > 0; None for the end of each item.

        Returns:
            Its index, or -1 where the item has no such state.
        """
        if horizon_s is None:
            return self.states - 1
        if not horizon_s > 0:
            raise ValueError(f"a horizon must be above 0 s, got {horizon_s}")
        off = np.where(self.valid, np.abs(self.elapsed_s - horizon_s), np.inf)
        nearest = off.argmin(axis=1)
        close = np.take_along_axis(off, nearest[:, None], 1)[:, 0] <= _HORIZON_SLACK * horizon_s
        return np.where(close, nearest, -1)


def reference_metrics(errors: MotionErrors) -> PerItem:
    """Return the metrics of the reference for every item, under its names.

    ``traj_*`` are means over all states but the start, ``final_*`` belong to the last one. Diverged
    items get :data:`DIVERGED_MSE`.
    """
    last = errors.states - 1
    squares = np.minimum(errors.error**2, DIVERGED_MSE)
    over_time = _mean_over(squares, _inside(errors, last))
    at_end = squares[np.arange(len(last)), last]
    metrics: dict[str, np.ndarray] = {"traj_len": errors.states}
    for prefix, values in (("traj", over_time), ("final", at_end)):
        metrics[f"{prefix}_state_mse"] = values.mean(axis=1)
        metrics[f"{prefix}_pos_mse"] = values[:, :3].mean(axis=1)
        metrics[f"{prefix}_vel_mse"] = values[:, 3:].mean(axis=1)
        metrics[f"{prefix}_pos_mse_per_dim"] = values[:, :3]
        metrics[f"{prefix}_vel_mse_per_dim"] = values[:, 3:]
    return metrics


def motion_metrics(errors: MotionErrors, horizon_s: float | None = None) -> PerItem:
    """Return our metrics of every item within a horizon; see the head of this module.

    Args:
        errors: Of a model, of the floor or of the naive prediction.
        horizon_s: In seconds; None for each item's whole length.

    Returns:
        Arrays by name; NaN (``diverged``: false) for items that do not reach the horizon.
    """
    last = errors.last_state(horizon_s)
    reached, items = last >= 1, np.arange(len(last))
    inside = _inside(errors, last)
    position = errors.position_m
    over_time = _mean_over(
        np.concatenate(
            [position[..., None], np.abs(errors.error[..., 2:3]), errors.error[..., 3:] ** 2], -1
        ),
        inside,
    )
    path, final = errors.path_m[items, last], position[items, last]
    far = inside & (position > NEAR_M)
    crossing = errors.elapsed_s[items, far.argmax(axis=1)]
    moving = path >= LEAST_PATH_M
    metrics = {
        "ate_m": over_time[:, 0],
        "fde_m": final,
        "heading_deg": np.degrees(over_time[:, 1]),
        "rmse_vx": np.sqrt(over_time[:, 2]),
        "rmse_vy": np.sqrt(over_time[:, 3]),
        "rmse_w": np.sqrt(over_time[:, 4]),
        "time_to_10cm_s": np.where(far.any(axis=1), crossing, np.nan),
        "drift_percent": np.where(
            moving | np.isinf(final), 100 * final / np.where(moving, path, 1.0), np.nan
        ),
    }
    metrics = {name: np.where(reached, values, np.nan) for name, values in metrics.items()}
    metrics["diverged"] = np.any(inside & ~errors.alive, axis=1)
    return metrics


def summarise_motion(
    model: MotionErrors,
    floor: MotionErrors,
    naive: MotionErrors,
    horizons_s: Sequence[float] = HORIZONS_S,
) -> dict[str, Any]:
    """Summarise every metric over the items, at each horizon and over the whole length.

    Args:
        model: Errors of the model.
        floor: Errors of the recorded twists, integrated again.
        naive: Errors of the constant twist.
        horizons_s: In seconds; those that no item reaches are left out.

    Returns:
        ``{horizon: {metric: {mean, median, cvar20, p95, p95_ci, max, n, floor, naive}}}``;
        ``horizon`` is ``"whole"`` or seconds as text, ``p95_ci`` two numbers or why there are none,
        ``floor`` and ``naive`` have the first six numbers; and ``diverged`` at each horizon with
        ``count``, ``rate`` and Wilson's ``low`` and ``high``. Infinite where items diverged.
    """
    summary: dict[str, Any] = {}
    for horizon in (None, *horizons_s):
        sides = [motion_metrics(errors, horizon) for errors in (model, floor, naive)]
        reached = ~np.isnan(sides[0]["ate_m"])
        if not reached.any():
            continue
        rows: dict[str, Any] = {}
        for name in TAIL_METRICS:
            own, *others = [_tail(side[name]) for side in sides]
            if own:
                rows[name] = own | dict(zip(("floor", "naive"), map(_short, others), strict=True))
        count = int(sides[0]["diverged"].sum())
        rate = wilson(count, int(reached.sum()))
        rows["diverged"] = {
            "count": count, "rate": rate.value, "low": rate.low, "high": rate.high
        }  # fmt: skip
        summary[horizon_name(horizon)] = rows
    return summary


def horizon_name(horizon_s: float | None) -> str:
    """Name of a horizon in files: ``"whole"``, or seconds such as ``"0.5"`` and ``"10"``."""
    return "whole" if horizon_s is None else f"{horizon_s:g}"


def _tail(values: Float[np.ndarray, " item"]) -> dict[str, Any]:
    """Summarise the items that have a value; empty where none has."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    tail = summarise_tail(values)
    return {
        "mean": tail.mean,
        "median": tail.median,
        "cvar20": tail.cvar20,
        "p95": tail.p95,
        "p95_ci": tail.p95_note or list(tail.p95_ci or ()),
        "max": tail.max,
        "n": tail.n,
    }


def _short(tail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tail.items() if name != "p95_ci"}


def _inside(errors: MotionErrors, last: Int[np.ndarray, " item"]) -> Bool[np.ndarray, "item state"]:
    """States after the start up to the last one."""
    state = np.arange(errors.valid.shape[1])[None, :]
    return (state >= 1) & (state <= last[:, None])


def _mean_over(
    values: Float[np.ndarray, "item state component"], inside: Bool[np.ndarray, "item state"]
) -> Float[np.ndarray, "item component"]:
    """Average over the states inside; infinite values outside do not matter."""
    total = np.where(inside[..., None], values, 0.0).sum(axis=1)
    return total / np.maximum(inside.sum(axis=1), 1)[:, None]


def _sums(steps: Float[np.ndarray, "item step"]) -> Float[np.ndarray, "item state"]:
    """Running sums from 0."""
    return np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, axis=1)], axis=1)
