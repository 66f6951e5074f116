"""What a run of a dynamics model leaves in its folder, and how to open its model again.

==============================  ================================================================
``losses.csv``                  one row per validation, see :data:`LOSS_COLUMNS`
``plots/loss_*.png``            training loss, validation loss, open-loop errors of twist and pose
``standardizers.json``          sizes of inputs and outputs, of the training data
``selected.json``               the trajectories that have counted most in training
``checkpoints/best.safetensors``  the kept model with all it takes to run it
==============================  ================================================================
"""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steelyard.agents.dynamics import (
    Dynamics,
    DynamicsConfig,
    ModelConfig,
    Scales,
    make_plant,
)
from steelyard.data.trajectories import Trajectories
from steelyard.evaluation.motion_plots import draw_curves
from steelyard.files import clipped, field, read_notes, reading, write_text
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.training.dynamics import VEHICLES, DynamicsRun, loss_emphasis
from steelyard.training.group import Ticker
from steelyard.training.metrics import read_rows
from steelyard.training.plain import ConfigError, from_plain
from steelyard.training.reference_car import refuse_checkpoint
from steelyard.training.run_folder import RunFolder, finite, to_plain, write_json

LOSS_COLUMNS = (
    *("epoch", "train_loss", "val_loss", "train_one_step", "train_rollout", "train_pose"),
    *("eval_vel_mse", "eval_pos_mse", "rollout_mean", "rollout_cvar", "k_used", "alpha"),
    *("step", "alpha_now", "scale", "ess", "max_weight", "val_rollout", "val_cvar20"),
    *("reg_adapter_identity", "reg_residual_l2", "reg_friction_prior"),
    *("grad_norm", "clip_rate", "lr", "wall_s", "val_ate_m"),
)
"""Columns of ``losses.csv``: the reference's, then ours.

``epoch`` is passes over the one-step rows; ``val_loss`` the squared error of one step;
``train_rollout`` the plain mean in every arm; ``val_ate_m`` the mean position error of open-loop
rollouts, which chooses the model that is kept.
"""

_METRIC = {"wall_s": "seconds", "val_ate_m": "val/loss"}
MODEL_FILE = Path("checkpoints") / "best.safetensors"
SCHEMA = "steelyard-dynamics-1"
MOST_SELECTED = 20


def loss_rows(
    rows: Sequence[Mapping[str, Any]], one_step_rows: int, batch: int
) -> list[dict[str, Any]]:
    """Rows of ``losses.csv`` from those of ``metrics.jsonl``.

    Args:
        rows: Metrics, one row per validation.
        one_step_rows: Steps in the training trajectories.
        batch: Windows in a batch.
    """
    return [
        {
            "epoch": round(row["step"] * batch / one_step_rows, 4),
            **{name: _short(row.get(_METRIC.get(name, name))) for name in LOSS_COLUMNS[1:]},
        }
        for row in rows
    ]


def write_losses_csv(
    folder: Path, rows: Sequence[Mapping[str, Any]], one_step_rows: int, batch: int
) -> Path:
    """Write ``losses.csv``, complete or not at all; numbers that are not finite are left empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, LOSS_COLUMNS)
    writer.writeheader()
    writer.writerows(finite(loss_rows(rows, one_step_rows, batch)))
    return write_text(folder / "losses.csv", text.getvalue())


def keep_losses(
    folders: Sequence[RunFolder], one_step_rows: int, batch: int, tick: Ticker
) -> Ticker:
    """A progress display that also brings every run's ``losses.csv`` up to date."""

    def kept(step: int, note: str = "") -> None:
        for folder in folders:
            rows = read_rows(folder.metrics)
            if rows:
                write_losses_csv(folder.path, rows, one_step_rows, batch)
        tick(step, note)

    return kept


def write_run_files(
    folder: Path, run: DynamicsRun, learner: Dynamics, train: Trajectories
) -> list[Path]:
    """Write all files of a finished run but its scores; see the head of this module.

    Args:
        folder: Of the run; its ``metrics.jsonl`` is read.
        run: What was trained.
        learner: The kept learner of this run, not stacked.
        train: What it learned from.
    """
    rows = finite(
        loss_rows(read_rows(folder / "metrics.jsonl"), train.num_steps, run.agent.batch_size)
    )
    written = [
        write_losses_csv(
            folder, read_rows(folder / "metrics.jsonl"), train.num_steps, run.agent.batch_size
        )
    ]
    figures = {
        "loss_train": ("train_loss", "train_one_step", "train_rollout", "train_pose"),
        "loss_val": ("val_loss", "val_rollout"),
        "loss_eval_vel": ("eval_vel_mse",),
        "loss_eval_pos": ("eval_pos_mse",),
    }
    epochs = [row["epoch"] for row in rows]
    for name, columns in figures.items() if rows else ():
        curves = {column: [row[column] for row in rows] for column in columns}
        written.append(draw_curves(folder / "plots" / f"{name}.png", epochs, curves, "epoch"))
    write_json(folder / "standardizers.json", standardizers(train))
    write_json(folder / "selected.json", most_selected(learner, train))
    written += [folder / "standardizers.json", folder / "selected.json"]
    return [*written, save_model(folder / MODEL_FILE, learner)]


