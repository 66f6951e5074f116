"""The reference's car configs are read whole, or refused with file, key and what is legal."""

import copy
import dataclasses
import json
import math

import pytest

from steelyard.agents.dynamics import DynamicsConfig, LossConfig, ModelConfig, RolloutCvarConfig
from steelyard.training.dynamics import DynamicsRun, loss_emphasis
from steelyard.training.plain import ConfigError, from_plain
from steelyard.training.reference_car import (
    as_reference,
    load_reference_config,
    reference_steps,
    settle_tail,
)
from steelyard.training.run_folder import to_plain

NAME = "exp2_h20_cvar0p2.json"
FULL = {
    "_comment": "read by nobody",
    "seed": 3,
    "data": {
        "data_dir": "data/raw",
        "num_eval_trajectories": 40,
        "val_ratio": 0.2,
        "val_split_mode": "trajectory",
    },
    "model": {
        "type": "structured",
        "learn_friction": True,
        "learn_residual": True,
        "friction_use_dt": False,
        "friction_use_delta": True,
        "friction_use_vy": False,
        "friction_param": {"mode": "exp", "k_min": 0.3, "k_max": 3.0},
        "hidden_dims": [64, 32],
        "control_adapter": {
            "enabled": True,
            "include_speed_mag_steer": True,
            "include_speed_sign_steer": False,
            "include_speed_mag_acc": True,
            "include_speed_sign_acc": False,
            "include_vy_acc": True,
            "include_w_acc": False,
            "steer_output_scale": 0.5,
            "acc_output_scale": 1.0,
        },
    },
    "training": {
        "_note": {"nested": "comment"},
        "batch_size": 96,
        "epochs": 7,
        "lr": 2e-3,
        "weight_decay": 0.01,
        "device": "cuda",
        "run_root": "experiments-v2/exp2_h20_cvar0p2",
        "run_name": "residual_h20_cvar0p2",
        "ckpt_name": "best.pt",
        "eval_every": 5,
        "early_stop_patience": 50,
        "early_stop_min_delta": 1e-6,
        "lr_scheduler": "cosine",
        "lr_t_max": 1000,
        "lr_eta_min": 1e-5,
        "loss": {
            "one_step_mse": {"enabled": True, "weight": 0.9},
            "rollout_mse": {
                "enabled": True,
                "horizon": 20,
                "weight": 0.5,
                "teacher_forcing_prob": 0.2,
                "detach_between_steps": True,
            },
            "pose_mse": {"enabled": True, "weight": 0.02, "components": ["x", "y", "theta"]},
            "weights": {"vx": 1, "vy": 1.5, "w": 2.0},
            "rollout_cvar": {"enabled": True, "alpha": 0.25, "apply_to": "rollout", "min_k": 2},
        },
        "regularization": {
            "adapter_identity_weight": 0.1,
            "residual_l2_weight": 0.2,
            "friction_prior_weight": 0.3,
        },
        "optim": {"grad_clip_norm": 5.0},
    },
}


def written(folder, *changes):
    """A config file: FULL, with values put at dotted keys."""
    content = copy.deepcopy(FULL)
    for key, value in changes:
        *path, last = key.split(".")
        place = content
        for part in path:
            place = place[part]
        place[last] = value
    file = folder / NAME
    file.write_text(json.dumps(content))
    return file


