"""Runs groups of cells of the assembly study and writes what each of them measured."""

import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.chunked_bc import ChunkedBC
from steelyard.agents.ppo import PPO
from steelyard.data.demonstrations import Demonstrations
from steelyard.envs.scripted import ScriptedExpert
from steelyard.envs.seeding import check_disjoint, training_seeds
from steelyard.studies.assembly.config import AssemblyConfig
from steelyard.studies.assembly.films import film_pairs, telling_starts
from steelyard.studies.assembly.plan import Cloned, Residual
from steelyard.studies.assembly.plots import run_plots
from steelyard.studies.assembly.policies import (
    BASE_FILE,
    BEST,
    DATA,
    LAST,
    load_base,
    load_residual,
    save_policy,
)
from steelyard.studies.cells import Cell, Store, logged, open_folders
from steelyard.studies.parts import write_outcome
from steelyard.training.base_policy import train_base
from steelyard.training.checkpoint import save_tree, take_run
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions, read_rows
from steelyard.training.residual import (
    PLANE,
    Outcome,
    ResidualRun,
    SuccessEvaluator,
    base_of,
    create_agent,
    train_residual,
)
from steelyard.training.run_folder import RunFolder, write_json
from steelyard.training.scripted_demonstrations import as_demonstrations, play

MOST_SUCCESS = 0.98


