"""What the study refuses before any work starts; each error says what to do."""

import dataclasses
import sys
from pathlib import Path

from steelyard.envs.registry import env_spec
from steelyard.studies.offline2online.arms import ARMS, OffOnArm
from steelyard.studies.offline2online.config import Offline2OnlineConfig, Part
from steelyard.studies.parts import check_parts, check_runs
from steelyard.training.operator_demonstrations import find_regime

MOST_NORMALISED_ALPHA = 1_000


def check(config: Offline2OnlineConfig) -> None:
    """Check a config.

    Raises:
        ValueError: A rule is broken; the message names the rule, the value and the legal ones.
    """
    parts = config.parts()
    check_parts(parts, ARMS, check_part)
    for task, part in parts.items():
        for name in part.arms:
            for remark in remarks(part, ARMS[name]):
                print(f"note: {task}, {name}: {remark}", file=sys.stderr)


def check_part(part: Part) -> None:
    """Check a part.

    Raises:
        ValueError: As :func:`check`.
    """
    check_runs(part)
    if part.eval_episodes < 2:
        raise ValueError(f"eval_episodes must be at least 2, got {part.eval_episodes}")
    if part.online.online_steps < 1 or part.offline_steps < 1:
        raise ValueError(
            "offline_steps and online_steps must be at least 1, got "
            f"{part.offline_steps} and {part.online.online_steps}"
        )
    if (part.regime is None) == (part.dataset is None):
        raise ValueError(
            "data are those of a regime or a dataset, one of the two, got "
            f"regime={part.regime!r}, dataset={part.dataset!r}. A dataset of your own is "
            "`--custom.dataset PATH`"
        )
    env_spec(part.env)
    if part.regime is not None:
        find_regime(part.regime, part.env)
    elif part.dataset is not None and not Path(part.dataset).exists():
        raise ValueError(missing_dataset(Path(part.dataset), part.env))


def missing_dataset(path: Path, env: str) -> str:
    """What to do about a dataset that is not there."""
    kind, _, task = env.partition("/")
    family = kind if kind in ("ogbench", "robosuite") else "operators"
    return (
        f"{path} does not exist. Make one with `steelyard data generate {family} {task or env}`, "
        "or fetch the published one yourself and pass its path; nothing is downloaded"
    )


def remarks(part: Part, arm: OffOnArm) -> list[str]:
    """What is worth saying of an arm's settings, though they are legal."""
    agent, found = dataclasses.replace(part.agent, **arm.agent), []
    ranks = [e for e in (arm.online.critic, arm.online.actor) if e.weighting == "rank"]
    if any(emphasis.power == 0.0 for emphasis in ranks):
        found.append("rank of power 0 is the uniform sampler")
    if agent.normalize_q_loss and agent.alpha >= MOST_NORMALISED_ALPHA:
        found.append(
            f"alpha {agent.alpha:g} with normalize_q_loss clones the data and little else; "
            "alpha / |Q| of a run without it is the same setting"
        )
    human = part.env.startswith("robosuite/") and part.dataset is not None
    if human and agent.alpha <= 100 and not agent.normalize_q_loss:
        found.append(
            f"alpha {agent.alpha:g} on robomimic data is the reference's slip; the code that it "
            "stands on takes 10000"
        )
    balanced = "balanced" in (arm.offline.weighting, arm.online.actor.weighting)
    if balanced and part.env.startswith("ogbench/") and part.cluster.segment is None:
        found.append(
            "play data hold many goals in a trajectory, of which one label says little: "
            "--unit segment, or cluster.segment 50"
        )
    return found