def test_every_key_reaches_the_setting_it_names(tmp_path):
    run, seed, names = load_reference_config(written(tmp_path))
    model, loss, agent = run.agent.model, run.agent.loss, run.agent
    assert seed == 3
    assert (names.experiment, names.run_name) == ("exp2_h20_cvar0p2", "residual_h20_cvar0p2")
    assert (names.data_dir, names.num_eval_trajectories, names.val_ratio) == ("data/raw", 40, 0.2)
    assert (names.epochs, names.ckpt_name) == (7, "best.pt")
    assert (model.type, model.hidden_dims) == ("structured", (64, 32))
    assert (model.learn_friction, model.learn_residual) == (True, True)
    used = (model.friction_use_dt, model.friction_use_delta, model.friction_use_vy)
    assert used == (False, True, False)
    assert dataclasses.astuple(model.friction_param) == ("exp", 0.3, 3.0)
    adapter = model.control_adapter
    assert (adapter.enabled, adapter.steer_output_scale) == (True, 0.5)
    speeds = (adapter.include_speed_mag_steer, adapter.include_speed_sign_steer)
    assert speeds == (True, False)
    assert (adapter.include_vy_acc, adapter.include_w_acc) == (True, False)
    assert (agent.batch_size, agent.windows_per_group) == (96, 4)
    assert (agent.optim.lr, agent.optim.weight_decay) == (2e-3, 0.01)
    assert (agent.optim.lr_eta_min, agent.optim.grad_clip_norm) == (1e-5, 5.0)
    assert loss.one_step_mse.weight == 0.9
    rollout = loss.rollout_mse
    assert (rollout.enabled, rollout.horizon, rollout.weight) == (True, 20, 0.5)
    assert (rollout.teacher_forcing_prob, rollout.detach_between_steps) == (0.2, True)
    assert (loss.pose_mse.weight, loss.pose_mse.components) == (0.02, ("x", "y", "theta"))
    assert dataclasses.astuple(loss.weights) == (1.0, 1.5, 2.0)
    tail = loss.rollout_cvar
    assert (tail.enabled, tail.alpha, tail.apply_to, tail.min_k) == (True, 0.25, "rollout", 2)
    assert dataclasses.astuple(agent.regularization) == (0.1, 0.2, 0.3)


def test_what_a_file_leaves_out_takes_the_reference_s_defaults(tmp_path):
    file = tmp_path / "least.json"
    file.write_text("{}")
    run, seed, names = load_reference_config(file)
    loss, model, optim = run.agent.loss, run.agent.model, run.agent.optim
    assert (seed, names.epochs, run.agent.batch_size) == (42, 1000, 256)
    enabled = (loss.one_step_mse, loss.rollout_mse, loss.pose_mse, loss.rollout_cvar)
    assert [part.enabled for part in enabled] == [True, False, False, False]
    assert loss.weights.w == 1.0
    assert not model.control_adapter.enabled
    assert not model.learn_residual
    assert model.friction_param.mode == "softplus_offset_1"
    assert optim.grad_clip_norm == math.inf  # 0 was "off"
    assert optim.lr_eta_min == optim.lr  # no scheduler: the step stays