def execute(
    cells: Sequence[Cell],
    config: AssemblyConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells of one arm to the end."""
    folders = open_folders(cells, store)
    group = RunGroup([cell.seed for cell in cells], folders, cells[0].arm, sinks)
    tick = logged(tick, folders)
    try:
        if isinstance(cells[0].config, Cloned):
            _clone(cells[0].config, group, tick, config.strict)
        else:
            bases = [load_base(_parent(cell, store)) for cell in cells]
            learn(cells[0].config, group, bases, tick)
            _film(cells[0], config, store)
    finally:
        group.close()


def _parent(cell: Cell, store: Store) -> Path:
    assert cell.parent is not None, "a residual has a base"
    return store.folder(cell.parent).path


def _clone(settings: Cloned, group: RunGroup, tick: Ticker, strict: bool) -> None:
    """Demonstrate, clone and score the bases of a group."""
    datasets = []
    if settings.run is not None:
        assert settings.tier is not None
        expert = ScriptedExpert(settings.env, settings.tier)
        for seed, folder in zip(group.seeds, group.folders, strict=True):
            episodes = play(expert, seed, settings.demonstrations)
            data = as_demonstrations(expert, seed, episodes, episodes)
            data.save(folder.path / DATA, overwrite=True)
            datasets.append(data)
    clone(settings, group, datasets, tick, strict)


def clone(
    settings: Cloned,
    group: RunGroup,
    datasets: Sequence[Demonstrations],
    tick: Ticker,
    strict: bool = False,
) -> None:
    """Train the bases of a group, each on its demonstrations, keep and score them.

    Args:
        settings: What is cloned; without a ``run`` the plane's own base is only scored.
        group: Seeds and folders.
        datasets: One per seed.
        tick: Progress display.
        strict: Whether a base without anything to find, or without room, is an error.

    Raises:
        ValueError: ``strict``, and a base is such.
    """
    policies, updates = None, None
    if settings.run is not None:
        learners = train_base(settings.run, group, datasets, tick)
        policies = [take_run(learners, i) for i in range(len(datasets))]
        for folder, policy in zip(group.folders, policies, strict=True):
            save_tree(folder.path / BASE_FILE, policy)
        updates = max(int(read_rows(folder.metrics)[-1]["step"]) for folder in group.folders)
    outcome = _judge(ResidualRun(settings.env), None, policies, group, settings.eval_episodes)
    for i in group.alive:
        folder, rate = group.folders[i], float(outcome.success[i].mean())
        note = _room(settings, rate)
        if note and strict:
            raise ValueError(f"seed {group.seeds[i]}: {note}")
        if note:
            print(f"warning: seed {group.seeds[i]}: {note}", file=sys.stderr)
        _finish(folder, outcome, i, {"updates": updates, "notes": [note] if note else []}, group)
    tick(updates or 1)


def _film(cell: Cell, config: AssemblyConfig, store: Store) -> None:
    """Film base and residual of a part's first seed and arm, where this machine can draw."""
    part = config.parts()[str(cell.axes["task"])]
    first = (cell.arm, cell.seed) == (part.arms[0], part.seeds[0])
    if not config.films or not first or part.run.env == PLANE or cell.parent is None:
        return
    results = [store.folder(c).read("result.json") for c in (cell.parent, cell)]
    if None in results:
        return
    before, after = (result["success"] for result in results if result is not None)
    folder = store.folder(cell).path
    starts = telling_starts(before, after, config.films)
    try:
        for path, _, _ in film_pairs(load_residual(folder), starts, folder / "videos"):
            print(f"film of base and residual: {path}", file=sys.stderr)
    except ValueError as error:
        print(f"no film of base and residual: {error}", file=sys.stderr)


def _room(settings: Cloned, rate: float) -> str:
    """What is wrong with a base's success, or nothing."""
    tier = f"{settings.tier} " if settings.tier else ""
    dial = f"{settings.demonstrations} {tier}demonstrations: change their number or tier"
    if rate == 0.0:
        return f"the base never succeeds, so there is nothing to find ({dial})"
    if rate > MOST_SUCCESS:
        return f"the base succeeds in {rate:.0%}, which leaves no room ({dial})"
    return ""


def learn(
    settings: Residual,
    group: RunGroup,
    bases: Sequence[ChunkedBC | None],
    tick: Ticker,
    tell: Callable[[int, dict[str, np.ndarray]], None] = lambda iteration, metrics: None,
) -> None:
    """Train and score the residuals of a group, each on its own base; none is the task's own."""
    run = settings.run
    policies = None if bases[0] is None else [base for base in bases if base is not None]
    evaluate = None
    if run.loop.eval_interval is not None:
        evaluate = _evaluator(run, policies, group, settings.eval_episodes)
    state = train_residual(run, group, policies, evaluate, tick, tell)
    outcome = _judge(run, state.agent, policies, group, settings.eval_episodes)
    for i in group.alive:
        save_policy(group.folders[i], take_run(state.agent, i), LAST)
        if run.loop.eval_interval is not None:
            save_policy(group.folders[i], take_run(state.best, i), BEST)
        _finish(group.folders[i], outcome, i, {"frames": run.loop.frames}, group)
    if group.alive:  # one of a group is enough to look at
        run_plots(group.folders[group.alive[0]])


def _judge(
    run: ResidualRun,
    agents: PPO | None,
    policies: list[ChunkedBC] | None,
    group: RunGroup,
    episodes: int,
) -> Outcome:
    """Play on the fixed start states; without learners the bases alone."""
    runs = len(group.seeds)
    if agents is None:
        keys = jax.vmap(jax.random.key)(jnp.arange(runs))
        agents = jax.vmap(create_agent(run, policies))(keys, jnp.arange(runs))
    return _evaluator(run, policies, group, episodes).outcome(agents)


def _evaluator(
    run: ResidualRun, policies: list[ChunkedBC] | None, group: RunGroup, episodes: int
) -> SuccessEvaluator:
    base = base_of(run.env, policies)
    evaluator = SuccessEvaluator(run.env, base, len(group.seeds), episodes)
    for seed in group.seeds:
        check_disjoint(training_seeds(seed, run.loop.num_envs), evaluator.starts)
    return evaluator


def _finish(
    folder: RunFolder, outcome: Outcome, index: int, more: dict[str, Any], group: RunGroup
) -> None:
    """Write a run's result and its last evaluation, which is all."""
    success, length = outcome.success[index], outcome.length[index]
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%S")
    evaluation = {
        "eval/success_rate": float(success.mean()),
        "eval/env_steps": outcome.env_steps // len(group.seeds),
        "episodes": len(success),
    }
    write_json(folder.path / "eval" / stamp / "metrics.json", evaluation)
    write_outcome(folder, group, success, length, more)
    group.finish(index)
