"""What the assembly study measured: records with scores, and how to tell them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport
from steelyard.studies.assembly.arms import ARMS, BASE
from steelyard.studies.assembly.config import AssemblyConfig
from steelyard.studies.assembly.plan import plan_cells
from steelyard.studies.cells import Cell, Store
from steelyard.studies.parts import expected_seeds, many_comparisons, record_origin, task_panels
from steelyard.training.episode_window import WINDOW
from steelyard.training.metrics import read_rows

THRESHOLDS = (80, 90, 95)
TRAINED = "charts/success_rate"
SHARES = ("simulation", "base", "policy", "emphasis", "update")

METRICS = (
    Metric(
        "success",
        "success",
        "Success",
        "share of fixed start states, one episode each, in which the deterministic policy succeeds",
    ),
    *(
        Metric(
            f"steps_to_{t}",
            f"steps to {t} %",
            f"Steps to {t} %",
            f"environment steps until {t} % of the last {WINDOW} training episodes succeeded; a "
            "run that never got there counts with its whole budget",
            decimals=0,
            higher_is_better=False,
        )
        for t in THRESHOLDS
    ),
    Metric(
        "area",
        "mean success in training",
        "Area",
        "mean over training of the success of training episodes: the area under the curve",
    ),
    Metric(
        "steps_to_success",
        "steps to success",
        "Length",
        "mean length of the successful episodes, steps",
        decimals=1,
        higher_is_better=False,
    ),
    Metric(
        "success_at_equal_seconds",
        "success at equal seconds",
        "At equal s",
        "success of training episodes when the fastest arm of the same seed had ended; seconds are "
        "of a machine that did other work too",
    ),
)

EMPHASIS = (
    Metric("cupid/ess_share", "", "Effective share of items"),
    Metric("cupid/touched_share", "", "Share touched"),
    Metric("cupid/max_weight", "", "Largest weight", decimals=1),
    Metric("cupid/score_abs_advantage_corr", "", "Corr. with |A|"),
    Metric("cupid/negative_share", "", "Negative scores"),
)
SPEED = (
    Metric("training/SPS", "", "Steps/s of a run", decimals=0),
    *(Metric(f"training/share_{name}", "", f"{name.capitalize()}") for name in SHARES),
)

DESCRIPTION = (
    "A base policy is frozen: on the plane a rule that misreads the hole, on the table a policy "
    "cloned from imperfect demonstrations, which plans chunks of actions. A small residual policy, "
    "learned by PPO from sparse success, corrects every step. The arms differ in one thing: how "
    "much each item of a rollout counts in the updates.",
    "A seed is one whole pipeline: its own demonstrations, base and environments (on the plane the "
    "base is one rule for all); all arms of a seed share its base, its environments' start states "
    "and the residual's initial networks. "
    "The last policy is scored, on start states that no training has seen.",
)


def study_records(
    config: AssemblyConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all cells that have ended, and the report's specification."""
    cells = plan_cells(config)
    ended = [c for c in cells if store.has_ended(c)]
    rows = {c.id: _training_rows(c, store) for c in ended}
    limits = _least_seconds(ended, rows, store)
    common = {"study": "assembly", "preset": preset, "command": command}
    records = [_record(c, store, rows[c.id], limits, common) for c in ended]
    return records, _specification(config)


def _training_rows(cell: Cell, store: Store) -> list[dict[str, Any]]:
    """An iteration a row, of a run that ended well; seconds are its own share of its group's."""
    if not store.is_done(cell):
        return []
    together = (store.folder(cell).read("result.json") or {}).get("together", 1)
    rows = [r for r in read_rows(store.folder(cell).metrics) if r.get(TRAINED) is not None]
    return [{**row, "seconds": row["seconds"] / together} for row in rows]


def _least_seconds(
    cells: Sequence[Cell], rows: Mapping[str, list], store: Store
) -> dict[tuple, float]:
    """By task and seed: when the first arm had ended, where all arms ran on one machine."""
    least: dict[tuple, float] = {}
    machines: dict[tuple, set] = {}
    for cell in cells:
        if rows[cell.id]:
            key = (cell.axes["task"], cell.seed)
            result = store.folder(cell).read("result.json") or {}
            machines.setdefault(key, set()).add(result.get("hardware"))
            least[key] = min(least.get(key, np.inf), rows[cell.id][-1]["seconds"])
    return {key: seconds for key, seconds in least.items() if len(machines[key]) == 1}