@pytest.mark.parametrize("alpha", [0, -1, 1.2, float("nan")])
def test_an_illegal_alpha_is_refused_with_rule_value_and_file(tmp_path, alpha):
    file = written(tmp_path, ("training.loss.rollout_cvar.alpha", alpha))
    expected = f"rollout_cvar.alpha must be in (0, 1], got {float(alpha)} ({NAME})"
    with pytest.raises(ValueError, match=r"alpha must be in") as error:
        load_reference_config(file)
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("training.loss.rollout_cvar.aplha", 0.2, ["training.loss.rollout_cvar.aplha", "'alpha'"]),
        ("modle", {}, ["'modle'", "did you mean 'model'?", "training"]),
        ("training.loss.rollout_cvar.apply_to", "rollout+pose", ["did you mean 'rollout_plus_p"]),
        ("training.loss.pose_mse.components", ["x", "z"], ["components[1]", "theta", "'z'"]),
        ("training.loss.rollout_mse.horizon", 2.5, ["rollout_mse.horizon must be int, got 2.5"]),
        ("training.loss.weights", 1.0, ["training.loss.weights must be a JSON object, got 1.0"]),
        ("training.lr", "fast", ["training.lr must be float, got 'fast'"]),
        ("training.lr_scheduler", "step", ["lr_scheduler must be 'cosine' or null", "'step'"]),
        ("training.batch_size", 0, ["batch_size must be at least 1, got 0"]),
        ("model.type", "linear", ["model.type must be one of structured, direct", "'linear'"]),
        ("model.learn_residual", 1, ["model.learn_residual must be bool, got 1"]),
        ("seed", True, ["seed must be int, got True"]),
        ("training.loss.rollout_cvar.min_k", 0, ["min_k must be at least 1, got 0"]),
        ("training.loss.rollout_cvar.min_k", 99, ["min_k must be at most", "99"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_legal(tmp_path, key, value, parts):
    with pytest.raises(ValueError, match=NAME) as error:
        load_reference_config(written(tmp_path, (key, value)))
    for part in parts:
        assert part in str(error.value)


def test_a_tail_of_the_pose_needs_the_pose(tmp_path):
    changes = [("training.loss.rollout_cvar.apply_to", "pose")]
    changes += [("training.loss.pose_mse.enabled", False)]
    with pytest.raises(ValueError, match=r"pose_mse\.enabled is false.*exp2_h20"):
        load_reference_config(written(tmp_path, *changes))


def test_no_file_no_json_and_no_pickle_is_taken_for_a_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="config not found"):
        load_reference_config(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json: must be JSON"):
        load_reference_config(broken)
    broken.write_text("[]")
    with pytest.raises(ConfigError, match="must be a JSON object"):
        load_reference_config(broken)
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"\x80\x04not to be read")
    with pytest.raises(ValueError, match="pickled files are not opened") as error:
        load_reference_config(checkpoint)
    assert "save_file" in str(error.value)


def test_cvar_without_a_rollout_is_switched_off_with_one_line(tmp_path):
    run, _, names = load_reference_config(
        written(tmp_path, ("training.loss.rollout_mse.enabled", False))
    )
    assert not run.agent.loss.rollout_cvar.enabled
    assert float(loss_emphasis(run.agent).weighting.alpha) == 1.0
    assert sum("switched off" in note for note in names.notes) == 1


def test_a_tail_of_less_than_one_unit_is_warned_about():
    tail = RolloutCvarConfig(enabled=True, alpha=0.1)
    few = DynamicsRun(DynamicsConfig(loss=LossConfig(rollout_cvar=tail), groups=8))
    (line,) = settle_tail(few)[1]
    assert "a tail of one trajectory" in line
    assert "≥ 10" in line
    enough = dataclasses.replace(few.agent, groups=10)
    assert settle_tail(dataclasses.replace(few, agent=enough))[1] == ()
    items = dataclasses.replace(tail, group="item")
    loss = LossConfig(rollout_cvar=items)
    assert settle_tail(DynamicsRun(dataclasses.replace(few.agent, loss=loss)))[1] == ()


def test_what_is_different_here_is_noted(tmp_path):
    notes = load_reference_config(written(tmp_path)).names.notes
    assert any("acc_output_scale 1 was in standard deviations" in note for note in notes)
    assert any("epochs 7" in note for note in notes)
    assert not any("val_split_mode" in note for note in notes)
    steps = written(tmp_path, ("data.val_split_mode", "timestep"))
    assert any("whole trajectories" in note for note in load_reference_config(steps).names.notes)
    model = load_reference_config(steps).run.agent.model
    assert model.control_adapter.acc_output_scale is None


def test_as_reference_switches_off_what_the_reference_does_not_have(tmp_path):
    run = load_reference_config(written(tmp_path)).run
    bare = as_reference(run)
    tail = bare.agent.loss.rollout_cvar
    off = (tail.group, tail.warmup, tail.anneal_end, tail.scale_match)
    assert off == ("item", 0.0, 0.0, False)
    assert (tail.alpha, tail.apply_to) == (0.25, "rollout")
    assert (bare.agent.integrator, bare.agent.loss.input_noise) == ("next", 0.0)
    assert bare.agent.batch_size == run.agent.batch_size
    assert reference_steps(7, one_step_rows=1_000, batch_size=96) == 7 * 11


@pytest.mark.parametrize(
    "run",
    [
        DynamicsRun(),
        DynamicsRun(DynamicsConfig(model=ModelConfig(type="direct", hidden_dims=(4,))), block=3),
        DynamicsRun(DynamicsConfig(loss=LossConfig(huber=0.5)), vehicle="dart", min_speed=0.25),
    ],
)
def test_plain_values_read_back_as_the_same_run(run):
    stored = json.loads(json.dumps(to_plain(run)))
    assert from_plain(DynamicsRun, stored, "config.json") == run
