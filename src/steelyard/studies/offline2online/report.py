"""What the study measured: records with scores, and how to tell them."""

from typing import Any

import numpy as np

from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport
from steelyard.reports.spec import CurveSet
from steelyard.studies.cells import Cell, Store
from steelyard.studies.offline2online.arms import ARMS
from steelyard.studies.offline2online.config import Offline2OnlineConfig
from steelyard.studies.offline2online.plan import DATA, OFFLINE, STUDY, plan_cells
from steelyard.studies.parts import (
    expected_seeds,
    many_comparisons,
    record_origin,
    run_notes,
    task_panels,
)
from steelyard.training.metrics import read_rows
from steelyard.training.trajectory_metrics import PREFIX

SUCCESS = "eval/success_rate"
HALF = 0.5

METRICS = (
    Metric(
        "success",
        "success",
        "Success",
        "share of fixed start states, one episode each, in which the policy succeeds at the end",
    ),
    Metric(
        "offline_success",
        "success after the offline phase",
        "Offline",
        "the same before the first online step: what the choice of draws did to offline learning",
    ),
    Metric(
        "online_area",
        "mean success online",
        "Online area",
        "area under success over the online phase, divided by its length",
    ),
    Metric(
        "steps_to_half",
        "steps to 50 %",
        "Steps to 50 %",
        "online steps until half of the starts succeed, at evaluations; a run that never got there "
        "counts with its whole budget",
        decimals=0,
        higher_is_better=False,
    ),
    Metric(
        "length",
        "steps of an episode",
        "Length",
        "mean steps of the evaluation's episodes",
        decimals=1,
        higher_is_better=False,
    ),
)
DRAWN = (
    Metric(f"{PREFIX}online_share", "", "Online share"),
    Metric(f"{PREFIX}success_traj_ratio", "", "From successes"),
    Metric(f"{PREFIX}ess", "", "Effective trajectories", decimals=0),
    Metric(f"{PREFIX}touched_share", "", "Touched"),
    Metric(f"{PREFIX}correction_max", "", "Largest correction", decimals=2),
    Metric(f"{PREFIX}score_td_correlation", "", "Score and error, corr."),
)
LEARNED = (
    Metric("online_agent/q_mean", "", "Q", decimals=1),
    Metric("online_agent/td_error_abs_mean", "", "|TD error|"),
    Metric("online_agent/bc_flow_loss", "", "Flow loss"),
    Metric("online_agent/distill_loss", "", "Distillation"),
    Metric("updates_per_s", "", "Updates/s of a group", decimals=0),
)

CURVES = {
    "ClusterSampling.png": ("Cluster-balanced sampling", ("acfql", "cluster", "cluster_kept")),
    "TDerrorSampling.png": ("Trajectory priorities", ("acfql", "tper", "symmetric")),
    "TDError+Cluster.png": ("Both", ("acfql", "cluster", "tper", "full")),
}
"""Figures under the reference's names, and their arms."""

DESCRIPTION = (
    "A policy is learned offline from demonstrations of uneven operators, then goes on learning "
    "online with the same update, flow Q-learning over action chunks. Reward is -1 a step and 0 at "
    "success. The arms differ in one thing: from which trajectories batches are drawn, offline and "
    "online, for the critic and for the policy.",
    "A seed is one whole pipeline: its own demonstrations, networks and environments. Arms of a "
    "seed share the demonstrations, an offline phase where they draw alike in it, the start states "
    "of their environments and all random keys.",
)


