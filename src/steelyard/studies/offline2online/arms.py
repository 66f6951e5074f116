"""The arms of the study: one learner, and which trajectories its batches are drawn from.

Each arm but the baseline names the arm that it departs from, its parent; controls depart from it in
one field.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from steelyard.emphasis.trajectory_draws import TrajectoryEmphasis
from steelyard.reports.spec import Role
from steelyard.training.online_rl_programs import DrawSettings, RunEmphasis

ClusterOnline = Literal["off", "own", "assign"]

UNIFORM = TrajectoryEmphasis()
BALANCED = TrajectoryEmphasis("balanced")
T_PER = TrajectoryEmphasis("rank", corrected=True)


@dataclasses.dataclass(frozen=True)
class OffOnArm:
    """One arm.

    Attributes:
        title: Its name for people.
        description: What is different in it.
        offline: What is drawn offline, for critic and policy.
        online: What is drawn online.
        cluster_online: Where new trajectories go: ``own`` is a cluster of theirs, ``assign`` the
            nearest. It matters only where clusters are balanced online.
        agent: Fields of the learner that differ.
        draws: What all its draws share.
        role: Its part in the comparison.
        parent: The arm it departs from.
    """

    title: str
    description: str
    offline: TrajectoryEmphasis = UNIFORM
    online: RunEmphasis = RunEmphasis()
    cluster_online: ClusterOnline = "own"
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    draws: DrawSettings = DrawSettings()
    role: Role = "method"
    parent: str | None = "acfql"


def _both(emphasis: TrajectoryEmphasis) -> RunEmphasis:
    return RunEmphasis(emphasis, emphasis)


def _ranked(**changes: Any) -> RunEmphasis:
    return RunEmphasis(critic=dataclasses.replace(T_PER, **changes))


ARMS: Mapping[str, OffOnArm] = {
    "acfql": OffOnArm(
        "ACFQL",
        "every start counts the same, offline and online",
        role="baseline",
        parent=None,
    ),
    "cluster": OffOnArm(
        "Cluster-balanced",
        "offline, clusters of trajectories are drawn alike; online, every start counts the same",
        offline=BALANCED,
    ),
    "tper": OffOnArm(
        "T-PER",
        "online, the critic's trajectories are drawn by the rank of their TD error, corrected",
        online=RunEmphasis(critic=T_PER),
    ),
    "full": OffOnArm(
        "Cluster-balanced + T-PER",
        "both; online the policy's draws keep the clusters' balance",
        offline=BALANCED,
        online=RunEmphasis(T_PER, BALANCED),
    ),
    "cluster_kept": OffOnArm(
        "Cluster-balanced, kept",
        "clusters are drawn alike offline and online, where new trajectories are one of their own",
        offline=BALANCED,
        online=_both(BALANCED),
        parent="cluster",
    ),
    "symmetric": OffOnArm(
        "Half offline, half online",
        "control: half of every online batch is offline data, whatever there is of each",
        online=_both(TrajectoryEmphasis("symmetric")),
        role="control",
    ),
    "symmetric_critic": OffOnArm(
        "Half and half, critic alone",
        "control: half of the critic's online batches is offline data, the policy's stay uniform",
        online=RunEmphasis(critic=TrajectoryEmphasis("symmetric")),
        role="control",
        parent="symmetric",
    ),
    "trajectory_uniform": OffOnArm(
        "Trajectories alike",
        "control: every trajectory counts the same, however long it is, online",
        online=_both(TrajectoryEmphasis("trajectories")),
        role="control",
    ),
    "success_balanced": OffOnArm(
        "Success-balanced, kept",
        "control: successes and failures take the place of clusters",
        offline=dataclasses.replace(BALANCED, labels="success"),
        online=_both(dataclasses.replace(BALANCED, labels="success")),
        role="control",
        parent="cluster_kept",
    ),
    "recency": OffOnArm(
        "Newest first",
        "control: the rank is that of age, not of TD error",
        online=_ranked(metric="recency"),
        role="control",
        parent="tper",
    ),
    "success_binary": OffOnArm(
        "Rank by success", "the rank is that of success", online=_ranked(metric="success_binary"),
        parent="tper",
    ),
    "avg_reward": OffOnArm(
        "Rank by mean reward", "the rank is that of the mean reward",
        online=_ranked(metric="avg_reward"), parent="tper",
    ),
    "tper_uncorrected": OffOnArm(
        "T-PER, uncorrected", "the same draws, their losses not weighted",
        online=_ranked(corrected=False), parent="tper",
    ),
    "tper_legacy": OffOnArm(
        "T-PER, the reference's scores",
        "control: each update scores one trajectory, by the mean of the whole batch",
        online=RunEmphasis(critic=T_PER),
        draws=DrawSettings(priority_update="legacy"),
        role="control",
        parent="tper",
    ),
    "full_shared": OffOnArm(
        "Cluster-balanced + T-PER, one batch",
        "the policy learns from the critic's batch, drawn by TD error",
        offline=BALANCED,
        online=RunEmphasis(T_PER, BALANCED),
        draws=DrawSettings(shared=True),
        parent="full",
    ),
    "tper_inverse": OffOnArm(
        "T-PER, the policy inversely",
        "the policy's trajectories are those of the lowest TD error",
        online=RunEmphasis(T_PER, dataclasses.replace(T_PER, inverse=True)),
        parent="tper",
    ),
    "backward": OffOnArm(
        "T-PER, backward",
        "trajectories are walked from their last start to their first",
        online=RunEmphasis(critic=T_PER),
        draws=DrawSettings(backward="walk"),
        parent="tper",
    ),
    "cluster_assigned": OffOnArm(
        "Cluster-balanced, assigned",
        "new trajectories go to the nearest cluster",
        offline=BALANCED,
        online=_both(BALANCED),
        cluster_online="assign",
        parent="cluster_kept",
    ),
    "weighted_target": OffOnArm(
        "Weighted target", "half of the target is the data's own next chunk",
        agent={"use_weighted_target": True},
    ),
    "qc": OffOnArm(
        "QC", "the best of several draws from the flow acts", agent={"actor_type": "best-of-n"},
    ),
    "acfql_k2": OffOnArm(
        "ACFQL, 2 critics, mean", "the reference's critics", agent={"num_qs": 2, "q_agg": "mean"},
    ),
    "acfql_k10": OffOnArm(
        "ACFQL, 10 critics, LCB", "today's critics", agent={"num_qs": 10, "q_agg": "lcb"},
    ),
    "fql_n": OffOnArm(
        "FQL-n", "single actions, returns over a chunk's steps", agent={"action_chunking": False},
    ),
}  # fmt: skip
"""By name."""

REFERENCE = ("acfql", "cluster", "tper", "full")
"""The reference's own four."""
PUBLISHED = (*REFERENCE, "cluster_kept", "symmetric")
"""The arms of `quick`."""
ALL = tuple(ARMS)
"""The arms of `full`."""
