"""What the study refuses before any work starts; each error says what to do."""

from steelyard.envs.registry import env_spec
from steelyard.studies.parts import check_parts, check_runs
from steelyard.studies.piano.arms import ARMS
from steelyard.studies.piano.config import Part, PianoConfig
from steelyard.studies.piano.plan import agent_of
from steelyard.training.segment_generation import check_scripted, generation_players

LEAST_RATINGS = 10


def check(config: PianoConfig) -> None:
    """Check a config.

    Raises:
        ValueError: A rule is broken; the message names the rule, the value and the legal ones.
    """
    check_parts(config.parts(), ARMS, check_part)


def check_part(part: Part) -> None:
    """Check a part.

    Raises:
        ValueError: As :func:`check`.
    """
    check_runs(part)
    env_spec(part.env)
    generation, checkpoints = part.generation, 0
    if generation.generator == "checkpoints":
        if part.sac is None or not part.sac.keep_policies:
            raise ValueError(
                "the generator 'checkpoints' plays those of SAC: give `sac` a run that keeps its "
                "policies, or use 'graded' or 'mixture'"
            )
        checkpoints = part.sac.loop.frames // (part.sac.loop.checkpoint_interval or 1)
    else:
        check_scripted(part.env)
    pieces = generation.episode_steps // generation.segment_steps
    segments = generation_players(generation, checkpoints or 4) * pieces
    if part.ratings + part.held_out > segments:
        raise ValueError(
            f"ratings + held_out are {part.ratings} + {part.held_out}, and {segments} segments "
            "are played; play more episodes, or rate fewer"
        )
    if min(part.ratings, part.held_out) < LEAST_RATINGS:
        raise ValueError(
            f"ratings and held_out are at least {LEAST_RATINGS}, got {part.ratings} and "
            f"{part.held_out}"
        )
    if part.eval_episodes < 2 or part.eval_steps < 1:
        raise ValueError(
            "eval_episodes is at least 2 and eval_steps at least 1, got "
            f"{part.eval_episodes} and {part.eval_steps}"
        )
    for name in part.arms:
        arm = ARMS[name]
        agent = agent_of(part, arm)  # refuses what does not go together
        if agent.anchor == "behaviour" and 0.0 in generation.noise_scales:
            raise ValueError(
                f"{name} counts likelihoods from those of the policies that played, and with noise "
                "0 they have none; use noise_scales above 0, or leave the arm out"
            )
        if arm.start not in ("pretrained", *part.arms):
            raise ValueError(f"{name} starts from {arm.start}, which is not among the arms")
