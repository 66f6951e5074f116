"""What the imitation study measured: records with scores, and how to tell them."""

import functools
from typing import Any

import numpy as np

from steelyard.envs.pendulum import pendulum_optimum_returns
from steelyard.envs.registry import make_env
from steelyard.envs.seeding import evaluation_seeds
from steelyard.reports import Arm, Comparison, Line, Metric, Record, StudyReport
from steelyard.studies.cells import Cell, Store
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.studies.imitation.plan import plan_cells
from steelyard.studies.imitation.scores import Scale, make_scale
from steelyard.studies.imitation.sources import shared_dataset
from steelyard.studies.parts import record_origin
from steelyard.training.metrics import read_rows

METRICS = (
    Metric(
        "score",
        "score",
        "vs Expert",
        "(R − R_random) / (R_expert − R_random), against the same seed's expert on the same start "
        "states: 0 is the random policy, 1 the expert.",
    ),
    Metric(
        "return",
        "return",
        "Reward",
        "Mean undiscounted return of the deterministic policy over the fixed start states.",
        decimals=1,
    ),
    Metric(
        "gap_to_optimum",
        "gap to the optimum",
        "Gap to optimum",
        "What the best possible policy earns on the same start states, minus the return.",
        decimals=1,
        higher_is_better=False,
    ),
    Metric(
        "share_of_evaluations_below_0.9",
        "share of late evaluations below 0.9",
        "Late dips",
        "Share of evaluations in the second half of training with a score below 0.9.",
        higher_is_better=False,
    ),
    Metric(
        "reward_alignment/pearson",
        "correlation with the task's reward",
        "Reward corr.",
        "Correlation of the learned reward with the task's on demonstrations and random play. "
        "Matching occupancies fixes the policy, not the reward, so it need not be high.",
    ),
)

ARMS = (
    Arm("random", "Random", "uniform random actions", "anchor"),
    Arm("expert", "SAC expert", "soft actor-critic on the task's reward", "anchor"),
    Arm("bc", "BC", "behaviour cloning: regression on the demonstrated actions", "baseline"),
    Arm("ipmd", "IPMD", "inverse RL: learns a reward and a policy, never sees the task's reward"),
    Arm(
        "ipmd_frozen_reward",
        "IPMD, reward not trained",
        "control: the reward network stays as it was drawn",
        "control",
    ),
    Arm(
        "sac_same_budget",
        "SAC, IPMD's frames",
        "upper anchor: soft actor-critic on the task's reward with as many frames as IPMD; the "
        "expert's own run, stopped there",
        "control",
    ),
)

DESCRIPTION = (
    "A SAC expert is trained on the task and its deterministic episodes are kept as "
    "demonstrations. Two imitators see these and never the task's reward: BC regresses the "
    "actions offline, IPMD "
    "learns a reward and, in the same loop, a policy for it.",
    "A seed is one whole pipeline: its own expert, its own demonstrations, its own imitators. All "
    "policies are scored on the same fixed start states, one episode each. The last checkpoint is "
    "scored (BC: that of least validation loss); nothing is chosen by return.",
)


def study_records(
    config: ImitationConfig, store: Store, preset: str, command: str
) -> tuple[list[Record], StudyReport]:
    """Records of all cells that have ended, and the report's specification.

    Args:
        config: Resolved config.
        store: Where the runs are.
        preset: Name under which they are reported.
        command: What the user typed.
    """
    dataset = shared_dataset(config, store)
    cells = plan_cells(config, None if dataset is None else dataset.sha256)
    ended = [c for c in cells if store.has_ended(c)]
    results = {c.id: store.folder(c).read("result.json") or {} for c in ended}
    returns = {(c.arm, c.seed): results[c.id].get("per_start_returns") for c in ended}
    if dataset is not None and dataset.rewards is not None:
        returns |= {("expert", seed): dataset.returns().tolist() for seed in config.seeds}
    anchors = {s: [returns.get((arm, s)) for arm in ("random", "expert")] for s in config.seeds}
    scales = {seed: make_scale(seed, *pair) for seed, pair in anchors.items()}
    optimum = optimal_return(config.env, config.eval_episodes)
    if config.env != ImitationConfig.env:
        preset = f"{preset}-{config.env}"
    common = {"study": "imitation", "preset": preset, "command": command}
    records = [_record(c, results[c.id], store, scales[c.seed], optimum, common) for c in ended]
    return records, _specification(config, dataset is not None)


