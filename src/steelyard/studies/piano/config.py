"""What the study is made of: its tasks, their segments and judges, sizes and presets."""

import dataclasses

from steelyard.agents.cpl import CPLConfig
from steelyard.agents.piql import PIQLConfig, RewardConfig
from steelyard.agents.sac import SACConfig
from steelyard.data.judges import JudgeConfig
from steelyard.data.preferences import PairConfig
from steelyard.envs.registry import env_spec
from steelyard.studies.parts import each_part, running, with_arms
from steelyard.studies.piano.arms import ALL, PUBLISHED, REFERENCE
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.preferences import CPLRun
from steelyard.training.recipes import SACRun
from steelyard.training.segment_generation import GenerationConfig

PRESETS = {
    "smoke": "tiny sizes of everything, SAC on Pendulum: a minute",
    "quick": "two manipulation tasks, 60 ratings, 8 arms, 5 seeds; minutes",
    "full": "six tasks, 300 ratings, all arms on the first; demonstrators in conflict; hours",
}

TUNING_SEEDS = (100, 101, 102)
"""Seeds on which settings were chosen; never reported."""
FIVE = (0, 1, 2, 3, 4)
TASKS = (
    "SweepInto-v3",
    "ButtonPress-v3",
    "BinPicking-v3",
    "DoorOpen-v3",
    "DrawerOpen-v3",
    "PlateSlide-v3",
)
"""The six tasks of the paper."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One task: who plays, who judges, what learns from it."""

    env: str
    """Task."""
    arms: tuple[str, ...] = ()
    """Arms to run; none leaves the part out."""
    seeds: tuple[int, ...] = FIVE
    """One whole pipeline each: segments, judgements, pretraining, learning."""
    generation: GenerationConfig = GenerationConfig()
    """Who plays the segments."""
    sac: SACRun | None = None
    """Pretraining by SAC, whose checkpoints play; none clones all segments."""
    ratings: int = 60
    """Segments that are rated, drawn at random."""
    judge: JudgeConfig = JudgeConfig()
    """Who rates them."""
    pair: PairConfig = PairConfig()
    """How ratings become pairs."""
    held_out: int = 40
    """Further segments that are rated, whose pairs no learner sees."""
    hidden: tuple[int, ...] = (128, 128)
    """Hidden layers of the policy that cloning pretrains."""
    base_steps: int = 600
    """Gradient steps of that pretraining."""
    base_learning_rate: float = 1e-3
    """Its step size."""
    cpl: CPLRun = CPLRun()
    """Learner; an arm may change a field."""
    clone_learning_rate: float = 1e-3
    """Step size of the arms that clone."""
    reward: RewardConfig = RewardConfig()
    """Learner of the reward of P-IQL."""
    reward_steps: int = 400
    """Its gradient steps."""
    piql: PIQLConfig = PIQLConfig()
    """Implicit Q-learning of P-IQL."""
    piql_steps: int = 2_000
    """Its gradient steps."""
    eval_episodes: int = 30
    """Fixed start states, one episode each."""
    eval_steps: int = 160
    """Steps of such an episode."""


@dataclasses.dataclass(frozen=True)
class PianoConfig:
    """Contrastive preference learning against its baselines, on judged segments."""

    sweep: Part
    """Sweeping a block into a hole."""
    press: Part
    """Pressing a button."""
    bins: Part
    """Moving a block from one bin to another."""
    door: Part
    """Opening a door."""
    drawer: Part
    """Opening a drawer."""
    plate: Part
    """Sliding a plate."""
    sweep_sixty: Part
    """Sweeping, with few ratings, in `full`."""
    sweep_noise: Part
    """Sweeping, with a judge of whose ratings a third is drawn at random."""
    plate_mixture: Part
    """Sliding a plate, by demonstrators who aim at different places."""
    drawer_mixture: Part
    """Opening a drawer, likewise."""
    pendulum: Part
    """The pendulum, pretrained by SAC, whose checkpoints play."""
    custom: Part
    """A task of your own."""
    arms: tuple[str, ...] | None = None
    """Arms of every part that runs; none takes each part's own."""
    seeds: tuple[int, ...] | None = None
    """Seeds of every part that runs; none takes each part's own."""

    def parts(self) -> dict[str, Part]:
        """The parts that run, by the name of their task in results."""
        named = {
            "SweepInto": self.sweep,
            "ButtonPress": self.press,
            "BinPicking": self.bins,
            "DoorOpen": self.door,
            "DrawerOpen": self.drawer,
            "PlateSlide": self.plate,
            "SweepInto, 60 ratings": self.sweep_sixty,
            "SweepInto, noisy judge": self.sweep_noise,
            "PlateSlide, mixture": self.plate_mixture,
            "DrawerOpen, mixture": self.drawer_mixture,
            "Pendulum": self.pendulum,
            self.custom.env: self.custom,
        }
        return running(named, self.arms, self.seeds)


