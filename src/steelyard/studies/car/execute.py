"""Runs groups of cells of the car study and writes what each of them measured."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.dynamics import Dynamics
from steelyard.evaluation.model_rollout import Prediction, Recordings, naive, predict
from steelyard.evaluation.motion_metrics import (
    MotionErrors,
    motion_metrics,
    reference_metrics,
)
from steelyard.studies.car.config import CarConfig, SimulatedData
from steelyard.studies.car.plan import Constant, InContext
from steelyard.studies.car.sources import Fold, Source, real_source, simulated_source
from steelyard.studies.cells import Cell, Store, open_folders
from steelyard.studies.hardware import hardware
from steelyard.training.dynamics import context_of, play, take_learner, train_dynamics
from steelyard.training.dynamics_files import (
    MODEL_FILE,
    keep_losses,
    load_model,
    write_run_files,
)
from steelyard.training.dynamics_scores import evaluate_model, evaluation_name
from steelyard.training.dynamics_windows import recordings_of
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.metrics import SinkOptions
from steelyard.training.run_folder import RunFolder, write_json

PLOTS = 3
"""Rollouts of the first test that get a figure of their own; `steelyard evaluate RUN` draws all."""
HORIZONS_S = {None: "", 0.1: "_0.1s", 0.5: "_0.5s", 1.0: "_1s", 2.0: "_2s", 5.0: "_5s"}
"""Horizons of the scores, and what their names end in."""


def source_of(data: SimulatedData | Fold, config: CarConfig, store: Store) -> Source:
    """The trajectories that a cell's config names."""
    if isinstance(data, Fold):
        return real_source(config.real, data)
    return simulated_source(data, store)


def execute(
    cells: Sequence[Cell],
    config: CarConfig,
    store: Store,
    tick: Ticker,
    sinks: SinkOptions = SinkOptions(),
) -> None:
    """Run a group of cells to the end."""
    folders = open_folders(cells, store)
    settings = cells[0].config
    source = source_of(settings.data, config, store)
    if isinstance(settings, Constant):
        tests = {n: recordings_of(t.trajectories, 0, t.cut) for n, t in source.tests.items()}
        for folder in folders:
            errors = {n: MotionErrors.of(naive(r), r) for n, r in tests.items()}
            _finish(folder, errors, {})
        tick(1)
        return
    if isinstance(settings, InContext):
        for cell, folder in zip(cells, folders, strict=True):
            assert cell.parent is not None
            learner = load_model(store.folder(cell.parent).path / MODEL_FILE)
            _finish(folder, _judge([learner], source, folder, settings.steps), {})
        tick(1)
        return
    members = settings.members
    seeds = [
        cell.seed if members == 1 else member_seed(cell.seed, m)
        for cell in cells
        for m in range(members)
    ]
    homes = (
        folders
        if members == 1
        else [
            RunFolder(folder.path / "members" / str(m))
            for folder in folders
            for m in range(members)
        ]
    )
    group = RunGroup(seeds, homes, cells[0].arm, sinks)
    runs = [cell.config.run for cell in cells for _ in range(members)]
    try:
        agents = train_dynamics(
            runs,
            group,
            source.train,
            source.validation,
            keep_losses(homes, source.train.num_steps, runs[0].agent.batch_size, tick),
            cut=source.cut,
        )
    finally:
        group.close()
    for i, (cell, folder) in enumerate(zip(cells, folders, strict=True)):
        own = range(i * members, (i + 1) * members)
        if not set(own) <= set(group.alive):
            continue
        learners = [take_learner(agents, j) for j in own]
        for j, learner in zip(own, learners, strict=True):
            write_run_files(homes[j].path, runs[j], learner, source.train)
        errors = _judge(learners, source, folder)
        more = {"seconds": group.seconds, "together": len(cells), "updates": cell.config.run.steps}
        _finish(folder, errors, more)


def _judge(
    learners: Sequence[Dynamics], source: Source, folder: RunFolder, context: int = 0
) -> dict[str, MotionErrors]:
    """Errors on every test set; a single model's on the first are written with plots.

    On the real car those of the other sets are written too, but for the long rollouts.
    """
    stamp = evaluation_name(folder.path)
    history = learners[0].config.model.history
    errors = {}
    for i, (name, (part, cut)) in enumerate(source.tests.items()):
        bias = context_of(learners[0], part, cut, context) if cut and context else None
        if len(learners) == 1 and (i == 0 or (cut is not None and cut == source.cut)):
            errors[name] = evaluate_model(
                learners[0],
                part,
                folder.path,
                name=f"{stamp}_{name.replace(',', '').replace(' ', '_')}",
                cut=cut,
                figures=PLOTS if i == 0 else 0,
                bias=bias,
            )
        else:
            recordings = recordings_of(part, history, cut)
            if len(learners) == 1:
                prediction = play(learners[0], recordings, bias)
            else:
                prediction = averaged(learners, recordings)
            errors[name] = MotionErrors.of(prediction, recordings)
    return errors


def member_seed(seed: int, member: int) -> int:
    """Seed of one of the models that are averaged; no two runs of a study share one."""
    return 1_000_000 * (seed + 1) + member


def averaged(learners: Sequence[Dynamics], recordings: Recordings) -> Prediction:
    """Roll out the mean of several models' twists."""
    stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *learners)
    model = jax.tree_util.Partial(_mean_of, stacked)
    return predict(model, recordings, learners[0].config.integrator)


def _mean_of(learners: Any, twist: jax.Array, command: jax.Array, dt: jax.Array):
    axes = (0, None, None, None)
    return jnp.mean(jax.vmap(Dynamics.predict, axes)(learners, twist, command, dt), axis=0)


def scores(errors: MotionErrors) -> dict[str, Any]:
    """Numbers of one set of rollouts: ours in SI units, the reference's sum of squares."""
    found: dict[str, Any] = {}
    for horizon, suffix in HORIZONS_S.items():
        metrics = motion_metrics(errors, horizon)
        for name in ("ate_m", "fde_m", "rmse_vx", "rmse_vy", "rmse_w"):
            values = np.asarray(metrics[name], float)
            reached = values[~np.isnan(values)]  # none where rollouts are shorter
            mean = float(np.mean(reached)) if reached.size else float("nan")
            found[f"{name}{suffix}"] = values if name == "ate_m" else mean
    found["traj_state_mse"] = float(np.mean(reference_metrics(errors)["traj_state_mse"]))
    found["diverged"] = int(np.sum(motion_metrics(errors)["diverged"]))
    return found


def _finish(folder: RunFolder, errors: dict[str, MotionErrors], more: dict[str, Any]) -> None:
    """Write a run's result and that it is done."""
    tests = {name: _plain(scores(e)) for name, e in errors.items()}
    write_json(folder.path / "result.json", {**more, "hardware": hardware(), "tests": tests})
    folder.set_status("done")


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [float(f"{v:.5g}") for v in value] if isinstance(value, np.ndarray) else value
        for name, value in found.items()
    }
