"""What ``benchmarks/peers.py`` compares: a row each, as data.

A row has one or more contenders of ours and of the peers', each a script of ``contenders/`` that
prints one line of JSON, and the measures that all its contenders report.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Better = Literal["higher", "lower", "score"]
"""A ratio is turned so that above 1 is ours ahead; of scores the difference is taken."""
OURS = "steelyard"
"""Environment of our own contenders: the interpreter that runs the benchmark."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """What contenders report under one name.

    Attributes:
        title: For people, with its unit.
        better: Which end is good.
        digits: Decimals in the table.
    """

    title: str
    better: Better = "higher"
    digits: int = 0


@dataclasses.dataclass(frozen=True)
class Contender:
    """A script, and what it is started with.

    Attributes:
        title: For people.
        script: File in ``contenders/``.
        arguments: Of the script.
        environment: A key of :data:`ENVIRONMENTS`, or ours.
        rounds: Most rounds it takes part in, where one is enough or dear.
    """

    title: str
    script: str
    arguments: tuple[str, ...] = ()
    environment: str = OURS
    rounds: int | None = None

    @property
    def is_peer(self) -> bool:
        return self.environment != OURS


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        title: For people.
        same: What is alike on all sides.
        differs: What is not.
        contenders: By name.
        measures: By the name under which contenders report them.
        pairs: Our contender and the peer's, for every line of the table.
        prepare: A script of ours that writes the file that all contenders read.
    """

    title: str
    same: str
    differs: str
    contenders: Mapping[str, Contender]
    measures: Mapping[str, Measure]
    pairs: tuple[tuple[str, str], ...]
    prepare: str | None = None


ENVIRONMENTS: dict[str, str] = {
    "current": "peers-current.txt",
    "imitation": "peers-imitation.txt",
    "sysid": "peers-sysid.txt",
}
"""Environments of the peers by name, and the requirements of each beside this file."""

RECIPE = "CleanRL's recipe (our PyTorch re-implementation)"
THREADS = ("--threads", "1")
"""PyTorch's threads for networks this small: a second one gains nothing or loses."""

DRAWN = {"cycle": "draw and update", "draw": "draw alone", "update": "update alone"}