def _record(
    cell: Cell,
    result: dict[str, Any],
    store: Store,
    scale: Scale | str,
    optimum: float | None,
    common: dict[str, Any],
) -> Record:
    folder = store.folder(cell)
    status = folder.status()
    score = scale if isinstance(scale, Scale) else lambda _: None
    notes = [] if isinstance(scale, Scale) else [scale]
    if status.get("error"):
        notes.append(status["error"])
    together = result.get("together", 1)
    if together > 1:
        notes.append(
            f"{together} seeds trained together: seconds are the group's wall time over {together}"
        )
    per_start = result.get("per_start_returns", [])
    value = float(np.mean(per_start)) if per_start else None
    origin = record_origin(cell, store)
    online = "frames" in result
    curve = [
        {
            "frames": row["step"] if online else None,
            "seconds": round(row["seconds"] / together, 3),
            "return": row["eval/reward_mean"],
            "score": score(row["eval/reward_mean"]),
        }
        for row in read_rows(folder.metrics)
        if row.get("eval/reward_mean") is not None
    ]
    late = [p["score"] for p in curve[len(curve) // 2 :] if p["score"] is not None]
    if not curve and value is not None:
        curve = [
            {"frames": None, "seconds": origin["seconds"], "return": value, "score": score(value)}
        ]
    values = {"score": score(value), "return": value, **result.get("metrics", {})}
    if optimum is not None and value is not None:
        values["gap_to_optimum"] = optimum - value
    if online and late:
        values["share_of_evaluations_below_0.9"] = float(np.mean(np.asarray(late) < 0.9))
    return Record(
        metrics=values,
        per_start_returns=tuple(round(x, 3) for x in per_start),
        curve=tuple(curve) if cell.arm != "random" else (),
        frames=result.get("frames"),
        epochs=result.get("epochs"),
        notes=tuple(notes),
        **origin,
        **common,
    )


@functools.cache
def optimal_return(env: str, episodes: int) -> float | None:
    """Mean return of the optimal policy on the evaluation starts, where it is known."""
    if env != "Pendulum-v1":
        return None
    starts = make_env(env, evaluation_seeds(episodes)).reset()
    return float(np.mean(pendulum_optimum_returns(starts)))


def _specification(config: ImitationConfig, shared: bool) -> StudyReport:
    known = config.env == "Pendulum-v1"
    metrics = tuple(m for m in METRICS if known or m.name != "gap_to_optimum")
    anchors = {"random", "expert"}
    arms = tuple(a for a in ARMS if a.name in {*config.arms, *anchors})
    limits = []
    if shared:
        limits.append(
            "All seeds share one set of demonstrations: the intervals are conditional on it, and "
            "1 on the score is its mean return, not an expert's on the same start states."
        )
    if config.bc.emphasis.score == "episode_return":
        limits.append(
            "BC is not reward-free here: its demonstrations are weighted by their return."
        )
    names = {arm.name for arm in arms}
    wanted = (("ipmd", "bc"), ("ipmd", "ipmd_frozen_reward"), ("sac_same_budget", "ipmd"))
    return StudyReport(
        study="imitation",
        title=f"Imitation on {config.env}: inverse RL (IPMD) against behaviour cloning (BC)",
        primary_metric="score",
        raw_metric="return",
        metrics=metrics,
        arms=arms,
        comparisons=tuple(Comparison(a, b) for a, b in wanted if {a, b} <= names),
        primary_axes=dict(config.primary_axes),
        axis_titles={
            "demonstrations": "Demonstration episodes",
            "quality": "Quality of the demonstrations",
        },
        lines=(Line(0, "random"), Line(1, "expert")),
        seeds=config.seeds,
        description=DESCRIPTION,
        limits=tuple(limits),
    )
