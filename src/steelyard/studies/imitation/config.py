"""What the imitation study is made of: its config, presets and the rules that refuse bad input."""

import dataclasses
from typing import Literal

from steelyard.envs.registry import env_spec
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.recipes import BCRun, IPMDRun, SACRun
from steelyard.training.tasks import task_runs

ARMS = ("random", "expert", "bc", "ipmd", "ipmd_frozen_reward", "sac_same_budget")
Quality = Literal["expert", "half_random"]

PRESETS = {
    "smoke": "Pendulum, 2 seeds, tiny networks: every output within a minute",
    "quick": "Pendulum, 10 seeds, 10 and 1 demonstrations: minutes on two cores",
    "full": "Pendulum: 10 seeds and all axes; HalfCheetah-v5: 5 seeds, 500,000 expert frames",
    "reference": "the reference code's defaults: 100,000 frames, 100 epochs",
    "reference_quick": "the reference code's quick test: 50,000 frames, 50 epochs",
    "gpu": "`full` with wider critics; needs a GPU to be worth it",
}


@dataclasses.dataclass(frozen=True)
class ImitationConfig:
    """A SAC expert, its demonstrations, and those who imitate it without seeing the reward."""

    env: str = "Pendulum-v1"
    """Task; that of `expert_data`, where it is given."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One whole pipeline each: expert, demonstrations and imitators."""
    arms: tuple[str, ...] = ARMS
    """Arms to run; the expert is trained where an imitator needs it."""
    demonstrations: tuple[int, ...] = (10,)
    """Numbers of demonstration episodes; the first is the primary one."""
    quality: tuple[Quality, ...] = ("expert",)
    """Demonstrations: the expert's, or half of them random; the first is the primary one."""
    num_episodes: int = 100
    """Expert episodes to record."""
    eval_episodes: int = 100
    """Fixed start states on which every arm is scored, one episode each."""
    expert_data: str | None = None
    """Demonstrations to share between all seeds: a path, or `latest`; none trains experts."""
    expert_frames: int | None = None
    """Environment steps of the expert; none takes the preset's."""
    ipmd_frames: int | None = None
    """Environment steps of IPMD and its controls; none takes the preset's."""
    bc_epochs: int | None = None
    """Passes over the demonstrations; none takes the preset's."""
    sac: SACRun = dataclasses.field(default_factory=lambda: task_runs("Pendulum-v1").sac)
    """The expert, and SAC with IPMD's frames."""
    ipmd: IPMDRun = dataclasses.field(default_factory=lambda: task_runs("Pendulum-v1").ipmd)
    """IPMD."""
    bc: BCRun = dataclasses.field(default_factory=lambda: task_runs("Pendulum-v1").bc)
    """Behaviour cloning."""

    def resolved(self) -> "ImitationConfig":
        """The same study with its shortcuts written into the learners' settings."""
        sac = _with_frames(dataclasses.replace(self.sac, env=self.env), self.expert_frames)
        ipmd = _with_frames(dataclasses.replace(self.ipmd, env=self.env), self.ipmd_frames)
        bc = dataclasses.replace(self.bc, env=self.env)
        if self.bc_epochs is not None:
            bc = dataclasses.replace(bc, epochs=self.bc_epochs, min_steps=0)
        return dataclasses.replace(
            self, sac=sac, ipmd=ipmd, bc=bc, expert_frames=None, ipmd_frames=None, bc_epochs=None
        )

    @property
    def primary_axes(self) -> dict[str, int | str]:
        """Axis values at which an arm goes by its bare name."""
        return {"demonstrations": self.demonstrations[0], "quality": self.quality[0]}


