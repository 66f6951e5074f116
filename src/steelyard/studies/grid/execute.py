"""Runs groups of cells of the study: episodes, then scores, ratios and learning."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.agents.bc import BC
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.normalisation import Normaliser, Statistics
from steelyard.data.trajectory_store import TrajectoryStore
from steelyard.emphasis.demonstrations import EmphasisConfig, episode_ratios
from steelyard.emphasis.diagnostics import diagnose
from steelyard.emphasis.measures import length_base
from steelyard.envs.registry import env_spec
from steelyard.evaluation.evaluator import Evaluator
from steelyard.evaluation.success import Outcome, play
from steelyard.studies.cells import Cell, Store, logged, open_folders
from steelyard.studies.grid.config import GridConfig
from steelyard.studies.grid.episodes import Played, open_played, record
from steelyard.studies.grid.plan import Cloned, Data, Offline, data_of
from steelyard.studies.hardware import hardware
from steelyard.studies.parts import write_outcome
from steelyard.training.checkpoint import load_tree, save_tree, take_run
from steelyard.training.chunk_evaluation import ChunkEvaluator
from steelyard.training.episode_scores import cloning_losses, score_episodes
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.offline_rl import Drawing, OfflineRLRun, drawing, train_acfql_offline
from steelyard.training.recipes import train_bc
from steelyard.training.run_folder import write_json

POLICY = "policy.safetensors"
AT_ONCE = 4
"""Clones that are played at once."""
NOISE = 0xA11
"""Second seed of the scores that chance makes."""
Scores = Float[np.ndarray, " episode"]


def execute(
    cells: Sequence[Cell],
    config: GridConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells of one kind to the end."""
    folders = open_folders(cells, store)
    names = ", ".join(dict.fromkeys(cell.arm for cell in cells))
    group = RunGroup([cell.seed for cell in cells], folders, names, sinks)
    work = {Data: _play, Cloned: _clone, Offline: _learn_offline}[type(cells[0].config)]
    try:
        work(cells, group, store, logged(tick, folders))
    finally:
        group.close()


