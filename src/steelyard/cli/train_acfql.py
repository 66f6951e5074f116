"""``steelyard train acfql``: one run of the offline-to-online study, with the reference's flags."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from steelyard.agents.acfql import ACFQLConfig
from steelyard.emphasis.trajectory_clusters import ClusterConfig, Criterion
from steelyard.emphasis.trajectory_draws import TD_METRIC, TrajectoryEmphasis
from steelyard.envs.registry import env_spec
from steelyard.numerics.tail_statistics import wilson
from steelyard.studies.cells import Cell, Saved, Store
from steelyard.studies.executors import run_group
from steelyard.studies.hardware import use_device
from steelyard.studies.offline2online import STUDY
from steelyard.studies.offline2online.arms import ClusterOnline, OffOnArm
from steelyard.studies.offline2online.config import (
    QUICK_AGENT,
    QUICK_ONLINE,
    Part,
    configure,
    reference_part,
)
from steelyard.studies.offline2online.datasets import content_hash
from steelyard.studies.offline2online.names import find_task
from steelyard.studies.offline2online.plan import data_cell, offline_cell, online_cell
from steelyard.studies.offline2online.rules import check_part, remarks
from steelyard.training.metrics import SinkOptions
from steelyard.training.online_rl import OnlineRLConfig
from steelyard.training.online_rl_programs import DrawSettings, RunEmphasis
from steelyard.training.progress import progress

PLAIN = tyro.conf.arg(name="")
PROG = "steelyard train acfql"
SIZES = ("task", "reference")
SEGMENT = 50
STEPS_PER_S = 80
"""Of MetaWorld's simulated time."""


@dataclasses.dataclass(frozen=True)
class TrainACFQL:
    """Train ACFQL offline, then online; the reference's flags, and `True` and `False` as it has."""

    agent: ACFQLConfig
    """Learner."""
    env_name: str = "sparse/HandlePress-v3"
    """Task; the reference's names work too, e.g. `square-mh-low`."""
    preset: str = "task"
    """Sizes: `task` are those of the study's quick preset, `reference` the reference's."""
    run_group: str = "acfql"
    """Name of the arm."""
    regime: str | None = "conflict"
    """Who demonstrates, where a task has operators; see `steelyard data generate operators`."""
    dataset: Path | None = None
    """A dataset instead; none looks where the reference's data lie."""
    ogbench_dataset_dir: Path | None = None
    """A folder of several OGBench files, rotated through."""
    sparse: bool = False
    """Whether rewards that are not 0 become -1 (scene, puzzle-3x3)."""
    horizon_length: int | None = None
    """The same as `agent.horizon_length`."""
    discount: float | None = None
    """The same as `agent.discount`."""
    use_weighted_target: bool | None = None
    """The same as `agent.use_weighted_target`."""
    beta: float | None = None
    """The same as `agent.beta`."""
    offline_steps: int = 1_000
    """Updates offline."""
    online_steps: int = 2_000
    """Environment steps online."""
    start_training: int = 0
    """Online steps before the first update."""
    utd_ratio: int = 1
    """Updates per online step."""
    buffer_size: int = 2_000_000
    """Steps kept, offline ones included."""
    metric: str = "uniform"
    """What ranks trajectories online: `td_error_rank`, `success_binary`, `avg_reward`, …;
    `uniform` draws every start alike."""
    cluster_sampler: bool = False
    """Whether clusters are drawn alike offline."""
    cluster_online: ClusterOnline = "own"
    """Where new trajectories go; `off` draws every start alike online, as the reference does."""
    cluster_k: int | None = None
    """Number of clusters; none chooses it."""
    k_criterion: Criterion = "return"
    """What chooses the number of clusters."""
    unit: Literal["trajectory", "segment"] = "trajectory"
    """What is clustered and ranked: whole trajectories, or segments of 50 starts (play data)."""
    use_ptr_backward: bool = True
    """Whether trajectories are drawn at all; without it every start is alike (the reference's
    name for its trajectory sampler)."""
    use_ptr_online_priority: bool = True
    """Whether priorities follow TD errors online."""
    ptr_warmup_steps: int = 50
    """Online steps before ranks count."""
    rerank_interval: int = 50
    """Updates between two rankings."""
    importance_exponent: tuple[float, float] = (0.4, 1.0)
    """Power of the correction of ranked draws, at the first step and at the last."""
    base: Literal["transitions", "trajectories"] = "transitions"
    """What is uniform where nothing is emphasised; the reference draws trajectories alike."""
    backward: bool = False
    """Whether each trajectory is walked from its last start to its first."""
    offline_ratio: float | None = None
    """0.5 takes half of every online batch from the offline data; none merges all."""
    log_interval: int = 250
    """Steps between rows of metrics."""
    eval_interval: int = 500
    """Steps between evaluations."""
    save_interval: int = 500
    """Steps between checkpoints."""
    eval_episodes: int = 20
    """Fixed start states, one episode each."""
    video_episodes: int = 0
    """Episodes of the final policy to film, where the task can be drawn."""
    video_frame_skip: int = 3
    """Steps between two pictures of a film."""
    dataset_proportion: float = 1.0
    """Share of the dataset's trajectories to use, the first ones."""
    dataset_replace_interval: int = 1000
    """Updates between two files of a folder."""
    save_all_online_states: bool = False
    """Whether to write all that was played online to `data.npz`."""
    normalise: bool = True
    """Whether observations are normalised by the data."""
    seed: int = 0
    """Seed of data, learner and environments."""
    save_dir: Path = Path("runs")
    """Folder of all runs."""
    entity: str | None = None
    """Entity of Weights & Biases, with `--wandb True`."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    sinks: Annotated[SinkOptions, PLAIN] = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""


def train_acfql(rest: list[str]) -> None:
    """Run ``train acfql``."""
    config = (tyro.conf.FlagConversionOff,)
    options = tyro.cli(
        TrainACFQL, default=_defaults(rest), args=_joined(rest), prog=PROG, config=config
    )
    part, arm = _settings(options)
    check_part(part)
    for remark in remarks(part, arm):
        print(f"note: {remark}", file=sys.stderr)
    use_device(options.device)
    axes = {"task": part.env}
    cells = [
        data_cell(part, axes, options.seed),
        offline_cell(part, axes, options.seed, arm),
        online_cell(part, axes, options.seed, options.run_group, arm),
    ]
    store = Store(options.save_dir, "offline2online")
    sinks = dataclasses.replace(options.sinks, wandb_entity=options.entity)
    whole = dataclasses.replace(configure("smoke"), custom=part, seeds=(options.seed,))
    saved = Saved("offline2online", options.preset, " ".join(sys.argv), sinks, whole)
    for cell in cells:
        if not store.is_done(cell):
            with progress(f"{cell.label}, seed {cell.seed}", cell.size) as tick:
                run_group(STUDY, [cell], saved, store, tick)
        _tell(cell, store)
    _film(cells[-1], store, options)


def _joined(rest: list[str]) -> list[str]:
    """Arguments without the stray line continuations that the reference's commands end with."""
    return [word for word in rest if word.strip() not in ("", "\\")]


