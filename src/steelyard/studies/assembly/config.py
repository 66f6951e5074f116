"""What the assembly study is made of: its tasks, their bases, sizes and presets."""

import dataclasses

from steelyard.agents.chunked_bc import ChunkedBCConfig
from steelyard.agents.ppo import PPOConfig
from steelyard.envs.registry import env_spec
from steelyard.studies.assembly.arms import ALL, PUBLISHED, REPEATED
from steelyard.studies.parts import running
from steelyard.training.base_policy import BaseRun
from steelyard.training.on_policy import OnPolicyConfig
from steelyard.training.on_policy_update import UpdateConfig
from steelyard.training.residual import PLANE, ResidualRun

PEG, NUT = "assembly/PegInsertSide-v3", "assembly/Assembly-v3"

PRESETS = {
    "smoke": "tiny sizes of everything: a minute",
    "quick": "a plane: 6 arms, 10 seeds; peg insertion: uniform items, 5 seeds; minutes",
    "full": "all arms, 20 seeds on the plane, 5 on peg insertion, some on nut assembly; hours",
    "resip": "the reference's hyper-parameters, on the plane",
}

FIVE = tuple(range(5))


@dataclasses.dataclass(frozen=True)
class Part:
    """One task: its base policy, arms and seeds."""

    run: ResidualRun
    """Task, learner and budget; the arms choose what counts."""
    arms: tuple[str, ...] = ()
    """Arms to run; none leaves the part out."""
    seeds: tuple[int, ...] = FIVE
    """One whole pipeline each: demonstrations, base policy, residual."""
    tier: str = "biased"
    """Quality of the scripted expert's demonstrations; see `steelyard data generate metaworld`."""
    demonstrations: int = 20
    """Episodes that the base is cloned from; the dial of its success."""
    base: BaseRun = BaseRun()
    """How the base is cloned; the plane has one of its own."""
    eval_episodes: int = 200
    """Fixed start states on which policies are scored, one episode each."""


@dataclasses.dataclass(frozen=True)
class AssemblyConfig:
    """Residual PPO on frozen bases, and what its updates make of their own items."""

    plane: Part
    """`PegPlane-v0`, whose base succeeds in 38 % by construction."""
    peg: Part
    """MetaWorld's peg insertion, its base cloned from demonstrations that miss to one side."""
    scarce: Part
    """The same, its base cloned from few good demonstrations."""
    nut: Part
    """MetaWorld's nut assembly, its base cloned from noisy demonstrations."""
    arms: tuple[str, ...] | None = None
    """Arms of every part that runs; none takes each part's own."""
    seeds: tuple[int, ...] | None = None
    """Seeds of every part that runs; none takes each part's own."""
    timesteps: int | None = None
    """Environment steps of every run; none takes each part's own."""
    strict: bool = False
    """Stop where a base has nothing to find (success 0) or no room (above 0.98)."""
    films: int = 1
    """Start states of the first seed that base and residual are filmed on, where a task can be."""

    def parts(self) -> dict[str, Part]:
        """The parts that run, by the name of their task in results."""
        named = {
            "PegPlane": self.plane,
            "PegInsertSide, biased base": self.peg,
            "PegInsertSide, scarce base": self.scarce,
            "Assembly": self.nut,
        }
        settled = {name: self._settled(part) for name, part in named.items()}
        return running(settled, self.arms, self.seeds)

    def _settled(self, part: Part) -> Part:
        """A part with the budget and the task of its residual written into it."""
        run = part.run
        if self.timesteps is not None:
            loop = dataclasses.replace(run.loop, total_timesteps=self.timesteps)
            run = dataclasses.replace(run, loop=loop)
        base = dataclasses.replace(part.base, env=run.env)
        return dataclasses.replace(part, run=run, base=base)


def configure(preset: str, env: str | None = None) -> AssemblyConfig:
    """The config of a preset, for all tasks or one.

    Raises:
        ValueError: There is no such preset, or the study has no such task.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; there are {sorted(PRESETS)}.")
    config = {"smoke": _smoke, "quick": _quick, "full": _full, "resip": _resip}[preset]()
    if env is None:
        return config
    if preset == "resip" and env != PLANE:
        raise ValueError(f"the preset resip has the reference's sizes on {PLANE} alone, got {env}")
    env_spec(env)  # refuses an unknown task, with the nearest ones
    names = [f.name for f in dataclasses.fields(config) if f.type is Part]
    chosen = {name: getattr(config, name) for name in names}
    if env not in {part.run.env for part in chosen.values()}:
        legal = ", ".join(sorted({part.run.env for part in chosen.values()}))
        raise ValueError(f"the assembly study has no part on {env}; it has {legal}")
    runs = any(part.arms for part in chosen.values() if part.run.env == env)
    parts = {
        name: dataclasses.replace(part, arms=_arms_on(part, env, runs))
        for name, part in chosen.items()
    }
    return dataclasses.replace(config, **parts)


def _arms_on(part: Part, env: str, runs: bool) -> tuple[str, ...]:
    """A part's arms where one task is asked for, which some part runs already, or none does."""
    if part.run.env != env:
        return ()
    return part.arms if runs else PUBLISHED