def _play(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    for cell, folder in zip(cells, group.folders, strict=True):
        played = record(cell.config, cell.seed, folder, tick)
        ends = np.cumsum(played.data.lengths) - 1
        won = int(played.data.terminations[ends].sum())
        told = {"episodes": len(played.data), "won": won, "seconds": 0.0, "hardware": hardware()}
        write_json(folder.path / "result.json", told)
        folder.set_status("done")


def _clone(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """Train and score an arm of cloning."""
    settings: Cloned = cells[0].config
    played = [open_played(store.folder(data_of(cell))) for cell in cells]
    data = [own.chosen(c.config.episodes) for c, own in zip(cells, played, strict=True)]
    scores = [scores_of(c, d, p, store) for c, d, p in zip(cells, data, played, strict=True)]
    emphases = [cell.config.emphasis for cell in cells]
    agents: Any = train_bc(settings.run, group, data, tick, emphases, scores)
    found = _played(agents, settings, len(cells))
    for i in group.alive:
        save_tree(group.folders[i].checkpoints / POLICY, take_run(agents, i))
        ratio = None
        if settings.run.agent.reduction != "cvar":  # its ratios are a batch's, not the data's
            ratio = episode_ratios(data[i], emphases[i], cells[i].seed, scores[i])
        more = {"updates": settings.run.min_steps, "emphasis": felt(data[i], ratio, played[i])}
        _finish(group, i, found.success[i], found.length[i], more)


def _played(agents: Any, settings: Cloned, runs: int) -> Outcome:
    """What stacked clones achieve, a few of them at a time: a simulated arm takes some 20 MB."""
    evaluator, parts = Evaluator(settings.env, AT_ONCE, settings.eval_episodes), []
    for first in range(0, runs, AT_ONCE):
        own, count = take_run(agents, slice(first, first + AT_ONCE)), min(AT_ONCE, runs - first)
        policies = evaluator.policies(own)
        parts.append(play(policies, settings.env, evaluator.starts, count, ends_at_goal=True))
    return Outcome(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _learn_offline(cells: Sequence[Cell], group: RunGroup, store: Store, tick: Ticker) -> None:
    """Train and score arms of flow Q-learning; which episodes they draw alone may differ."""
    settings: Offline = cells[0].config
    drawings, described = [], []
    for cell in cells:
        played = open_played(store.folder(data_of(cell)))
        data = played.chosen(settings.episodes)
        own, ratio = offline_drawing(cell, data, scores_of(cell, data, played, store))
        tail = settings.agent.reduction == "cvar"
        drawings.append(own)
        described.append(felt(data, None if tail else ratio, played))
    run = OfflineRLRun(settings.agent, settings.steps)
    agents = train_acfql_offline(run, env_spec(settings.env), group, drawings, tick)
    success, length = _played_chunks(agents, settings, len(cells))
    for i in group.alive:
        more = {"updates": settings.steps, "emphasis": described[i]}
        _finish(group, i, success[i], length[i], more)


def _played_chunks(agents: Any, settings: Offline, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and length of what stacked learners of chunks achieve, a few of them at a time."""
    parts = []
    for first in range(0, runs, AT_ONCE):
        count = min(AT_ONCE, runs - first)
        evaluator = ChunkEvaluator(settings.env, count, settings.eval_episodes)
        found = evaluator.outcome(take_run(agents, slice(first, first + count)))
        parts.append((found.success, found.length))
    success, length = zip(*parts, strict=True)
    return np.concatenate(success), np.concatenate(length)


def _finish(
    group: RunGroup, i: int, success: np.ndarray, length: np.ndarray, more: dict[str, Any]
) -> None:
    write_outcome(group.folders[i], group, success, length, more)
    group.finish(i)


def scores_of(cell: Cell, data: Demonstrations, played: Played, store: Store) -> Scores | None:
    """The scores that are given to a cell's emphasis; none where it has a score by name."""
    by = cell.config.by
    if by is None:
        return None
    if by == "random":
        return np.random.default_rng([cell.seed, NOISE]).normal(size=len(data))
    parent = cell.parent
    assert parent is not None, "a clone of uniform data makes these scores"
    losses, params = cloning_losses(open_clone(parent, store))
    return score_episodes(by, losses, params, data, played.reference)


def open_clone(cell: Cell, store: Store) -> BC:
    """The learner that a finished cell of cloning kept."""
    settings: Cloned = cell.config
    spec = env_spec(settings.env)
    plain, steps = Normaliser.identity(spec.observation_size), settings.run.min_steps
    like = BC.create(jax.random.key(0), spec, settings.run.agent, plain, steps)
    return load_tree(store.folder(cell).checkpoints / POLICY, like)


def offline_drawing(
    cell: Cell, data: Demonstrations, scores: Scores | None
) -> tuple[Drawing, Scores]:
    """What an arm of flow Q-learning draws from, and the policy's ratio of every episode."""
    settings: Offline = cell.config
    rows = len(data) * (data.env_spec.max_episode_steps + 1)
    places = TrajectoryStore.of(data, 0, 0, rows, None)
    horizon = settings.agent.horizon_length
    normaliser = Statistics.of(jnp.asarray(data.observations)).normaliser()
    if settings.emphasis == EmphasisConfig():
        return drawing(places, horizon, normaliser), np.ones(len(data))

    def ratio(starts: Array) -> Scores:
        base = length_base(starts)
        return episode_ratios(data, settings.emphasis, cell.seed, scores, base)

    critic, actor = ratio(places.critic_starts(horizon)), ratio(places.length)
    return drawing(places, horizon, normaliser, jnp.asarray(critic), jnp.asarray(actor)), actor


def felt(data: Demonstrations, ratio: Scores | None, played: Played) -> dict[str, float]:
    """What an emphasis did to the data, for people: nothing learns from who is competent."""
    if ratio is None or len(data) != len(played.data):
        return {}
    base = np.asarray(length_base(jnp.asarray(data.lengths, jnp.int32)))
    share = base * np.asarray(ratio, np.float32)
    found = diagnose(jnp.asarray(share), jnp.asarray(ratio, jnp.float32), base=jnp.asarray(base))
    told = {name: float(found[name]) for name in ("ess_share", "touched_share", "max_weight")}
    return told | {"competent_share": float(share[played.competent].sum())}
