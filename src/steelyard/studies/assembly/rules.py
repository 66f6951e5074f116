"""What the assembly study refuses before any work starts; each error says what to do."""

from steelyard.envs.registry import env_spec
from steelyard.envs.scripted import TIERS, ScriptedExpert
from steelyard.envs.seeding import start_seeds, training_seeds
from steelyard.studies.assembly.arms import ARMS
from steelyard.studies.assembly.config import AssemblyConfig, Part
from steelyard.studies.parts import check_parts, check_runs
from steelyard.training.residual import PLANE


def check(config: AssemblyConfig) -> None:
    """Check a config.

    Raises:
        ValueError: A rule is broken; the message names the rule, the value and the legal ones.
    """
    check_parts(config.parts(), ARMS, _check_part)


def _check_part(part: Part) -> None:
    check_runs(part)
    if part.eval_episodes < 2:
        raise ValueError(f"eval_episodes must be at least 2, got {part.eval_episodes}")
    loop, env = part.run.loop, part.run.env
    training_seeds(0, loop.num_envs, loop.last_generation)
    if env == PLANE:
        stray = [name for name in part.arms if ARMS[name].on_success is not None]
        if stray:
            raise ValueError(
                f"arm {stray[0]!r} needs episodes that run on after success; on the plane a peg "
                "that is in stays. Run it on a MetaWorld task: --env assembly/PegInsertSide-v3"
            )
        return
    expert = ScriptedExpert(env, part.tier)
    start_seeds(0, part.demonstrations)
    limit = env_spec(env).max_episode_steps
    slowest = max((t.steps or 0.0) for t in TIERS[expert.task].values())
    if limit < slowest:
        raise ValueError(
            f"the time limit of {limit} steps is below the {slowest:.0f} that the slowest expert "
            f"needs; at least {slowest:.0f} are legal"
        )
