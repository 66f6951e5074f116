"""``steelyard data generate operators | robosuite | ogbench`` and ``data cluster``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.formats import FORMATS
from steelyard.emphasis.trajectory_clusters import ClusterConfig, Criterion, cluster_trajectories
from steelyard.emphasis.trajectory_features import layout_of
from steelyard.envs.ogbench import COLLECT_STEPS, base_name
from steelyard.envs.registry import env_spec
from steelyard.envs.scripted.operators import TASKS
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.imitation.sources import find_dataset
from steelyard.studies.offline2online.data import items_of
from steelyard.studies.offline2online.datasets import load_offline_data
from steelyard.studies.offline2online.plots import cluster_pictures
from steelyard.training.lifter_demonstrations import MIXES, lifter_steps, record_lifters
from steelyard.training.ogbench_data import generate_ogbench
from steelyard.training.operator_demonstrations import (
    REGIMES,
    SPARSE,
    Recorded,
    find_regime,
    record_operators,
    regime_steps,
)
from steelyard.training.progress import progress
from steelyard.training.run_folder import write_json

_TASKS = ", ".join(f"`{task}`" for task in TASKS)
_REGIMES = ", ".join(f"`{name}` ({r.episodes} episodes)" for name, r in REGIMES.items())
SEGMENT = 50
UNITS = {"trajectory": "trajectories", "segment": "segments"}


@dataclasses.dataclass(frozen=True)
class GenerateOperators:
    """Record demonstrations of uneven operators on a sparse task."""

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(help=f"One of {_TASKS}.")]
    regime: Annotated[str, tyro.conf.arg(help=f"Who plays how much: {_REGIMES}.")] = "conflict"
    seed: int = 0
    """Of order, start states and noise."""
    out: Path | None = None
    """Folder to write; none takes `expert_data/sparse/<task>/<regime>/seed<seed>`."""
    overwrite: bool = False
    """Replace what is there."""


@dataclasses.dataclass(frozen=True)
class GenerateRobosuite:
    """Record demonstrations of robosuite's scripted operators; needs `steelyard[robosuite]`."""

    task: Annotated[str, tyro.conf.Positional]
    """`lift`, `can` or `square`."""
    operators: Literal["mh", "ph", "better", "okay", "worse"] = "mh"
    """Who acts: `mh` are six of uneven skill, a stand-in for robomimic's multi-human data."""
    episodes: int = 300
    """How many, from all operators together."""
    seed: int = 0
    """Of order, start states and noise."""
    format: Literal["robomimic", "native"] = "robomimic"
    """Format to write."""
    out: Path | None = None
    """Where to; none takes `expert_data/robosuite/<task>/<operators>/seed<seed>`."""
    overwrite: bool = False
    """Replace what is there."""


@dataclasses.dataclass(frozen=True)
class GenerateOGBench:
    """Let OGBench's oracles play with a task's objects; needs `steelyard[ogbench]`."""

    task: Annotated[str, tyro.conf.Positional]
    """Task, e.g. `cube-double`."""
    kind: Literal["play", "noisy"] = "play"
    """Planned motions with correlated noise, or reactive ones with some random actions."""
    steps: int = 1_000_000
    """Rows of the training file; a tenth as many are for validation."""
    seed: int = 0
    """Of everything."""
    workers: int = 2
    """Processes; they do not change the data."""
    out: Path = Path("ogbench_data")
    """Folder of the two files."""
    overwrite: bool = False
    """Replace what is there."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Cluster the trajectories of a dataset by what they look like, and draw them."""

    path: Annotated[Path, tyro.conf.Positional]
    """Dataset."""
    env: str | None = None
    """Task, where the data do not name it."""
    k: int | None = None
    """Number of clusters; none chooses it."""
    k_criterion: Criterion = "return"
    """What chooses the number: likeness of returns, silhouette, or agreement of bootstraps."""
    unit: Literal["trajectory", "segment"] = "trajectory"
    """Whole trajectories, or segments of 50 steps."""
    sparse: bool = False
    """Whether rewards that are not 0 become -1."""
    seed: int = 0
    """Of k-means' restarts."""
    out: Path | None = None
    """Folder of pictures and `clusters.json`; none puts `<name>_clusters` beside the data."""


def generate_operators(rest: list[str]) -> None:
    """Run ``data generate operators``."""
    options = tyro.cli(GenerateOperators, args=rest, prog="steelyard data generate operators")
    env = SPARSE + options.task.removeprefix(SPARSE)
    find_regime(options.regime, env)
    own = Path("expert_data") / env / options.regime / f"seed{options.seed}"
    out = _place(options.out or own, options.overwrite)
    with progress(f"{env}, {options.regime}", regime_steps(env, options.regime)) as tick:
        recorded = record_operators(env, options.regime, options.seed, tick)
    _summary(recorded)
    print(f"written: {recorded.data.save(out, overwrite=options.overwrite)}")
    write_json(out / "operators.json", list(recorded.operators))


