"""What the study refuses before any work starts; each error says what to do."""

from steelyard.studies.grid.arms import ARMS
from steelyard.studies.grid.config import GridConfig, Part
from steelyard.studies.parts import check_parts, check_runs
from steelyard.training.operator_demonstrations import find_regime


def check(config: GridConfig) -> None:
    """Check a config.

    Raises:
        ValueError: A rule is broken; the message names the rule, the value and the legal ones.
    """
    if config.clone.learner != "bc" or config.offline.learner != "acfql":
        raise ValueError("the part `clone` has the learner 'bc', and `offline` has 'acfql'")
    check_parts(config.parts(), ARMS, check_part)


def check_part(part: Part) -> None:
    """Check a part.

    Raises:
        ValueError: As :func:`check`.
    """
    check_runs(part)
    find_regime(part.regime, part.env)
    if "uniform" not in part.arms:
        raise ValueError("every arm is compared with `uniform`: add it to the arms")
    for name in part.arms:
        if part.learner == "acfql" and ARMS[name].emphasis.through == "losses":
            raise ValueError(
                f"{name} weights losses, and ACFQL feels an emphasis on episodes through its "
                "batches: leave the arm out"
            )
    if min(part.reference_episodes, part.clone_steps, part.agent_steps, part.eval_episodes) < 1:
        raise ValueError(
            "reference_episodes, clone_steps, agent_steps and eval_episodes are at least 1, got "
            f"{part.reference_episodes}, {part.clone_steps}, {part.agent_steps}, "
            f"{part.eval_episodes}"
        )