def _defaults(rest: list[str]) -> TrainACFQL:
    """Defaults of the preset."""
    preset = "task"
    for place, word in enumerate(rest):
        if word == "--preset" and place + 1 < len(rest):
            preset = rest[place + 1]
        elif word.startswith("--preset="):
            preset = word.removeprefix("--preset=")
    if preset not in SIZES:
        raise ValueError(f"preset is one of {', '.join(SIZES)}, got {preset!r}")
    if preset == "task":
        return TrainACFQL(QUICK_AGENT)
    part = reference_part("sparse/HandlePress-v3", None)
    online = part.online
    return TrainACFQL(
        part.agent,
        preset="reference",
        offline_steps=part.offline_steps,
        online_steps=online.online_steps,
        start_training=online.start_training,
        ptr_warmup_steps=online.ptr_warmup_steps,
        rerank_interval=1,
        importance_exponent=(0.0, 0.0),
        base="trajectories",
        cluster_online="off",
        log_interval=online.log_interval,
        eval_interval=online.eval_interval,
        save_interval=online.save_interval,
        eval_episodes=50,
        normalise=False,
    )


def _settings(options: TrainACFQL) -> tuple[Part, OffOnArm]:
    """What the flags mean.

    Raises:
        ValueError: Two of them contradict each other, or a value is refused.
    """
    task = find_task(options.env_name)
    env_spec(task.env)  # refuses an unknown task, with the nearest ones
    shortcuts = {
        name: value
        for name in ("horizon_length", "discount", "use_weighted_target", "beta")
        if (value := getattr(options, name)) is not None
    }
    ranked = options.use_ptr_backward and options.metric != "uniform"
    if ranked and options.metric == TD_METRIC and not options.use_ptr_online_priority:
        raise ValueError(
            "priorities would never change: metric td_error_rank needs use_ptr_online_priority True"
        )
    if options.offline_ratio not in (None, 0.5):
        raise ValueError(f"offline_ratio is 0.5 or none, got {options.offline_ratio}")
    if not 0.0 < options.dataset_proportion <= 1.0:
        raise ValueError(f"dataset_proportion lies in (0, 1], got {options.dataset_proportion}")
    if options.cluster_sampler and options.cluster_k == 1:
        raise ValueError("cluster_sampler with cluster_k = 1 has nothing to balance; at least 2")
    dataset = options.ogbench_dataset_dir or options.dataset or task.dataset
    regime = options.regime if dataset is None else None
    if regime == "conflict" and task.env == "sparse/Fork-v0":
        regime = "fork"
    online = dataclasses.replace(
        QUICK_ONLINE if options.preset == "task" else OnlineRLConfig(),
        online_steps=options.online_steps,
        start_training=options.start_training,
        utd_ratio=options.utd_ratio,
        buffer_size=options.buffer_size,
        ptr_warmup_steps=options.ptr_warmup_steps,
        rerank_interval=options.rerank_interval,
        importance_exponent=options.importance_exponent,
        log_interval=options.log_interval,
        eval_interval=options.eval_interval,
        save_interval=options.save_interval,
    )
    part = Part(
        task.env,
        regime,
        None if dataset is None else str(dataset),
        sha256=content_hash(dataset) if dataset is not None and dataset.exists() else (),
        sparse=options.sparse,
        arms=(options.run_group,),
        seeds=(options.seed,),
        agent=dataclasses.replace(options.agent, **shortcuts),
        offline_steps=options.offline_steps,
        online=online,
        cluster=ClusterConfig(
            options.cluster_k,
            options.k_criterion,
            SEGMENT if options.unit == "segment" else None,
        ),
        normalise=options.normalise,
        eval_episodes=options.eval_episodes,
        proportion=options.dataset_proportion,
        replace_interval=options.dataset_replace_interval,
        keep_online=options.save_all_online_states,
        offline_eval_interval=options.eval_interval,
    )
    return part, _arm(options, ranked)


