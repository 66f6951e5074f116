"""What the study measured: records with scores, and how to tell them."""

from typing import Any

import numpy as np

from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport
from steelyard.studies.cells import Cell, Store
from steelyard.studies.grid.arms import ARMS
from steelyard.studies.grid.config import GridConfig
from steelyard.studies.grid.plan import STUDY, UNIFORM, Data, plan_cells
from steelyard.studies.parts import (
    expected_seeds,
    many_comparisons,
    record_origin,
    run_notes,
    task_panels,
)

METRICS = (
    Metric(
        "success",
        "success",
        "Success",
        "share of fixed start states, one episode each, in which the policy reaches the goal",
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
FELT = (
    Metric("competent_share", "", "Of competent operators"),
    Metric("ess_share", "", "Effective share"),
    Metric("touched_share", "", "Episodes touched"),
    Metric("max_weight", "", "Largest ratio", decimals=1),
)
DESCRIPTION = (
    "160 episodes of operators of uneven skill, of whom those that fail visit the same states as "
    "those that succeed. Every arm learns from them with the same learner, number of steps and "
    "random keys, and differs from `uniform` in one thing: which episodes count how much. The "
    "ratio of an episode follows from a score and a weighting; scores that need a learner are made "
    "by the clone of uniform data.",
    "Influence is measured on a few good episodes that are kept apart. That is information which "
    "the other arms do not have; what these episodes are worth by themselves, the arm `reference` "
    "tells.",
    "A seed is one whole pipeline: its own episodes, scores and networks. Arms of a seed share all "
    "that is the same.",
)


def study_records(
    config: GridConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all arms that have ended, and the report's specification."""
    wanted = {(task, name) for task, part in config.parts().items() for name in part.arms}
    cells = [c for c in plan_cells(config) if not isinstance(c.config, Data)]
    cells = [c for c in cells if (c.axes["task"], c.arm) in wanted]
    ended = [c for c in cells if store.has_ended(c)]
    common = {"study": STUDY, "preset": preset, "command": command}
    return [_record(cell, store, common) for cell in ended], _specification(config)


def _record(cell: Cell, store: Store, common: dict[str, Any]) -> Record:
    result = store.folder(cell).read("result.json") or {}
    metrics: dict[str, Any] = {}
    if "success" in result:
        metrics = {
            "success": float(np.mean(result["success"])),
            "length": float(np.mean(result["length"])),
            **{name: round(value, 4) for name, value in result["emphasis"].items()},
        }
    return Record(
        metrics=metrics,
        per_start_returns=tuple(result.get("success", ())),
        curve=(),
        frames=None,
        epochs=None,
        notes=tuple(run_notes(cell, store)),
        **record_origin(cell, store),
        **common,
    )


def _specification(config: GridConfig) -> StudyReport:
    parts = config.parts()
    tasks = list(parts)
    used = [name for name in ARMS if any(name in part.arms for part in parts.values())]
    methods = [name for name in used if name != UNIFORM]
    comparisons = [Comparison(name, UNIFORM) for name in methods]
    pairs = (
        ("return_rank", "return_rank_losses"),
        ("return_rank", "random_rank"),
        ("influence_rank", "random_rank"),
        ("influence_tail", "reference"),
    )
    comparisons += [Comparison(*pair) for pair in pairs if set(pair) <= set(used)]
    seeds = max((part.seeds for part in parts.values()), key=len)
    return StudyReport(
        study=STUDY,
        title="The grid: which data to learn from",
        primary_metric="success",
        raw_metric="length",
        metrics=METRICS,
        arms=tuple(Arm(n, ARMS[n].title, ARMS[n].description, ARMS[n].role) for n in used),
        comparisons=tuple(comparisons),
        primary_axes={"task": tasks[0]},
        axis_titles={"task": "Task"},
        lines=(Line(1, "every episode"),),
        seeds=seeds,
        expected=expected_seeds(parts, seeds, used),
        description=DESCRIPTION,
        limits=(
            many_comparisons(len(comparisons)),
            "One task, one mixture of operators: which score wins is a property of the data. On "
            "data without failures the order may turn round.",
            "Sharpness was chosen on other seeds, by hand, for cloning; ACFQL takes it over.",
        ),
        panels=task_panels(tasks, (("What the emphasis did", FELT),)),
    )
