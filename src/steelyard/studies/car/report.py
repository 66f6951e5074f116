"""What the car study measured: records per test set, and how to tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.numerics.tail_statistics import cvar
from steelyard.reports import Arm, Comparison, Metric, Panel, Record, StudyReport, TailComparison
from steelyard.reports.records import axes_suffix
from steelyard.studies.car.arms import ARMS, FRONTIER, pairs
from steelyard.studies.car.config import CONTROLS, CarConfig
from steelyard.studies.car.execute import HORIZONS_S
from steelyard.studies.car.plan import plan_cells
from steelyard.studies.car.sources import HOLD_OUT
from steelyard.studies.cells import Cell, Store
from steelyard.studies.parts import record_origin
from steelyard.training.metrics import read_rows

METRICS = (
    Metric(
        "ate_cvar20",
        "tail error",
        "Worst 20 %, m",
        "mean over the worst fifth of the test rollouts of the mean distance between predicted and "
        "recorded position (CVaR20 of ate_m)",
        higher_is_better=False,
    ),
    Metric(
        "ate_mean",
        "mean error",
        "Mean, m",
        "mean over test rollouts of the mean distance between predicted and recorded position",
        higher_is_better=False,
    ),
    Metric("ate_median", "median error", "Median, m", "its median", higher_is_better=False),
    Metric("ate_p95", "95th percentile", "P95, m", "its 95th percentile", higher_is_better=False),
    Metric("ate_max", "largest error", "Max, m", "its largest value", higher_is_better=False),
    Metric(
        "fde_1s",
        "error after 1 s",
        "At 1 s, m",
        "mean distance 1 s after the start",
        higher_is_better=False,
    ),
    Metric(
        "fde_2s",
        "error after 2 s",
        "At 2 s, m",
        "mean distance 2 s after the start",
        higher_is_better=False,
    ),
    Metric(
        "fde_5s",
        "error after 5 s",
        "At 5 s, m",
        "mean distance 5 s after the start",
        higher_is_better=False,
    ),
    Metric(
        "traj_state_mse",
        "the reference's error",
        "State MSE",
        "the reference's mean of six squared errors in mixed units (m², rad², (m/s)², (rad/s)²)",
        decimals=4,
        higher_is_better=False,
    ),
)

PANELS: dict[str, dict[str, str]] = {
    "Mean distance between predicted and recorded position after a time, m": {"fde": ""},
    "Root mean square errors up to a time, m/s, m/s, rad/s": {
        "rmse_vx": "vx, ",
        "rmse_vy": "vy, ",
        "rmse_w": "w, ",
    },
}
"""Tables by horizon: title, and metrics with what heads their columns."""

DESCRIPTION = (
    "A model predicts the car's next body twist from the present one and the commands; the "
    "integral of the twists is the path. It is judged by open-loop rollouts from recorded starts: "
    "it never sees a later state. The structured model is a car's physics with small networks "
    "before and after it, the direct model a network alone.",
    "Baseline and method differ in one thing: the loss of a batch is the mean over its "
    "trajectories, or the mean over the worst fifth of them (CVaR 0.2; annealed, scaled to the "
    "size of the mean). Same networks at the start, same batches, same number of steps, the same "
    "rule for the kept model: least open-loop error on validation trajectories.",
    "Declared before it ran: the tail is better if the 95 % interval of the paired ratio of CVaR20 "
    "lies below 1, at a mean ratio of at most 1.10.",
)


def study_records(
    config: CarConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all cells that have ended, one per test set, and the report's specification."""
    cells = plan_cells(config)
    ended = [c for c in cells if store.has_ended(c)]
    common = {"study": "car", "preset": preset, "command": command}
    records = [record for cell in ended for record in _records(cell, store, common)]
    return records, _specification(config, records)


