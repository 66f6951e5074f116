"""Runs groups of cells of the imitation study and writes what each of them measured."""

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from steelyard.agents.ipmd import IPMD
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.envs.seeding import start_seeds, training_seeds
from steelyard.evaluation.evaluator import Evaluator, random_returns
from steelyard.evaluation.music import make_evaluator
from steelyard.evaluation.rollouts import record_episodes
from steelyard.studies.cells import Cell, Store, logged, open_folders
from steelyard.studies.hardware import hardware
from steelyard.studies.imitation.config import ImitationConfig
from steelyard.studies.imitation.plan import Anchor, Expert
from steelyard.studies.imitation.scores import with_scores
from steelyard.studies.imitation.sources import (
    demonstrations_of,
    expert_data_folder,
    random_demonstrations,
)
from steelyard.training.checkpoint import save_tree, take_run
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions, read_rows
from steelyard.training.recipes import (
    BCRun,
    IPMDRun,
    SACRun,
    bc_steps,
    hold_out,
    train_bc,
    train_ipmd,
    train_sac,
)
from steelyard.training.run_folder import RunFolder, versions, write_json

ALIGNMENT_EPISODES = 5
"""Random episodes beside the demonstrations, on which a learned reward meets the task's."""


def execute(
    cells: Sequence[Cell],
    config: ImitationConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells of one arm to the end."""
    for part in _in_lockstep(cells, config, store):
        _execute(part, config, store, tick, sinks)


def _in_lockstep(cells: Sequence[Cell], config: ImitationConfig, store: Store) -> list[list[Cell]]:
    """Cells by their number of steps: that of a clone follows from the size of its own data."""
    run = getattr(cells[0].config, "run", None)
    if not isinstance(run, BCRun):
        return [list(cells)]
    parts: dict[int, list[Cell]] = {}
    for cell in cells:
        data = demonstrations_of(cell, config, store)
        parts.setdefault(bc_steps(run, [data], [cell.seed]), []).append(cell)
    return list(parts.values())


def _execute(
    cells: Sequence[Cell],
    config: ImitationConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions,
) -> None:
    folders = open_folders(cells, store)
    group = RunGroup([cell.seed for cell in cells], folders, cells[0].arm, sinks)
    settings = cells[0].config
    if isinstance(settings, Anchor):
        returns = random_returns(settings.env, list(group.seeds), settings.episodes)
        for folder, own in zip(folders, returns, strict=True):
            if _write_result(folder, own, {}):
                folder.set_status("done")
        tick(1)
        return
    try:
        _train(cells, group, config, store, logged(tick, folders))
    finally:
        group.close()


def _train(
    cells: Sequence[Cell],
    group: RunGroup,
    config: ImitationConfig,
    store: Store,
    tick: Ticker,
) -> None:
    settings, folders = cells[0].config, group.folders
    run, datasets = settings.run, []
    used = _seeds_used(run, group)
    evaluator = make_evaluator(config.env, len(cells), settings.eval_episodes, used)
    if isinstance(run, SACRun):
        agents = train_sac(run, group, tick, evaluator)
        name, amount = "sac_expert", {"frames": run.loop.frames}
    else:
        datasets = [demonstrations_of(cell, config, store) for cell in cells]
        if isinstance(run, BCRun):
            name, amount = "bc_policy_seed{seed}", _bc_amount(run, datasets, group.seeds)
            for folder in folders:
                folder.set_status("running", total=amount["updates"])
            agents = train_bc(run, group, datasets, tick)
        else:
            evaluate = with_scores(evaluator, cells, config, store)
            agents = train_ipmd(run, group, datasets, tick, evaluate)
            name, amount = "ipmd_model", {"frames": run.loop.frames}
    returns = evaluator.returns(agents)
    for i in group.alive:
        seed, folder = group.seeds[i], folders[i]
        policy = folder.checkpoints / f"{name.format(seed=seed)}.safetensors"
        save_tree(policy, take_run(agents, i))
        more: dict[str, Any] = dict(amount)
        if isinstance(settings, Expert):
            _record_demonstrations(cells[i], settings, agents, i, store, policy)
        if isinstance(run, IPMDRun):
            learned: Any = take_run(agents, i)
            more["metrics"] = reward_alignment(learned, datasets[i], config.env, seed)
        if isinstance(run, BCRun):
            more["metrics"] = {"train/final_loss": read_rows(folder.metrics)[-1]["train/loss"]}
        more |= {"seconds": group.seconds, "together": len(cells)}
        if _write_result(folder, returns[i], more):
            group.finish(i)


def reward_alignment(
    agent: IPMD, data: Demonstrations, env: str, seed: int
) -> dict[str, float | None]:
    """Correlation of the learned reward with the task's, on demonstrations and random play.

    For evaluation only; nothing learns from it. Matching occupancies fixes the policy, not the
    reward, so a low value is no failure.
    """
    if data.rewards is None:
        return {}
    chance = random_demonstrations(env, seed, ALIGNMENT_EPISODES)
    parts = (data, chance)
    learned = [np.asarray(agent.estimated_rewards(part.transitions())) for part in parts]
    true = [np.asarray(part.transitions_with_reward().reward) for part in parts]
    pair = np.concatenate(learned), np.concatenate(true)
    if min(np.std(x) for x in pair) == 0:
        return {"reward_alignment/pearson": None}
    return {"reward_alignment/pearson": float(np.corrcoef(*pair)[0, 1])}


def _record_demonstrations(
    cell: Cell, settings: Expert, agents: Any, index: int, store: Store, policy: Path
) -> None:
    run = settings.run
    assert isinstance(run, SACRun)
    alone = jax.tree.map(lambda x: x[index : index + 1], agents)
    policies = Evaluator(run.env, 1, 1).policies(alone)
    starts = start_seeds(cell.seed, settings.num_episodes)
    episodes = record_episodes(policies, run.env, starts, 1)[0]
    provenance = Provenance(
        task=run.env,
        algorithm="sac",
        seed=cell.seed,
        frames=run.loop.frames,
        deterministic=True,
        checkpoint_hash=hashlib.sha256(policy.read_bytes()).hexdigest(),
        versions=versions(),
    )
    data = Demonstrations.from_episodes(episodes, env_spec(run.env), provenance)
    data.save(expert_data_folder(store, cell, run.env), overwrite=True)


def _seeds_used(run: SACRun | IPMDRun | BCRun, group: RunGroup) -> list[int]:
    """Seeds of the environments that a group trains in first; BC has none."""
    if isinstance(run, BCRun):
        return []
    return [s for seed in group.seeds for s in training_seeds(seed, run.loop.num_envs)]


def _bc_amount(
    run: BCRun, datasets: Sequence[Demonstrations], seeds: Sequence[int]
) -> dict[str, int]:
    steps = bc_steps(run, datasets, seeds)
    rows = hold_out(datasets[0], run, seeds[0])[0].num_steps
    return {"epochs": round(steps / -(-rows // run.agent.batch_size)), "updates": steps}


def _write_result(folder: RunFolder, returns: np.ndarray, more: dict[str, Any]) -> bool:
    """Write a run's result and its last evaluation; whether the returns are numbers."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%S")
    mean, std = float(returns.mean()), float(returns.std())
    evaluation = {"eval/reward_mean": mean, "eval/reward_std": std, "episodes": len(returns)}
    write_json(folder.path / "eval" / stamp / "metrics.json", evaluation)
    result = {**more, "hardware": hardware(), "per_start_returns": returns.tolist()}
    write_json(folder.path / "result.json", result)
    finite = bool(np.isfinite(returns).all())
    if not finite:
        folder.set_status("diverged", error="the trained policy's actions are not finite")
    return finite