def study_records(
    config: Offline2OnlineConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all online phases that have ended, and the report's specification."""
    cells = [c for c in plan_cells(config) if c.arm != DATA and not c.arm.startswith(OFFLINE)]
    ended = [c for c in cells if store.has_ended(c)]
    common = {"study": STUDY, "preset": preset, "command": command}
    return [_record(cell, store, common) for cell in ended], _specification(config)


def _record(cell: Cell, store: Store, common: dict[str, Any]) -> Record:
    folder, offline = store.folder(cell), cell.parent
    assert offline is not None, "an online phase continues an offline one"
    status, result = folder.status(), folder.read("result.json") or {}
    before = store.folder(offline).read("result.json") or {}
    together = result.get("together", 1)
    rows = read_rows(folder.metrics) if status["state"] == "done" else []
    start = {"frames": 0, "seconds": 0.0, "success": float(np.mean(before.get("success", [0.0])))}
    curve = [start] + [_point(row, together) for row in rows if row.get(SUCCESS) is not None]
    return Record(
        metrics=_metrics(result, before, curve, rows),
        per_start_returns=tuple(result.get("success", ())),
        curve=tuple(curve) if rows else (),
        frames=result.get("frames"),
        epochs=None,
        notes=tuple(run_notes(cell, store)),
        **record_origin(cell, store),
        **common,
    )


def _point(row: dict[str, Any], together: int) -> dict[str, Any]:
    return {
        "frames": row["step"],
        "seconds": round(row["seconds"] / together, 2),
        "success": round(row[SUCCESS], 4),
    }


def _metrics(
    result: dict[str, Any],
    before: dict[str, Any],
    curve: list[dict[str, Any]],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    if not rows or "success" not in result:
        return {}
    steps = np.array([point["frames"] for point in curve], float)
    rates = np.array([point["success"] for point in curve])
    reached = np.flatnonzero(rates >= HALF)
    found: dict[str, Any] = {
        "success": float(np.mean(result["success"])),
        "offline_success": float(np.mean(before["success"])),
        "online_area": round(float(np.trapezoid(rates, steps) / steps[-1]), 4),
        "steps_to_half": int(steps[reached[0]] if len(reached) else steps[-1]),
        "length": round(float(np.mean(result["length"])), 2),
    }
    for name in (m.name for m in (*DRAWN, *LEARNED)):
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            found[name] = round(float(np.mean(values)), 4)
    return found


def _specification(config: Offline2OnlineConfig) -> StudyReport:
    parts = config.parts()
    tasks = list(parts)
    used = list(dict.fromkeys(name for part in parts.values() for name in part.arms))
    arms = [Arm(n, ARMS[n].title, ARMS[n].description, ARMS[n].role) for n in ARMS if n in used]
    wanted = [(name, "acfql") for name in used if name != "acfql"]
    pairs = [(name, ARMS[name].parent) for name in used if ARMS[name].parent not in (None, "acfql")]
    wanted += [(a, b) for a, b in pairs if b is not None]
    wanted += [("tper", "symmetric"), ("full", "cluster_kept"), ("full", "tper")]
    comparisons = [Comparison(*pair) for pair in dict.fromkeys(wanted) if set(pair) <= set(used)]
    seeds = max((part.seeds for part in parts.values()), key=len)
    return StudyReport(
        study=STUDY,
        title="From uneven demonstrations to online learning: which trajectories to draw?",
        primary_metric="success",
        raw_metric="length",
        metrics=METRICS,
        arms=tuple(arms),
        comparisons=tuple(comparisons),
        primary_axes={"task": tasks[0]},
        axis_titles={"task": "Task"},
        lines=(Line(1, "every episode"),),
        seeds=seeds,
        expected=expected_seeds(parts, seeds, used),
        also_compared=("offline_success", "online_area"),
        description=DESCRIPTION,
        limits=_limits(len(comparisons)),
        curve_sets=tuple(
            CurveSet(name, title, tuple(arm for arm in own if arm in used))
            for name, (title, own) in CURVES.items()
            if "acfql" in used and len(set(own) & set(used)) > 1
        ),
        panels=task_panels(
            tasks,
            (
                ("What the critic's batches held, means over the online phase", DRAWN),
                ("Learning online, means", LEARNED),
            ),
        ),
    )


def _limits(comparisons: int) -> tuple[str, ...]:
    return (
        many_comparisons(comparisons),
        "Declared before the runs: success after the offline phase for what is drawn there, mean "
        "success online for what is drawn online. Six pairs can reach p = 0.03 at best.",
        "Demonstrations are scripted: nothing here may be compared with results on human ones.",
        "The learner's settings were chosen on other seeds, with uniform draws; no arm was tuned "
        "by itself.",
    )