def configure(preset: str, env: str | None = None) -> ImitationConfig:
    """The config of a preset for a task.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; there are {sorted(PRESETS)}.")
    env = env or "Pendulum-v1"
    env_spec(env)  # refuses an unknown task, with the nearest ones
    runs = task_runs(env)
    config = ImitationConfig(env=env, sac=runs.sac, ipmd=runs.ipmd, bc=runs.bc)
    pendulum = env == "Pendulum-v1"
    if preset == "smoke":
        return _smoke(config)
    if preset == "quick":
        return dataclasses.replace(config, seeds=tuple(range(10)), demonstrations=(10, 1))
    if preset in ("reference", "reference_quick"):
        return _reference(config, quick=preset == "reference_quick")
    if pendulum:
        seeds, counts = tuple(range(10)), (10, 1, 5, 100)
        config = dataclasses.replace(
            config, seeds=seeds, demonstrations=counts, quality=("expert", "half_random")
        )
    else:
        config = dataclasses.replace(config, demonstrations=(10, 100))
    if preset == "gpu":
        config = _wide(config)
    return config


def _smoke(config: ImitationConfig) -> ImitationConfig:
    tiny, batch = (32, 32), 32
    sac_agent = dataclasses.replace(config.sac.agent, hidden=tiny, batch_size=batch, policy_delay=1)
    ipmd_agent = dataclasses.replace(
        config.ipmd.agent,
        hidden=tiny,
        reward_num_cells=tiny,
        batch_size=batch,
        expert_batch_size=batch,
        policy_delay=1,
    )
    loop = OffPolicyConfig(frames=3_000, num_envs=4, random_frames=500, eval_interval=1_500)
    return dataclasses.replace(
        config,
        seeds=(0, 1),
        demonstrations=(4,),
        num_episodes=4,
        eval_episodes=20,
        sac=dataclasses.replace(config.sac, agent=sac_agent, loop=loop),
        ipmd=dataclasses.replace(
            config.ipmd, agent=ipmd_agent, loop=dataclasses.replace(loop, frames=2_000)
        ),
        bc=dataclasses.replace(
            config.bc,
            agent=dataclasses.replace(config.bc.agent, hidden=tiny, batch_size=batch),
            epochs=1,
            min_steps=300,
        ),
    )


def _reference(config: ImitationConfig, quick: bool) -> ImitationConfig:
    """The reference's sizes: 256×256 networks, batch 256, steps 3e-4, one update per frame."""
    frames, epochs = (50_000, 50) if quick else (100_000, 100)
    sac = dataclasses.replace(
        config.sac.agent,
        hidden=(256, 256),
        batch_size=256,
        actor_lr=3e-4,
        critic_lr=3e-4,
        alpha_lr=3e-4,
        alpha_init=1.0,
        target_entropy=None,
        policy_delay=1,
    )
    ipmd = dataclasses.replace(
        config.ipmd.agent,
        hidden=(256, 256),
        reward_num_cells=(256, 256),
        batch_size=256,
        expert_batch_size=256,
        actor_lr=3e-4,
        critic_lr=3e-4,
        policy_delay=1,
    )
    loop = OffPolicyConfig(
        frames=frames, num_envs=4, replay_capacity=100_000, eval_interval=frames // 10
    )
    bc = dataclasses.replace(config.bc.agent, hidden=(256, 256), lr=3e-4)
    return dataclasses.replace(
        config,
        demonstrations=(10,),
        sac=dataclasses.replace(config.sac, agent=sac, loop=loop),
        ipmd=dataclasses.replace(config.ipmd, agent=ipmd, loop=loop),
        bc=dataclasses.replace(config.bc, agent=bc, epochs=epochs, min_steps=0),
    )


def _wide(config: ImitationConfig) -> ImitationConfig:
    wide = {"hidden": (512, 512), "batch_size": 512}
    return dataclasses.replace(
        config,
        sac=dataclasses.replace(config.sac, agent=dataclasses.replace(config.sac.agent, **wide)),
        ipmd=dataclasses.replace(
            config.ipmd,
            agent=dataclasses.replace(config.ipmd.agent, **wide, expert_batch_size=512),
        ),
    )


def _with_frames(run: SACRun | IPMDRun, frames: int | None) -> SACRun | IPMDRun:
    if frames is None:
        return run
    return dataclasses.replace(run, loop=dataclasses.replace(run.loop, frames=frames))