def plane(timesteps: int) -> Part:
    """The plane at its own size."""
    agent = PPOConfig(hidden=(64, 64))
    run = ResidualRun(PLANE, agent, UpdateConfig(), OnPolicyConfig(total_timesteps=timesteps))
    return Part(run, seeds=tuple(range(10)), eval_episodes=500)


def arm_on_table(env: str, timesteps: int, tier: str, demonstrations: int) -> Part:
    """A MetaWorld task at its own size."""
    agent = PPOConfig(hidden=(128, 128))
    run = ResidualRun(env, agent, UpdateConfig(), OnPolicyConfig(total_timesteps=timesteps))
    base = BaseRun(env, ChunkedBCConfig(hidden=(128, 128)), min_steps=4_000)
    return Part(run, tier=tier, demonstrations=demonstrations, base=base)


def _parts(plane_steps: int, table_steps: int) -> AssemblyConfig:
    return AssemblyConfig(
        plane(plane_steps),
        arm_on_table(PEG, table_steps, "biased", 20),
        arm_on_table(PEG, table_steps, "good", 5),
        arm_on_table(NUT, table_steps, "noise-1.0", 20),
    )


def _quick() -> AssemblyConfig:
    config = _parts(100_000, 120_000)
    return dataclasses.replace(
        config,
        plane=dataclasses.replace(config.plane, arms=PUBLISHED),
        peg=dataclasses.replace(config.peg, arms=("uniform",)),
    )


def _full() -> AssemblyConfig:
    config = _parts(120_000, 150_000)
    return dataclasses.replace(
        config,
        plane=dataclasses.replace(config.plane, arms=ALL, seeds=tuple(range(20))),
        peg=dataclasses.replace(config.peg, arms=ALL),
        nut=dataclasses.replace(config.nut, arms=REPEATED),
    )


def _resip() -> AssemblyConfig:
    """The reference's hyper-parameters; its own tasks need a simulator that is not supported."""
    config = _full()
    agent = PPOConfig(
        action_scale=0.1,
        learning_rate_critic=5e-3,
        discount=0.999,
        n_iterations_train_only_value=0,
    )
    update = UpdateConfig(update_epochs=50, num_minibatches=1)
    loop = OnPolicyConfig(
        total_timesteps=14 * 1024 * 700, num_envs=1024, num_env_steps=700, eval_interval=5
    )
    run = ResidualRun(PLANE, agent, update, loop)
    part = dataclasses.replace(config.plane, run=run, arms=("uniform", "heuristic"))
    return dataclasses.replace(
        config,
        plane=dataclasses.replace(part, seeds=FIVE),
        peg=dataclasses.replace(config.peg, arms=()),
        nut=dataclasses.replace(config.nut, arms=()),
    )


def _smoke() -> AssemblyConfig:
    config = _quick()
    loop = OnPolicyConfig(total_timesteps=2 * 8 * 16, num_envs=8, num_env_steps=16)
    update = UpdateConfig(update_epochs=2, num_minibatches=2)
    agent = PPOConfig(hidden=(16,), n_iterations_train_only_value=0)

    def tiny(part: Part, arms: tuple[str, ...]) -> Part:
        run = dataclasses.replace(part.run, agent=agent, update=update, loop=loop)
        clone = dataclasses.replace(part.base.agent, head="mse", hidden=(16,))
        base = dataclasses.replace(part.base, agent=clone, epochs=1, min_steps=50)
        return dataclasses.replace(
            part,
            run=run,
            base=base,
            arms=arms,
            seeds=(0, 1),
            demonstrations=4,
            eval_episodes=10,
        )

    return dataclasses.replace(
        config,
        plane=tiny(config.plane, ("uniform", "heuristic", "gradnorm", "influence")),
        peg=tiny(config.peg, ("uniform",)),
        scarce=tiny(config.scarce, ()),
        nut=tiny(config.nut, ()),
        films=0,
    )
