"""Runs groups of cells of the study: data, offline phases, online phases."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from steelyard.agents.acfql import ACFQL
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.trajectory_draws import (
    TrajectoryEmphasis,
    TrajectoryItems,
    trajectory_ratio,
)
from steelyard.envs.base import VectorEnv
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import check_disjoint, training_seeds
from steelyard.envs.shared_starts import SharedStarts
from steelyard.studies.cells import Cell, Store, logged, open_folders
from steelyard.studies.hardware import hardware
from steelyard.studies.offline2online.config import Offline2OnlineConfig
from steelyard.studies.offline2online.data import (
    Prepared,
    items_of,
    load_part,
    normaliser_of,
    open_prepared,
    prepare,
    store_of,
)
from steelyard.studies.offline2online.datasets import offline_files
from steelyard.studies.offline2online.files import write_phase_files
from steelyard.studies.offline2online.plan import Data, Offline, Online
from steelyard.studies.offline2online.plots import cluster_pictures
from steelyard.studies.offline2online.policies import load_agent, save_agent
from steelyard.studies.parts import write_outcome
from steelyard.training.checkpoint import stack_runs, take_run
from steelyard.training.chunk_evaluation import ChunkEvaluator, ChunkOutcome
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.offline_rl import Drawing, OfflineRLRun, drawing, train_acfql_offline
from steelyard.training.online_rl import train_online
from steelyard.training.online_rl_programs import OnlineState
from steelyard.training.run_folder import RunFolder, save_arrays, write_json


def execute(
    cells: Sequence[Cell],
    config: Offline2OnlineConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells of one kind to the end."""
    folders = open_folders(cells, store)
    settings = cells[0].config
    names = dict.fromkeys(cell.arm for cell in cells)
    group = RunGroup([cell.seed for cell in cells], folders, ", ".join(names), sinks)
    try:
        if isinstance(settings, Data):
            for cell, folder in zip(cells, folders, strict=True):
                make_data(cell.config, cell.seed, folder, tick)
            return
        tick = logged(tick, folders)
        if isinstance(settings, Offline):
            data = [open_prepared(_place(cell.parent, store)) for cell in cells]
            source = _parent(cells[0]).config
            part = config.parts().get(str(cells[0].axes["task"]))
            interval = None if part is None else part.offline_eval_interval
            learn_offline([cell.config for cell in cells], group, data, source, tick, interval)
        else:
            parents = [_parent(cell) for cell in cells]
            data = [open_prepared(_place(parent.parent, store)) for parent in parents]
            agents = [load_agent(_place(parent, store)) for parent in parents]
            source = _parent(parents[0]).config
            learn_online([cell.config for cell in cells], group, data, agents, source, tick)
    finally:
        group.close()


def _parent(cell: Cell) -> Cell:
    assert cell.parent is not None, "an online phase continues an offline one, and that needs data"
    return cell.parent


def _place(cell: Cell | None, store: Store) -> Path:
    assert cell is not None, "this cell has a parent"
    return store.folder(cell).path


def make_data(settings: Data, seed: int, folder: RunFolder, tick: Ticker) -> None:
    """Record or load a seed's data, cluster it, draw the clusters."""
    prepared = prepare(settings, seed, folder, tick)
    data, clusters = prepared.data, prepared.clusters
    ends = np.cumsum(data.lengths) - 1
    result = {
        "success": data.terminations[ends].astype(int).tolist(),
        "length": data.lengths.tolist(),
        "clusters": np.bincount(clusters.labels, minlength=clusters.k).tolist(),
        "seconds": 0.0,
        "hardware": hardware(),
        "notes": [clusters.note] if clusters.note else [],
    }
    write_json(folder.path / "cluster_metrics.json", clusters.metrics())
    if len(clusters.labels) == len(data):
        write_json(folder.path / "cluster_stats.json", clusters.table(data.lengths))
    cluster_pictures(clusters, data.env_spec.id, data.lengths, folder.path / "plots")
    write_json(folder.path / "result.json", result)
    folder.set_status("done")


def offline_drawing(prepared: Prepared, settings: Offline, segment: int | None) -> Drawing:
    """What an offline phase draws from."""
    store = store_of(prepared, segment, 0)
    horizon = settings.agent.horizon_length
    normaliser = normaliser_of(prepared.data, settings.normalise)
    if settings.emphasis == TrajectoryEmphasis():
        return drawing(store, horizon, normaliser)
    ratios = [
        offline_ratio(settings.emphasis, store, starts, prepared.labels)
        for starts in (store.critic_starts(horizon), store.length)
    ]
    return drawing(store, horizon, normaliser, *ratios)


def rotation(
    cells: Sequence[Offline], first: Sequence[Prepared], source: Data
) -> tuple[int, Callable[[int], list[Drawing]]] | None:
    """How the files of a folder take turns, alike in every arm; none where there is one.

    Labels of later files are those of the first one's nearest clusters.
    """
    if source.dataset is None or len(offline_files(Path(source.dataset))) < 2:
        return None

    def turn(number: int) -> list[Drawing]:
        data = load_part(source, number)
        frames, _ = items_of(data, source.cluster.segment)
        found = []
        for cell, own in zip(cells, first, strict=True):
            labels = np.array([own.clusters.assign(frame) for frame in frames], np.int32)
            found.append(
                offline_drawing(Prepared(data, labels, own.clusters), cell, source.cluster.segment)
            )
        return found

    return cells[0].replace_interval, turn


def offline_ratio(
    emphasis: TrajectoryEmphasis, store: TrajectoryStore, starts: Any, labels: np.ndarray
) -> Any:
    """Density ratio of each trajectory, before anything is known of its errors."""
    unknown = jnp.zeros(len(labels))
    items = TrajectoryItems.of(store, starts, jnp.asarray(labels), unknown)
    return trajectory_ratio(emphasis, items)