ROWS: dict[str, Row] = {
    "sac": Row(
        "SAC, HalfCheetah-v5",
        "networks 256x256, batch 256, one critic and on average one actor step per frame, float32, "
        "CPU; PyTorch with the number of threads that is faster",
        "ours: EnvPool, 16 environments or 1, observations normalised, metrics and files written; "
        "peers: one gymnasium environment",
        {
            "ours": Contender("Steelyard, 16 environments", "ours.py"),
            "ours_1_env": Contender("Steelyard, 1 environment", "ours.py"),
            "sb3": Contender("Stable-Baselines3", "sb3.py", (), "current"),
            "cleanrl_recipe": Contender(RECIPE, "cleanrl_recipe.py", (), "current"),
        },
        {
            "frames_per_s": Measure("frames/s"),
            "frames_per_cpu_s": Measure("frames/CPU-s"),
        },
        tuple((a, b) for b in ("sb3", "cleanrl_recipe") for a in ("ours", "ours_1_env")),
    ),
    "ppo": Row(
        "PPO, HalfCheetah-v5",
        "8 environments, 256 steps of each an iteration, 10 epochs of 32 minibatches of 64, actor "
        "and critic 64x64 of their own, learned standard deviation, Adam, float32, CPU",
        "ours: EnvPool, ReLU, AdamW and a cosine, advantages normalised once an iteration, metrics "
        "and files written; peers: gymnasium's environments one after the other, tanh, advantages "
        "normalised by minibatch; CleanRL's recipe normalises observations and rewards in wrappers",
        {
            "ours": Contender("Steelyard", "ppo_ours.py"),
            "sb3": Contender("Stable-Baselines3", "ppo_sb3.py", THREADS, "current"),
            "cleanrl_recipe": Contender(RECIPE, "ppo_cleanrl_recipe.py", THREADS, "current"),
        },
        {
            "frames_per_s": Measure("frames/s, simulation and learning"),
            "frames_per_cpu_s": Measure("frames/CPU-s, simulation and learning"),
            "update_items_per_s": Measure("items/s of the update alone, each epoch counted"),
        },
        (("ours", "sb3"), ("ours", "cleanrl_recipe")),
    ),
    "bc": Row(
        "Behaviour cloning, Pendulum-v1",
        "the same 10 demonstrations of the exact solution, 6,000 gradient steps of 64 rows, 64x64 "
        "ReLU, step size 1e-3, float32, CPU; scores on the same 100 starts, 0 random and "
        "1 the exact solution",
        "ours: squared error around a squashed mean, observations normalised, averaged weights, a "
        "cosine; imitation: likelihood under a Gaussian, actions clipped, else its own "
        "defaults (but for the ReLU: with its own tanh it scored 0.39). Seconds of ours hold "
        "compilation",
        {
            "ours": Contender("Steelyard BC", "pendulum_ours.py", ("bc",)),
            "imitation": Contender(
                "imitation 1.0 BC", "pendulum_imitation.py", ("bc", *THREADS), "imitation"
            ),
        },
        {
            "seconds": Measure("s in all", "lower", 1),
            "cpu_seconds": Measure("CPU-s in all", "lower", 1),
            "steps_per_s": Measure("gradient steps/s once compiled"),
            "score": Measure("score", "score", 2),
        },
        (("ours", "imitation"),),
        "pendulum_task.py",
    ),
    "irl": Row(
        "Inverse RL, Pendulum-v1",
        "the same 10 demonstrations, 12,000 frames in 8 environments, reward hidden, 64x64 ReLU, "
        "batch 64, one learner step per frame where the learner is off-policy, float32, CPU; "
        "scores on the same 100 starts, 0 random and 1 the exact solution",
        "ours: IPMD as shipped for the task; imitation: GAIL with PPO, as the library's example "
        "has it, and with SAC (1,000 frames before it learns). Seconds of ours hold compilation",
        {
            "ours": Contender("Steelyard IPMD", "pendulum_ours.py", ("ipmd",)),
            "gail_ppo": Contender(
                "imitation 1.0 GAIL, PPO", "pendulum_imitation.py", ("gail", *THREADS), "imitation"
            ),
            "gail_ppo_long": Contender(
                "imitation 1.0 GAIL, PPO, 48,000 frames",
                "pendulum_imitation.py",
                ("gail", "--frames", "48000", *THREADS),
                "imitation",
            ),
            "gail_sac": Contender(
                "imitation 1.0 GAIL, SAC",
                "pendulum_imitation.py",
                ("gail", "--generator", "sac", *THREADS),
                "imitation",
            ),
        },
        {
            "seconds": Measure("s in all", "lower", 1),
            "cpu_seconds": Measure("CPU-s in all", "lower", 1),
            "score": Measure("score", "score", 2),
        },
        (("ours", "gail_ppo"), ("ours", "gail_ppo_long"), ("ours", "gail_sac")),
        "pendulum_task.py",
    ),
    "samplers": Row(
        "Prioritised draws",
        "256 draws by priority, then an update of the 256 priorities drawn; 100,000 and 1,000,000 "
        "items; CPU",
        "trajectories: ranks every 50 updates, tables every 5, 200 steps each, as the "
        "offline2online study has them; items: a table over all of them, made anew every 50 "
        "updates, so priorities are up to 50 updates old, or at every update, as fresh as the "
        "peers'. Ours run in a scan, as the loops have it; the peers are called from Python and "
        "cpprb also gathers one number an item",
        {
            "trajectories": Contender(
                "Steelyard, trajectories", "sampler_ours.py", ("trajectories",)
            ),
            "items_50": Contender(
                "Steelyard, items, table every 50", "sampler_ours.py", ("items", "--every", "50")
            ),
            "items_1": Contender(
                "Steelyard, items, table every time", "sampler_ours.py", ("items",)
            ),
            "torchrl": Contender("torchrl", "sampler_peers.py", ("torchrl", *THREADS), "current"),
            "cpprb": Contender("cpprb (C++)", "sampler_peers.py", ("cpprb",), "current"),
        },
        {
            f"{name}_ms_{count}": Measure(f"ms, {told}, {count:,} items", "lower", 3)
            for count in (100_000, 1_000_000)
            for name, told in DRAWN.items()
        },
        tuple(
            (a, b) for b in ("torchrl", "cpprb") for a in ("trajectories", "items_50", "items_1")
        ),
    ),
    "influence": Row(
        "Influence of 20,000 items",
        "one trained network of 85,002 parameters, the same 20,000 items, a tenth of them planted "
        "with wrong labels, 500 clean targets; AUROC of wrong labels at the bottom; float32, CPU",
        "ours: influence on the mean likelihood of all targets, by the plain gradient or through a "
        "damped Fisher matrix, compiled before the clock starts; TRAK: one checkpoint, projected "
        "per-item gradients, the mean of its scores over targets. TRAK's features serve further "
        "targets, ours take one more pass for each",
        {
            "plain": Contender("Steelyard, one JVP", "influence_ours.py", ("plain",)),
            "cg": Contender("Steelyard, ten steps of CG and one JVP", "influence_ours.py", ("cg",)),
            "trak_256": Contender(
                "TRAK, k = 256", "influence_trak.py", ("--width", "256"), "current"
            ),
            "trak_2048": Contender(
                "TRAK, k = 2048", "influence_trak.py", ("--width", "2048"), "current", rounds=1
            ),
        },
        {
            "seconds": Measure("s", "lower", 2),
            "cpu_seconds": Measure("CPU-s", "lower", 2),
            "auroc": Measure("AUROC of planted wrong labels", "score", 3),
        },
        tuple((a, b) for b in ("trak_256", "trak_2048") for a in ("plain", "cg")),
        "flips_task.py",
    ),
    "dynamics": Row(
        "Dynamics of a simulated car",
        "12 simulated trajectories of 10 s to learn from, 60 others to be predicted whole and open "
        "loop (car-mujoco, mixed), two of the 12 held out by ours; float32, CPU",
        "mujoco.sysid fits some numbers of the very simulator that made the data, first guesses 20 "
        "to 30 % off: an oracle of the structure, of which only the grip of single trajectories is "
        "hidden. Ours: 1,000 gradient steps on windows of a second; a kinematic car with adapter "
        "and residual networks, or a single-track car with fitted tyres. Seconds of ours hold "
        "compilation",
        {
            "structured": Contender("Steelyard, structured", "car_ours.py", ("structured",)),
            "single_track": Contender("Steelyard, single track", "car_ours.py", ("single_track",)),
            "sysid": Contender("mujoco.sysid", "car_sysid_fit.py", (), "sysid"),
        },
        {
            "seconds": Measure("s to fit", "lower", 1),
            "cpu_seconds": Measure("CPU-s to fit", "lower", 1),
            "ate_mean_m": Measure("mean distance over whole trajectories, m", "lower", 3),
            "ate_median_m": Measure("median of that, m", "lower", 3),
            "second_mean_m": Measure("mean distance after 1 s, m", "lower", 3),
        },
        (("structured", "sysid"), ("single_track", "sysid")),
        "car_task.py",
    ),
}
"""Every comparison by name. ``sac_speed.py`` runs the first; that of ACFQL is cited."""