def _records(cell: Cell, store: Store, common: dict[str, Any]) -> list[Record]:
    folder = store.folder(cell)
    status, result = folder.status(), folder.read("result.json") or {}
    together = result.get("together", 1)
    origin = record_origin(cell, store) | {"parent": None}
    notes = [status["error"]] if status.get("error") else []
    if together > 1:
        notes.append(f"{together} runs in one program: seconds are the program's over {together}")
    tests = result.get("tests") or {str(cell.axes["data"]): {}}
    return [
        Record(
            metrics=_metrics(found),
            # The hold-out is another file for each seed: its rollouts are not those of other seeds.
            per_start_returns=(() if name.startswith(HOLD_OUT) else tuple(found.get("ate_m", ()))),
            curve=_curve(folder.metrics, together) if i == 0 else (),
            frames=None,
            epochs=None,
            notes=tuple(notes) if i == 0 else (),
            **(origin | {"axes": {"data": name}} | ({} if i == 0 else {"seconds": 0.0})),
            **common,
        )
        for i, (name, found) in enumerate(tests.items())
    ]


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a test set; a rollout that diverged makes means infinite, which is shown so."""
    if not found:
        return {}
    errors = np.array([np.inf if x is None else x for x in found["ate_m"]], float)
    numbers = {
        "ate_cvar20": cvar(errors),
        "ate_mean": float(errors.mean()),
        "ate_median": float(np.median(errors)),
        "ate_p95": float(np.quantile(errors, 0.95)),
        "ate_max": float(errors.max()),
        "traj_state_mse": found.get("traj_state_mse"),
        **_at_horizons(found),
    }
    return {n: None if x is None or not np.isfinite(x) else round(x, 6) for n, x in numbers.items()}


def _at_horizons(found: dict[str, Any]) -> dict[str, Any]:
    """Errors of position at each horizon, and of the twist up to each, over the rollouts."""
    numbers = {f"fde{at}": found.get(f"fde_m{at}") for at in HORIZONS_S.values() if at}
    for name in ("rmse_vx", "rmse_vy", "rmse_w"):
        numbers |= {f"{name}{at}": found.get(f"{name}{at}") for at in HORIZONS_S.values()}
    return numbers


def _curve(path: Any, together: int) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "frames": None,
            "seconds": round(row["seconds"] / together, 3),
            "ate_mean": row.get("val/loss"),
            "ate_cvar20": row.get("val_cvar20"),
        }
        for row in read_rows(path)
        if row.get("val/loss") is not None
    )


def _specification(config: CarConfig, records: Sequence[Record]) -> StudyReport:
    real = config.real
    contexts = [c for c in real.contexts if c.removesuffix("_context") in real.arms]
    used = {*config.arms, *real.arms, *contexts} if real.arms else {*config.arms}
    named = [name for name in ARMS if name in used]
    arms = tuple(Arm(n, ARMS[n].title, ARMS[n].description, ARMS[n].role) for n in named)
    compared = pairs(config.arms)
    controls = [("structured_cvar0p2", c) for c in CONTROLS if c in named]
    comparisons = [Comparison(a, b) for a, b in compared]
    comparisons += [Comparison(a, b) for a, b in controls if a in named]
    limits = ("All runs share one set of test rollouts; intervals draw rollouts as well as seeds.",)
    return StudyReport(
        study="car",
        title=f"Dynamics of a 1/10 car ({config.simulated.set}): CVaR against the mean",
        primary_metric="ate_cvar20",
        raw_metric="ate_mean",
        metrics=METRICS,
        arms=arms,
        comparisons=tuple(comparisons),
        primary_axes={"data": config.simulated.set},
        axis_titles={"data": "Test set"},
        seeds=config.seeds,
        expected=_expected(config, records),
        panels=_panels(config, records),
        description=DESCRIPTION,
        limits=limits,
        **_tails(config, compared, controls),
    )


def _expected(config: CarConfig, records: Sequence[Record]) -> dict[str, tuple[int, ...]]:
    """Seeds of each arm and test set: the real car has as many as folds, some arms have one."""
    tests: dict[str, dict[str, None]] = {}
    for record in records:
        tests.setdefault(record.arm, {})[str(record.axes["data"])] = None
    own = {config.simulated.set, *config.simulated.shifts}
    seeds: dict[str, list[int]] = {}
    for cell in plan_cells(config):
        real = cell.axes["data"] == "dart"
        for name in tests.get(cell.arm, ()):
            if (name not in own) == real:
                label = cell.arm + axes_suffix({"data": name}, {"data": config.simulated.set})
                seeds.setdefault(label, []).append(cell.seed)
    return {name: tuple(s) for name, s in seeds.items() if tuple(s) != config.seeds}


def _panels(config: CarConfig, records: Sequence[Record]) -> tuple[Panel, ...]:
    """Errors of position and twist at every horizon, for each test set."""
    names = dict.fromkeys(str(r.axes["data"]) for r in records)
    # The long rollouts of a group say all that its short ones do, and the last horizon.
    shown = [n for n in names if f"{n}, 5 s" not in names and n not in config.simulated.shifts]
    return tuple(
        Panel(f"{title}, {name}", {"data": name}, _by_horizon(metrics, title))
        for name in shown
        for title, metrics in PANELS.items()
    )


def _by_horizon(metrics: Mapping[str, str], title: str) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{name}{suffix}", title, f"{heading}{horizon:g} s", higher_is_better=False)
        for name, heading in metrics.items()
        for horizon, suffix in HORIZONS_S.items()
        if horizon is not None
    )


def _tails(
    config: CarConfig, compared: Sequence[tuple[str, str]], controls: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The comparisons of tails, which give the verdict."""
    tails = [TailComparison(a, b, title=ARMS[b].title) for a, b in compared]
    tails += [
        TailComparison(a, b, title=f"against {ARMS[b].title}", declared=False) for a, b in controls
    ]
    frontier = tuple(name for name in FRONTIER if name in config.arms)
    return {
        "tails": tuple(tails),
        "item": "rollouts",
        "item_heading": "Mean position error of a rollout, m",
        "frontier": frontier if len(frontier) > 2 else (),
        "controls": tuple(b for _, b in controls),
    }


__all__ = ["METRICS", "study_records"]