def generate_robosuite(rest: list[str]) -> None:
    """Run ``data generate robosuite``."""
    options = tyro.cli(GenerateRobosuite, args=rest, prog="steelyard data generate robosuite")
    env = f"robosuite/{options.task}"
    env_spec(env)
    if options.operators not in MIXES or options.episodes < 1:
        raise ValueError(f"episodes is at least 1, got {options.episodes}")
    name = f"seed{options.seed}"
    stem = Path("expert_data") / env / options.operators / name
    own = FORMATS[options.format].path_for(stem)
    out = _place(options.out or own, options.overwrite)
    total = lifter_steps(options.task, options.episodes)
    with progress(f"{env}, {options.operators}", total) as tick:
        recorded = record_lifters(
            options.task, options.operators, options.episodes, options.seed, tick
        )
    _summary(recorded)
    path = recorded.data.save(out, options.format, overwrite=options.overwrite)
    print(f"written: {path}")
    print("scripted, not human: nothing on it may be compared with results on human data")


def generate_play(rest: list[str]) -> None:
    """Run ``data generate ogbench``."""
    options = tyro.cli(GenerateOGBench, args=rest, prog="steelyard data generate ogbench")
    name = base_name(options.task)
    if options.steps < 1 or options.workers < 1:
        raise ValueError(
            f"steps and workers are at least 1, got {options.steps} and {options.workers}"
        )
    episodes = -(-options.steps // COLLECT_STEPS)
    total = (episodes + max(1, round(episodes / 10))) * COLLECT_STEPS
    with progress(f"{name}, {options.kind}", total) as tick:
        files = generate_ogbench(
            name,
            options.kind,
            options.steps,
            options.seed,
            options.out,
            options.workers,
            options.overwrite,
            tick,
        )
    print(f"written: {files[0]} and {files[1]}")


def cluster(rest: list[str]) -> None:
    """Run ``data cluster``."""
    options = tyro.cli(Cluster, args=rest, prog="steelyard data cluster")
    path = options.path if options.path.exists() else find_dataset(options.path)
    if options.env is not None and options.env.startswith(("ogbench/", "robosuite/")):
        data = load_offline_data(path, options.env, options.sparse)
    else:
        data = Demonstrations.load(path, None if options.env is None else env_spec(options.env))
    if data.rewards is None:
        raise ValueError(f"{path} has no rewards, whose likeness chooses the clusters")
    env = options.env or data.env_spec.id
    length = SEGMENT if options.unit == "segment" else None
    frames, returns = items_of(data, length)
    layout = layout_of(env, data.env_spec.observation_size)
    config = ClusterConfig(options.k, options.k_criterion, length)
    found = cluster_trajectories(frames, returns, layout, config, options.seed)
    out = options.out or path.with_name(f"{path.name}_clusters")
    lengths = np.array([len(frame) - 1 for frame in frames])
    print(f"{found.k} clusters of {len(frames)} {UNITS[options.unit]}, by {found.chosen_by}")
    if found.note:
        print(f"note: {found.note}")
    print("cluster  number  length        return")
    for row in found.table(lengths):
        spread = f"{row['len_mean']:.1f} ± {row['len_std']:.1f}"
        print(f"{row['cid']:>7}  {row['n']:>6}  {spread:<12}  {row['ret_mean']:.2f}")
    told = {"labels": found.labels.tolist(), "stats": found.table(lengths), **found.metrics()}
    write_json(out / "clusters.json", told)
    for picture in cluster_pictures(found, env, lengths, out):
        print(picture)


def _place(out: Path, overwrite: bool) -> Path:
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists. Choose another --out, or pass --overwrite.")
    return out


def _summary(recorded: Recorded) -> None:
    """Success and length by operator."""
    data = recorded.data
    won = data.terminations[np.cumsum(data.lengths) - 1]
    who = np.array(recorded.operators)
    for name in dict.fromkeys(recorded.operators):
        own = who == name
        rate = wilson(int(won[own].sum()), int(own.sum()))
        print(
            f"{name:<10} {own.sum():>4} episodes, {won[own].sum():>4} succeed "
            f"[{rate.low:.2f}, {rate.high:.2f}], {data.lengths[own].mean():.0f} steps"
        )
    print(f"{len(data)} episodes, {data.num_steps:,} steps, {won.mean():.0%} succeed")


GENERATORS = {
    "operators": generate_operators,
    "robosuite": generate_robosuite,
    "ogbench": generate_play,
}
"""By the word after ``data generate``."""