def _arm(options: TrainACFQL, ranked: bool) -> OffOnArm:
    """What is drawn, as the flags have it."""
    plain = TrajectoryEmphasis(
        "trajectories" if options.use_ptr_backward and options.base == "trajectories" else "uniform"
    )
    if options.offline_ratio is not None:
        plain = TrajectoryEmphasis("symmetric")
    balanced = TrajectoryEmphasis("balanced")
    offline = balanced if options.cluster_sampler else TrajectoryEmphasis(
        "trajectories" if plain.weighting == "trajectories" else "uniform"
    )  # fmt: skip
    kept = options.cluster_sampler and options.cluster_online != "off"
    critic = actor = balanced if kept else plain
    if ranked:
        corrected = options.importance_exponent != (0.0, 0.0)
        critic = TrajectoryEmphasis("rank", metric=options.metric, corrected=corrected)
    draws = DrawSettings(backward="walk" if options.backward else "no")
    return OffOnArm(
        options.run_group,
        "from the command line",
        offline,
        RunEmphasis(critic, actor),
        options.cluster_online,
        draws=draws,
    )


def _tell(cell: Cell, store: Store) -> None:
    """Say how a cell ended."""
    folder = store.folder(cell)
    status, result = folder.status(), folder.read("result.json")
    if result is None:
        raise FloatingPointError(status.get("error", f"{folder.path} has no result"))
    won = np.asarray(result["success"])
    rate = wilson(int(won.sum()), len(won))
    what = "demonstrations" if cell.parent is None else "episodes"
    print(
        f"{cell.arm}: {won.sum()} of {len(won)} {what} succeed, {rate.value:.1%} "
        f"[{rate.low:.1%}, {rate.high:.1%}] (95 %, Wilson)"
    )
    print(f"run folder: {folder.path}")


def _film(cell: Cell, store: Store, options: TrainACFQL) -> None:
    """Film the final policy, where this machine can draw the task."""
    if not options.video_episodes:
        return
    from steelyard.cli.off_on_runs import film

    per_second = max(1, round(STEPS_PER_S / options.video_frame_skip))
    film(store.folder(cell).path, options.video_episodes, frames_per_s=per_second)