def configure(preset: str, env: str | None = None) -> PianoConfig:
    """The config of a preset, for all its tasks or one.

    Raises:
        ValueError: There is no such preset or task.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; there are {sorted(PRESETS)}.")
    config = {"smoke": _smoke, "quick": _quick, "full": _full}[preset]()
    if env is None:
        return config
    env = env.replace("MetaWorld/", "dense/")
    env_spec(env)  # refuses an unknown task, with the nearest ones
    parts = {name: part for name, part in vars(config).items() if isinstance(part, Part)}
    chosen = next((name for name, part in parts.items() if part.env == env and part.arms), None)
    chosen = chosen or next((name for name, part in parts.items() if part.env == env), "custom")
    own = parts[chosen]
    alone = each_part(config, Part, lambda part: with_arms(part, ()))
    kept = dataclasses.replace(own, env=env, arms=own.arms or PUBLISHED)
    return dataclasses.replace(alone, **{chosen: kept})


QUICK_AGENT = CPLConfig(
    hidden=(128, 128), batch_size=32, pairs="in_batch", conservative_weight=0.01
)


def small(env: str) -> Part:
    """A part at the size of `quick`, without arms."""
    return Part(
        env,
        cpl=CPLRun(QUICK_AGENT, steps=400),
        reward=RewardConfig(hidden=(128, 128), pairs="in_batch"),
        piql=PIQLConfig(hidden=(128, 128)),
    )


def _parts() -> PianoConfig:
    dense = [small(f"dense/{task}") for task in TASKS]
    sweep, plate, drawer = dense[0], dense[5], dense[4]
    mixture = GenerationConfig("mixture", episodes=384, episode_steps=192)
    pendulum = small("Pendulum-v1")
    return PianoConfig(
        *dense,
        sweep_sixty=sweep,
        sweep_noise=dataclasses.replace(sweep, judge=JudgeConfig(flip=0.3)),
        plate_mixture=dataclasses.replace(plate, generation=mixture),
        drawer_mixture=dataclasses.replace(drawer, generation=mixture),
        pendulum=pendulum,
        custom=sweep,
    )


def _quick() -> PianoConfig:
    config = _parts()
    return dataclasses.replace(
        config,
        sweep=with_arms(config.sweep, PUBLISHED),
        press=with_arms(config.press, PUBLISHED),
    )


def _full() -> PianoConfig:
    config = each_part(_parts(), Part, lambda part: dataclasses.replace(part, ratings=300))
    sixty = dataclasses.replace(config.sweep_sixty, ratings=60)
    more = {
        name: with_arms(getattr(config, name), PUBLISHED)
        for name in ("press", "bins", "door", "drawer", "plate", "sweep_noise")
    }
    mixture = {
        name: with_arms(getattr(config, name), (*PUBLISHED, "cpl_from_rated", "cpl_kl"))
        for name in ("plate_mixture", "drawer_mixture")
    }
    return dataclasses.replace(
        config,
        sweep=with_arms(config.sweep, ALL),
        sweep_sixty=with_arms(sixty, PUBLISHED),
        **more,
        **mixture,
    )


def _smoke() -> PianoConfig:
    config = _parts()
    frames = 6_000
    sac = SACRun(
        "Pendulum-v1",
        SACConfig(hidden=(64, 64), batch_size=64),
        OffPolicyConfig(
            frames=frames,
            num_envs=4,
            random_frames=1_000,
            log_interval=1_000,
            eval_interval=frames,
            checkpoint_interval=frames // 4,
        ),
        keep_policies=True,
    )
    tiny = dataclasses.replace(
        config.pendulum,
        arms=REFERENCE,
        seeds=(0, 1),
        sac=sac,
        hidden=sac.agent.hidden,
        generation=GenerationConfig(
            "checkpoints", episodes=4, episode_steps=128, noise_scales=(0.0, 0.3)
        ),
        ratings=32,
        held_out=16,
        cpl=CPLRun(dataclasses.replace(QUICK_AGENT, hidden=(64, 64)), steps=200),
        eval_episodes=8,
        eval_steps=200,
    )
    return dataclasses.replace(config, pendulum=tiny)