def _record(
    cell: Cell,
    store: Store,
    rows: list[dict[str, Any]],
    least: Mapping[tuple, float],
    common: dict[str, Any],
) -> Record:
    folder = store.folder(cell)
    status, result = folder.status(), folder.read("result.json") or {}
    together = result.get("together", 1)
    notes = list(result.get("notes", []))
    if status.get("error"):
        notes.append(status["error"])
    if together > 1:
        notes.append(
            f"{together} seeds trained together: seconds are the group's wall time over {together}"
        )
    success, first_end = result.get("success", []), least.get((cell.axes["task"], cell.seed))
    return Record(
        metrics=_metrics(result) | learning_metrics(rows, first_end),
        per_start_returns=tuple(success),
        curve=tuple(_point(row) for row in _thinned(rows)),
        frames=result.get("frames"),
        epochs=None,
        notes=tuple(notes),
        **record_origin(cell, store),
        **common,
    )


def _metrics(result: dict[str, Any]) -> dict[str, Any]:
    """Numbers of the final evaluation."""
    success = np.asarray(result.get("success", []), bool)
    if not len(success):
        return {}
    length = np.asarray(result["length"])[success]
    mean = round(float(length.mean()), 3) if len(length) else None
    return {"success": float(success.mean()), "steps_to_success": mean}


def learning_metrics(rows: list[dict[str, Any]], seconds: float | None) -> dict[str, Any]:
    """Numbers of how a run learned.

    Args:
        rows: Its iterations, ``seconds`` its own.
        seconds: When the first arm of its task and seed had ended; none where they ran on several
            machines.
    """
    if not rows:
        return {}
    rates = np.array([row[TRAINED] for row in rows])
    steps = np.array([row["step"] for row in rows])
    # A window that is not full tells of the first episodes to end, which are the short ones.
    full = np.array([row["charts/episodes"] for row in rows]) >= WINDOW
    found: dict[str, Any] = {"area": round(float(rates.mean()), 4)}
    for threshold in THRESHOLDS:
        reached = np.flatnonzero(full & (rates >= threshold / 100 - 1e-9))
        found[f"steps_to_{threshold}"] = int(steps[reached[0]] if len(reached) else steps[-1])
    if seconds is not None:
        before = [row for row in rows if row["seconds"] <= seconds]
        found["success_at_equal_seconds"] = (before or rows)[-1][TRAINED]
    # Medians: the first iterations compile, and a machine has busy moments.
    for name in (m.name for m in (*EMPHASIS, *SPEED)):
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            found[name] = round(float(np.median(values)), 4)
    return found


def _thinned(rows: list[dict[str, Any]], most: int = 40) -> list[dict[str, Any]]:
    """Few enough points for a curve; the last is kept."""
    every = -(-len(rows) // most) or 1
    return rows[::-1][::every][::-1]


def _point(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "frames": row["step"],
        "seconds": round(row["seconds"], 2),
        "success": round(row[TRAINED], 4),
    }


def _specification(config: AssemblyConfig) -> StudyReport:
    parts = config.parts()
    tasks = list(parts)
    used = dict.fromkeys(name for part in parts.values() for name in part.arms)
    arms = [Arm("base", BASE.title, BASE.description, BASE.role)]
    arms += [Arm(n, ARMS[n].title, ARMS[n].description, ARMS[n].role) for n in ARMS if n in used]
    wanted = [("uniform", "base"), *((name, "uniform") for name in used if name != "uniform")]
    pairs = (("gradnorm", "uniform-quarter"), ("iif", "random-drop"))
    wanted += [(a, b) for a, b in pairs if {a, b} <= set(used)]
    comparisons = [Comparison(a, b) for a, b in wanted if {a, b} <= {*used, "base"}]
    seeds = max((part.seeds for part in parts.values()), key=len)
    return StudyReport(
        study="assembly",
        title="Residual PPO on frozen policies: does it help to weigh its items?",
        primary_metric="success",
        raw_metric="steps_to_90",
        metrics=METRICS,
        arms=tuple(arms),
        comparisons=tuple(comparisons),
        primary_axes={"task": tasks[0]},
        axis_titles={"task": "Task"},
        lines=(Line(1, "every episode"),),
        seeds=seeds,
        expected=expected_seeds(parts, seeds, tuple(used), ("base",)),
        also_compared=("steps_to_90", "area"),
        description=DESCRIPTION,
        limits=_limits(len(comparisons)),
        panels=task_panels(
            tasks,
            (
                ("Emphasis, medians over training", EMPHASIS),
                ("Speed, and where the time of an iteration went, medians", SPEED),
            ),
        ),
    )


def _limits(comparisons: int) -> tuple[str, ...]:
    return (
        many_comparisons(comparisons),
        "Curves show the success of training episodes, with exploration noise: the share of the "
        f"last {WINDOW}. Bars show that of the deterministic policy at the end.",
        "All runs share one set of start states: intervals are over seeds, and on the plane, whose "
        "base is one rule, the base's is one measurement repeated.",
        "The settings of the learner were chosen on other seeds with uniform items; no arm was "
        "tuned by itself.",
    )
