"""What the study measured: records with scores, and how to tell them."""

from typing import Any

import numpy as np

from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport
from steelyard.studies.cells import Cell, Store
from steelyard.studies.parts import (
    expected_seeds,
    many_comparisons,
    record_origin,
    run_notes,
    task_panels,
)
from steelyard.studies.piano.arms import ARMS
from steelyard.studies.piano.config import PianoConfig
from steelyard.studies.piano.plan import STUDY, Base, Tuned, plan_cells
from steelyard.training.metrics import read_rows

METRICS = (
    Metric(
        "success",
        "success",
        "Success",
        "share of fixed start states, one episode each, in which the policy reaches the goal",
    ),
    Metric(
        "accepted_success",
        "success of the accepted policy",
        "Accepted",
        "the same, where a tuned policy that the judge likes less than its start is not taken",
    ),
    Metric(
        "win_rate",
        "win rate",
        "Win rate",
        "share of the start states on which the judge prefers the policy's episode to that of the "
        "pretrained one, ties half",
    ),
    Metric("return", "return", "Return", "mean return of the episodes", decimals=0),
)
LEARNED = (
    Metric("heldout/accuracy", "", "Held-out accuracy"),
    Metric("train/accuracy", "", "Accuracy"),
    Metric("train/preference_loss", "", "Preference loss"),
    Metric("heldout/preferred_logprobs_mean", "", "ℓ of winners"),
    Metric("train/distance_to_reference", "", "Distance"),
    Metric("train/grad_clipped_share", "", "Gradients cut"),
)

DESCRIPTION = (
    "A policy is pretrained on segments of uneven quality. A judge, here a synthetic one who goes "
    "by a segment's return, rates some of them from 1 to 5; ratings of the same part of an episode "
    "make pairs. Every arm starts from the pretrained policy and is told the same judgements; none "
    "may interact with the task.",
    "A seed is one whole pipeline: its own segments, judgements and networks. Arms of a seed share "
    "all of them.",
)


def study_records(
    config: PianoConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all arms that have ended, and the report's specification."""
    cells = [c for c in plan_cells(config) if isinstance(c.config, (Base, Tuned))]
    wanted = {name for part in config.parts().values() for name in part.arms}
    cells = [c for c in cells if c.arm in wanted]
    ended = [c for c in cells if store.has_ended(c)]
    common = {"study": STUDY, "preset": preset, "command": command}
    return [_record(cell, store, common) for cell in ended], _specification(config)


def _record(cell: Cell, store: Store, common: dict[str, Any]) -> Record:
    folder = store.folder(cell)
    result = folder.read("result.json") or {}
    rows = read_rows(folder.metrics) if folder.metrics.exists() else []
    return Record(
        metrics=_metrics(result, rows, told_of(cell)),
        per_start_returns=tuple(result.get("success", ())),
        curve=(),
        frames=None,
        epochs=None,
        notes=tuple(run_notes(cell, store)),
        **record_origin(cell, store),
        **common,
    )


def told_of(cell: Cell) -> tuple[str, ...]:
    """What is worth telling of an arm's learning: of a clone nothing but what was held out."""
    if not isinstance(cell.config, Tuned):
        return ()
    names = tuple(metric.name for metric in LEARNED)
    own = "train/" if cell.config.learner == "cpl" else "heldout/"
    return tuple(n for n in names if n.startswith((own, "heldout/")))


def _metrics(
    result: dict[str, Any], rows: list[dict[str, Any]], told: tuple[str, ...]
) -> dict[str, Any]:
    if "success" not in result:
        return {}
    found: dict[str, Any] = {
        "success": float(np.mean(result["success"])),
        "accepted_success": round(result["accepted_success"], 4),
        "win_rate": round(result["win_rate"], 4),
        "return": round(float(np.mean(result["returns"])), 2),
    }
    for name in told:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            found[name] = round(float(values[-1]), 4)
    return found


def _specification(config: PianoConfig) -> StudyReport:
    parts = config.parts()
    tasks = list(parts)
    used = list(dict.fromkeys(name for part in parts.values() for name in part.arms))
    arms = [Arm(n, ARMS[n].title, ARMS[n].description, ARMS[n].role) for n in ARMS if n in used]
    methods = [name for name in used if name.startswith("cpl")]
    wanted = [(name, "pretrained") for name in used if name != "pretrained"]
    wanted += [(name, other) for name in methods for other in ("rated_bc", "sft", "piql")]
    pairs = [(name, ARMS[name].parent) for name in methods if ARMS[name].parent != "pretrained"]
    wanted += [(a, b) for a, b in pairs if b is not None]
    comparisons = [Comparison(*pair) for pair in dict.fromkeys(wanted) if set(pair) <= set(used)]
    seeds = max((part.seeds for part in parts.values()), key=len)
    headline = [c for c in comparisons if (c.arm, c.baseline) == ("cpl", "pretrained")]
    rest = [c for c in comparisons if c not in headline]
    return StudyReport(
        study=STUDY,
        title="Learning from judgements: contrastive preferences against their baselines",
        primary_metric="success",
        raw_metric="return",
        metrics=METRICS,
        arms=tuple(arms),
        comparisons=(*headline, *rest),
        primary_axes={"task": tasks[0]},
        axis_titles={"task": "Task"},
        lines=(Line(1, "every episode"),),
        seeds=seeds,
        expected=expected_seeds(parts, seeds, used),
        also_compared=("win_rate",),
        description=DESCRIPTION,
        limits=(
            many_comparisons(len(comparisons)),
            "The judge is synthetic: it goes by the return of a segment and never errs unless told "
            "to. How people judge, and what they would like, is another matter.",
            "Settings were chosen on other seeds. The baselines that clone and P-IQL have step "
            "sizes of their own, chosen there, too.",
        ),
        panels=task_panels(tasks, (("Learning, at the end", LEARNED),)),
    )
