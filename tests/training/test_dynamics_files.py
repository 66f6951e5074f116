"""What a dynamics run leaves in its folder: a model that opens without data, documented columns."""

import csv
import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from motion_samples import recorded

from steelyard.agents.dynamics import (
    AdapterConfig,
    Dynamics,
    DynamicsConfig,
    ModelConfig,
    Scales,
    make_plant,
)
from steelyard.evaluation.metrics_file import read_metrics
from steelyard.numerics.vehicle import MUSHR
from steelyard.training.checkpoint import save_tree
from steelyard.training.dynamics import loss_emphasis
from steelyard.training.dynamics_files import (
    LOSS_COLUMNS,
    load_model,
    most_selected,
    save_model,
    standardizers,
    write_losses_csv,
)
from steelyard.training.dynamics_scores import evaluate_model, rollouts
from steelyard.training.dynamics_windows import Cut

REFERENCE_COLUMNS = [
    *("epoch", "train_loss", "val_loss", "train_one_step", "train_rollout", "train_pose"),
    *("eval_vel_mse", "eval_pos_mse", "rollout_mean", "rollout_cvar", "k_used", "alpha"),
]
SMALL = {
    "hidden_dims": (4,),
    "residual_hidden": (4,),
    "control_adapter": AdapterConfig(hidden=(4,)),
}


def learner_of(kind="direct", **changes):
    """An untrained learner whose every number has been moved, so that none is a default."""
    config = DynamicsConfig(model=ModelConfig(type=kind, **SMALL, **changes))
    scales = Scales(*(jnp.linspace(0.5, 1.5, n) for n in (3, 3, 2, 2, 3)))
    plant = make_plant(config.model, MUSHR, "velocity")
    learner = Dynamics.create(
        jax.random.key(1), config, plant, scales, loss_emphasis(config), num_trajectories=10
    )
    random = np.random.default_rng(2)
    moved = jax.tree.map(
        lambda x: (
            jnp.asarray(x + random.normal(0.0, 0.05, np.shape(x)), jnp.float32)
            if eqx.is_inexact_array_like(x)
            else x
        ),
        learner.average,
    )
    return dataclasses.replace(learner, average=moved, step=jnp.asarray(70))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("direct", {}),
        ("structured", {"learn_friction": True, "history": 2}),
        ("structured", {"physics": "single_track", "learn_residual": False}),
        ("kinematic", {}),
        ("single_track", {}),
    ],
)
def test_a_saved_model_opens_bit_for_bit_without_data(tmp_path, kind, changes):
    learner = learner_of(kind, **changes)
    opened = load_model(save_model(tmp_path / "best.safetensors", learner))
    assert jax.tree.structure(opened.average) == jax.tree.structure(learner.average)
    for ours, theirs in zip(*map(jax.tree.leaves, (opened.average, learner.average)), strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs, np.float32).tobytes()
    assert opened.config.model == learner.config.model
    assert (int(opened.step), opened.config.integrator) == (70, "trapezoid")
    np.testing.assert_array_equal(opened.twist_std, learner.twist_std)


def test_what_holds_no_model_is_refused_with_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at"):
        load_model(tmp_path)
    save_tree(tmp_path / "other.safetensors", {"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="holds no dynamics model"):
        load_model(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("not arrays")
    with pytest.raises(ValueError, match="text.safetensors: not a readable safetensors file"):
        load_model(tmp_path / "text.safetensors")
    (tmp_path / "best.pt").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="pickled files are not opened"):
        load_model(tmp_path / "best.pt")


def test_losses_csv_has_documented_columns(tmp_path):
    rows = [
        {"step": 10, "seconds": 1.5, "train_loss": 0.25, "val/loss": 0.125, "other": 1.0},
        {"step": 20, "seconds": 3.0, "train_loss": None, "val/loss": float("inf")},
    ]
    path = write_losses_csv(tmp_path, rows, one_step_rows=200, batch=30)
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == list(LOSS_COLUMNS)
    assert list(LOSS_COLUMNS[: len(REFERENCE_COLUMNS)]) == REFERENCE_COLUMNS
    first, second = found
    assert (first["epoch"], first["step"]) == ("1.5", "10")  # 10 batches of 30 out of 200 rows
    assert (first["wall_s"], first["val_ate_m"], first["train_loss"]) == ("1.5", "0.125", "0.25")
    assert (second["train_loss"], second["val_ate_m"]) == ("", "")


def test_standardizers_are_those_of_the_training_steps():
    data = recorded(4)
    found, rows = standardizers(data), data.step_rows()
    np.testing.assert_allclose(found["input"]["mean"][:3], data.twist[rows].mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["input"]["std"][3:], data.command[rows].std(0), rtol=1e-5)
    assert found["target"]["std"] == found["input"]["std"][:3]


def test_the_most_selected_trajectories_come_first_as_shares():
    data = recorded(10)
    counts = jnp.array([0.0, 3.0, 1.0, 0.0, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0])
    found = most_selected(dataclasses.replace(learner_of(), selected=counts), data)
    assert [row["id"] for row in found[:3]] == ["run5", "run1", "run2"]
    assert [row["times_even_share"] for row in found[:3]] == [6.0, 3.0, 1.0]


def test_an_evaluation_writes_metrics_and_figures_of_every_trajectory(tmp_path):
    data = recorded(3)
    learner = learner_of()
    errors = evaluate_model(learner, data, tmp_path, name="now", random=True, seed=5, requested=3)
    place = tmp_path / "eval" / "now"
    metrics = read_metrics(place / "metrics.json")
    assert metrics.ids == data.ids
    np.testing.assert_allclose(metrics.values("fde_m"), errors.position_m[:, -1], rtol=1e-6)
    chosen = metrics.content["eval_config"]
    assert (chosen["random_select"], chosen["seed"]) == (True, 5)
    assert (chosen["num_eval_trajs_requested"], chosen["selected_ids"]) == (3, list(data.ids))
    figures = {path.name for path in place.glob("*.png")}
    assert figures == {"traj_all.png", *(f"traj_{name}.png" for name in data.ids)}
    assert json.loads((place / "metrics.json").read_text())["checkpoint_path"].endswith("tensors")


def test_rollouts_of_a_length_are_called_after_trajectory_and_state():
    data = recorded(2, states=12)
    recordings, ids = rollouts(data, history=1, cut=Cut(5, lead=1))
    assert ids == ("run0@1", "run0@6", "run1@1", "run1@6")
    np.testing.assert_array_equal(recordings.window.twist[3, 0], data.twist[12 + 6])
