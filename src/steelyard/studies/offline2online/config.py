"""What the study is made of: its tasks, their data, sizes and presets."""

import dataclasses

from steelyard.agents.acfql import ACFQLConfig
from steelyard.emphasis.trajectory_clusters import ClusterConfig
from steelyard.envs.registry import env_spec
from steelyard.studies.offline2online.arms import ALL, PUBLISHED, REFERENCE
from steelyard.studies.parts import each_part, running, with_arms
from steelyard.training.online_rl import OnlineRLConfig

PRESS, DRAWER, FORK = "sparse/HandlePress-v3", "sparse/DrawerOpen-v3", "sparse/Fork-v0"

PRESETS = {
    "smoke": "tiny sizes of everything, on the fork: a minute",
    "quick": "pressing a handle, modes in conflict: 6 arms, 7 seeds; minutes",
    "medium": "larger networks and budgets, four arms, 3 seeds, for a task of your own; hours",
    "full": "all arms; other regimes and tasks with some of them; hours",
    "reference": "the reference's hyper-parameters, its four arms; for a GPU",
}

TUNING_SEEDS = (100, 101, 102)
"""Seeds on which settings were chosen, on the baseline alone; never reported."""
SEVEN = tuple(range(10, 17))
"""The seeds of `quick`: trials that chose the task had used 0 to 2."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One task and its data: arms, seeds and sizes."""

    env: str
    """Task."""
    regime: str | None = None
    """Who demonstrates how much, see `REGIMES`; none where a dataset is given."""
    dataset: str | None = None
    """A dataset on disk, or a folder of several that are rotated through."""
    sha256: tuple[str, ...] = ()
    """Content of that dataset, filled in when the study begins."""
    sparse: bool = False
    """Whether rewards that are not 0 become -1."""
    arms: tuple[str, ...] = ()
    """Arms to run; none leaves the part out."""
    seeds: tuple[int, ...] = SEVEN
    """One whole pipeline each: data, offline phase, online phase."""
    agent: ACFQLConfig = ACFQLConfig()
    """Learner; an arm may change a field."""
    offline_steps: int = 1_000_000
    """Updates of the offline phase."""
    online: OnlineRLConfig = OnlineRLConfig()
    """Sizes and intervals of the online phase."""
    cluster: ClusterConfig = ClusterConfig()
    """How trajectories are clustered."""
    normalise: bool = True
    """Whether observations are normalised, by the data's mean and deviation."""
    eval_episodes: int = 50
    """Fixed start states, one episode each."""
    proportion: float = 1.0
    """Share of a dataset's trajectories to use, the first ones."""
    replace_interval: int = 1_000
    """Updates between two files of a folder."""
    keep_online: bool = False
    """Whether all that was played online is written to `data.npz`."""
    offline_eval_interval: int | None = None
    """Updates between evaluations of the offline phase; none evaluates at its end only."""


@dataclasses.dataclass(frozen=True)
class Offline2OnlineConfig:
    """Flow Q-learning from uneven demonstrations, and which trajectories its batches draw."""

    press: Part
    """Pressing a handle; a small share of the demonstrations succeeds, and modes conflict."""
    drawer: Part
    """Opening a drawer, likewise."""
    rare_bad: Part
    """Pressing a handle; most demonstrations succeed: balancing should harm."""
    uneven: Part
    """Pressing a handle; all succeed, most of them by one operator: it should matter little."""
    fork: Part
    """Two gates of which one leads on."""
    custom: Part
    """A task and dataset of your own."""
    arms: tuple[str, ...] | None = None
    """Arms of every part that runs; none takes each part's own."""
    seeds: tuple[int, ...] | None = None
    """Seeds of every part that runs; none takes each part's own."""

    def parts(self) -> dict[str, Part]:
        """The parts that run, by the name of their task in results."""
        named = {
            "HandlePress, conflict": self.press,
            "DrawerOpen, conflict": self.drawer,
            "HandlePress, rare-bad": self.rare_bad,
            "HandlePress, uneven": self.uneven,
            "Fork": self.fork,
            self.custom.env: self.custom,
        }
        return running(named, self.arms, self.seeds)