def learn_offline(
    cells: Sequence[Offline],
    group: RunGroup,
    data: Sequence[Prepared],
    source: Data,
    tick: Ticker,
    eval_interval: int | None = None,
) -> None:
    """Train and score the offline phases of a group; emphasis alone may differ between them."""
    settings = cells[0]
    run = OfflineRLRun(
        settings.agent,
        settings.steps,
        settings.log_interval,
        eval_interval,
        settings.save_interval,
    )
    drawings = [
        offline_drawing(own, cell, source.cluster.segment)
        for own, cell in zip(data, cells, strict=True)
    ]
    evaluator = _evaluator(settings.env, group, settings.eval_episodes)
    spec = env_spec(settings.env)
    judge = None if eval_interval is None else evaluator
    agents = train_acfql_offline(
        run,
        spec,
        group,
        drawings,
        tick,
        evaluate=judge,
        rotate=rotation(cells, data, source),
    )
    outcome = evaluator.last or evaluator.outcome(agents)
    for i in group.alive:
        save_agent(group.folders[i], take_run(agents, i))
        _finish(group.folders[i], outcome, i, {"updates": settings.steps}, group)


def learn_online(
    cells: Sequence[Online],
    group: RunGroup,
    data: Sequence[Prepared],
    agents: Sequence[ACFQL],
    source: Data,
    tick: Ticker,
) -> None:
    """Train and score the online phases of a group; emphasis alone may differ between them."""
    settings = cells[0]
    config, env = settings.online, settings.env
    for remark in data_remarks(cells, data):
        print(f"note: {remark}", file=sys.stderr)
    room = min(config.online_steps, max(config.buffer_size - data[0].data.num_steps, 1))
    stores = [store_of(own, source.cluster.segment, room) for own in data]
    labels = [_labels(own, store) for own, store in zip(data, stores, strict=True)]
    emphases = [cell.emphasis for cell in cells]
    evaluator = _evaluator(env, group, settings.eval_episodes)

    def make(generation: int) -> VectorEnv:
        seeds = [training_seeds(seed, 1, generation)[0] for seed in group.seeds]
        return SharedStarts(env, seeds)

    assigned = [cell.cluster_online == "assign" for cell in cells]

    def assign(run: int, observations: np.ndarray) -> int:
        own = data[run].clusters
        return own.assign(observations) if assigned[run] else own.k

    state = train_online(
        settings.agent,
        config,
        group,
        stack_runs(list(agents)),
        stores,
        labels,
        emphases,
        make,
        evaluator,
        tick,
        assign if any(assigned) else None,
    )
    outcome = evaluator.last or evaluator.outcome(state.agent)
    for i in group.alive:
        save_agent(group.folders[i], take_run(state.agent, i))
        save_arrays(group.folders[i].path / "priorities.npz", _priorities(state, i))
        if settings.keep_online:
            save_arrays(group.folders[i].path / "data.npz", _played(state.store, i))
        _finish(group.folders[i], outcome, i, {"frames": config.online_steps}, group)


def data_remarks(cells: Sequence[Online], data: Sequence[Prepared]) -> list[str]:
    """What the data make of an emphasis: scores that are all equal draw uniformly."""
    by_success = {cell.emphasis.critic.metric for cell in cells} & {"success_binary"}
    barren = [own for own in data if not own.data.terminations.any()]
    if by_success and barren:
        return ["no demonstration succeeds, so success_binary begins as the uniform sampler"]
    return []


def _labels(prepared: Prepared, store: TrajectoryStore) -> np.ndarray:
    """Cluster of each place; new ones are a cluster of their own until they are assigned."""
    labels = np.full(store.length.shape[0], prepared.clusters.k, np.int32)
    labels[: len(prepared.labels)] = prepared.labels
    return labels


def _priorities(state: OnlineState, run: int) -> dict[str, np.ndarray]:
    names = {"mean": state.priorities.mean, "count": state.priorities.count}
    names |= {"ratio": state.critic_ratio, "length": state.store.length, "label": state.labels}
    return {name: np.asarray(value[run]) for name, value in names.items()}


def _played(stores: TrajectoryStore, run: int) -> dict[str, np.ndarray]:
    """What a run still holds of what it played, end to end: columns, and length by trajectory."""
    store = take_run(stores, run)
    new = np.flatnonzero(np.asarray(store.new))
    order = new[np.argsort(np.asarray(store.order)[new])]
    lengths, offsets = np.asarray(store.length)[order], np.asarray(store.offset)[order]
    rows = [np.arange(o, o + n) for o, n in zip(offsets, lengths, strict=True)]
    inside = np.concatenate(rows) if rows else np.zeros(0, int)
    return {
        "observations": np.asarray(store.observation)[inside],
        "actions": np.asarray(store.action)[inside],
        "rewards": np.asarray(store.reward)[inside],
        "terminated": np.asarray(store.terminated)[inside],
        "lengths": lengths,
        "final_observations": np.asarray(store.observation)[offsets + lengths],
    }


def _evaluator(env: str, group: RunGroup, episodes: int) -> ChunkEvaluator:
    evaluator = ChunkEvaluator(env, len(group.seeds), episodes)
    for seed in group.seeds:
        check_disjoint(training_seeds(seed, 1), evaluator.starts)
    return evaluator


def _finish(
    folder: RunFolder, outcome: ChunkOutcome, index: int, more: dict[str, Any], group: RunGroup
) -> None:
    """Write a run's result and the reference's files, which is all."""
    write_outcome(folder, group, outcome.success[index], outcome.length[index], more)
    write_phase_files(folder)
    group.finish(index)