def standardizers(train: Trajectories) -> dict[str, Any]:
    """Mean and standard deviation of what a model sees and predicts, as the reference files them.

    Ours has one scale for twists: ``target`` is the part of ``input`` that is predicted.
    """
    rows = train.step_rows()
    scales = Scales.of(
        train.twist[rows], train.twist[rows + 1], train.command[rows], train.dt[rows]
    )
    mean = np.concatenate([scales.twist_mean, scales.command_mean]).tolist()
    std = np.concatenate([scales.twist_std, scales.command_std]).tolist()
    return {
        "input": {"mean": mean, "std": std},
        "target": {"mean": mean[:3], "std": std[:3]},
        "acceleration_std": np.asarray(scales.acceleration_std).tolist(),
        "columns": ["vx (m/s)", "vy (m/s)", "w (rad/s)", train.command_kind, "steering (rad)"],
    }


def most_selected(learner: Dynamics, train: Trajectories) -> list[dict[str, Any]]:
    """The training trajectories that have counted most, as shares of an even count."""
    counts = np.asarray(learner.selected, float)
    shares = counts / max(counts.mean(), 1e-12)
    order = np.argsort(-shares, kind="stable")[:MOST_SELECTED]
    return [{"id": train.ids[i], "times_even_share": round(float(shares[i]), 4)} for i in order]


def save_model(path: Path, learner: Dynamics) -> Path:
    """Write the averaged model: networks, plant and scales, and the config that they belong to."""
    described = {
        "schema": SCHEMA,
        "model": to_plain(learner.config.model),
        "integrator": learner.config.integrator,
        "command_kind": learner.average.plant.command_kind,
        "kept_at_step": int(learner.step),
    }
    tree = _single({"model": learner.average, "twist_std": learner.twist_std})
    save_tree(path, tree, {"steelyard": json.dumps(described)})
    return path


def describe_model(path: Path) -> dict[str, Any]:
    """What a model file says about its model.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is a pickle, or holds something else.
    """
    refuse_checkpoint(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}")
    notes = read_notes(path, ConfigError)
    with reading(path, f"holds no dynamics model ({SCHEMA})", ConfigError):
        described = json.loads(notes["steelyard"])
    schema = field(described, "schema", kind=str, place=path, error=ConfigError)
    if schema != SCHEMA:
        raise ConfigError(f"{path}: schema must be {SCHEMA!r}, got {clipped(repr(schema))}")
    kinds = {"model": dict, "integrator": str, "command_kind": str, "kept_at_step": int}
    for name, kind in kinds.items():
        field(described, name, kind=kind, place=path, error=ConfigError)
    return described


def load_model(path: str | Path) -> Dynamics:
    """Open a model that :func:`save_model` wrote, without any data.

    Args:
        path: The file, or the run's folder.

    Returns:
        A learner with that model, to predict with; its loss settings are the defaults and its
        optimiser starts anew.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is a pickle, holds something else, or its arrays are not those of its config.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    described = describe_model(path)
    model = from_plain(ModelConfig, described["model"], str(path), "model")
    settings = {"integrator": described["integrator"]}
    config = from_plain(DynamicsConfig, settings, str(path))
    config = dataclasses.replace(config, model=model)

    def create() -> Dynamics:
        sizes = Scales(*(jnp.ones(count) for count in (3, 3, 2, 2, 3)))
        plant = make_plant(model, VEHICLES["mushr"], described["command_kind"])
        return Dynamics.create(jax.random.key(0), config, plant, sizes, loss_emphasis(config))

    # Shapes first: the sizes that a stranger's file names are not made before its arrays have them.
    with reading(path, "describes no model", ConfigError):
        shapes = eqx.filter_eval_shape(create)
    stored = load_tree(path, _single({"model": shapes.average, "twist_std": shapes.twist_std}))
    learner = create()
    return dataclasses.replace(
        learner,
        model=stored["model"],
        average=stored["model"],
        twist_std=stored["twist_std"],
        step=jnp.asarray(min(described["kept_at_step"], 2**31 - 1), jnp.int32),
    )


def _single(tree: Any) -> Any:
    """Numbers as float32 arrays: parameters of a plant may still be plain floats."""

    def single(leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            exact = not jnp.issubdtype(leaf.dtype, jnp.inexact)
            return leaf if exact else jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
        return jnp.asarray(leaf, jnp.float32) if eqx.is_inexact_array_like(leaf) else leaf

    return jax.tree.map(single, tree)


def _short(value: Any) -> Any:
    """A number to the digits that float32 has."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