def configure(preset: str, env: str | None = None) -> Offline2OnlineConfig:
    """The config of a preset, for all its tasks or one.

    Raises:
        ValueError: There is no such preset, or the study has no data of such a task.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}; there are {sorted(PRESETS)}.")
    made = {"smoke": _smoke, "quick": _quick, "medium": _medium, "full": _full}
    config = (made | {"reference": _reference})[preset]()
    if env is None:
        return config
    env_spec(env)  # refuses an unknown task, with the nearest ones
    own_parts = [part for part in vars(config).values() if isinstance(part, Part)]
    matching = [part for part in own_parts if part.env == env]
    if not matching:
        own = env.startswith("sparse/")  # only these have operators that can be played here
        regime = config.press.regime if own else None
        arms = REFERENCE if preset == "medium" else PUBLISHED
        cluster = ClusterConfig(segment=50) if env.startswith("ogbench/") else ClusterConfig()
        sized = dataclasses.replace(
            config.custom, env=env, regime=regime, arms=arms, cluster=cluster
        )
        nothing = each_part(config, Part, lambda part: with_arms(part, ()))
        return dataclasses.replace(nothing, custom=sized)
    runs = any(part.arms for part in matching)
    return each_part(config, Part, lambda part: with_arms(part, _arms_on(part, env, runs)))


def _arms_on(part: Part, env: str, runs: bool) -> tuple[str, ...]:
    """A part's arms where one task is asked for, which some part runs already, or none does."""
    if part.env != env:
        return ()
    return part.arms if runs else PUBLISHED


QUICK_AGENT = ACFQLConfig(
    hidden=(128, 128),
    batch_size=64,
    lr=1e-3,
    discount=0.98,
    tau=0.02,
    num_qs=2,
    flow_steps=5,
    alpha=5.0,
    normalize_q_loss=True,
    reduction="self_normalised_mean",
)
QUICK_ONLINE = OnlineRLConfig(
    online_steps=2_000,
    start_training=0,
    ptr_warmup_steps=50,
    rerank_interval=50,
    log_interval=250,
    eval_interval=500,
    save_interval=500,
)


def small(env: str, regime: str | None) -> Part:
    """A part at the size of `quick`, without arms."""
    return Part(
        env,
        regime,
        agent=QUICK_AGENT,
        offline_steps=1_000,
        online=QUICK_ONLINE,
        eval_episodes=20,
    )


def _parts() -> Offline2OnlineConfig:
    fork = dataclasses.replace(QUICK_AGENT, hidden=(64, 64), alpha=1.0)
    return Offline2OnlineConfig(
        small(PRESS, "conflict"),
        small(DRAWER, "conflict"),
        small(PRESS, "rare-bad"),
        small(PRESS, "uneven"),
        dataclasses.replace(small(FORK, "fork"), agent=fork),
        small(FORK, "fork"),
    )


def _quick() -> Offline2OnlineConfig:
    config = _parts()
    return dataclasses.replace(config, press=with_arms(config.press, PUBLISHED))


MEDIUM_AGENT = ACFQLConfig(
    hidden=(256, 256), num_qs=2, alpha=10.0, normalize_q_loss=True, reduction=QUICK_AGENT.reduction
)
MEDIUM_ONLINE = dataclasses.replace(
    QUICK_ONLINE,
    online_steps=3_000,
    ptr_warmup_steps=100,
    log_interval=500,
    eval_interval=1_000,
    save_interval=1_000,
)


def _medium() -> Offline2OnlineConfig:
    config = _parts()

    def sized(part: Part) -> Part:
        return dataclasses.replace(
            part,
            seeds=SEVEN[:3],
            agent=MEDIUM_AGENT,
            offline_steps=10_000,
            online=MEDIUM_ONLINE,
        )

    config = each_part(config, Part, sized)
    return dataclasses.replace(config, press=with_arms(config.press, REFERENCE))


def _full() -> Offline2OnlineConfig:
    config = _parts()
    return dataclasses.replace(
        config,
        press=with_arms(config.press, ALL),
        drawer=with_arms(config.drawer, PUBLISHED),
        rare_bad=with_arms(config.rare_bad, PUBLISHED),
        uneven=with_arms(config.uneven, PUBLISHED),
        fork=with_arms(config.fork, PUBLISHED),
    )


def reference_part(env: str, regime: str | None) -> Part:
    """A part at the reference's size, with its critics; without arms."""
    return Part(env, regime, agent=ACFQLConfig(num_qs=2, q_agg="mean"), normalise=False)


def _reference() -> Offline2OnlineConfig:
    config = _parts()
    config = each_part(config, Part, lambda part: reference_part(part.env, part.regime))
    return dataclasses.replace(config, press=with_arms(config.press, REFERENCE))


def _smoke() -> Offline2OnlineConfig:
    config = _parts()
    agent = dataclasses.replace(QUICK_AGENT, hidden=(32, 32), batch_size=32, flow_steps=2)
    online = dataclasses.replace(
        QUICK_ONLINE,
        online_steps=200,
        ptr_warmup_steps=20,
        log_interval=100,
        eval_interval=100,
        save_interval=100,
    )
    tiny = Part(
        FORK,
        "fork-small",
        arms=REFERENCE,
        seeds=(0, 1),
        agent=agent,
        offline_steps=200,
        online=online,
        eval_episodes=8,
    )
    return dataclasses.replace(config, fork=tiny)
