"""The configs of the reference's car experiments, accepted as they are.

Every key of its JSON files is read; keys that begin with ``_`` are comments; keys that a file
leaves out take the reference's own defaults. What the reference does not have (grouped tails,
warm-up, scale matching) keeps our defaults, unless :func:`as_reference` switches it off.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from steelyard.agents.dynamics import (
    AdapterConfig,
    DynamicsConfig,
    FrictionConfig,
    LossConfig,
    ModelConfig,
    OneStepConfig,
    OptimConfig,
    PoseConfig,
    RegularizationConfig,
    RolloutConfig,
    RolloutCvarConfig,
    TwistWeights,
)
from steelyard.data.formats.locate import PICKLE_SUFFIXES
from steelyard.files import clipped, read_json
from steelyard.training.dynamics import DynamicsRun
from steelyard.training.plain import ConfigError, from_plain, inside, refuse_unknown

_ADAPTER = {f.name: False for f in dataclasses.fields(AdapterConfig) if f.name != "hidden"}
KEYS: dict[str, Any] = {
    "seed": 42,
    "data": {
        "data_dir": None,
        "num_eval_trajectories": 50,
        "val_ratio": 0.1,
        "val_split_mode": "timestep",
    },
    "model": {
        "type": "structured",
        "learn_friction": False,
        "learn_residual": False,
        "friction_use_dt": True,
        "friction_use_delta": True,
        "friction_use_vy": True,
        "friction_param": {"mode": "softplus_offset_1", "k_min": 0.2, "k_max": 2.0},
        "hidden_dims": [128, 128],
        "control_adapter": {**_ADAPTER, "steer_output_scale": 0.6, "acc_output_scale": None},
    },
    "training": {
        "batch_size": 256,
        "epochs": 1000,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "device": None,
        "run_root": None,
        "run_name": None,
        "ckpt_name": "best.pt",
        "eval_every": 5,
        "early_stop_patience": None,
        "early_stop_min_delta": 0.0,
        "lr_scheduler": None,
        "lr_t_max": None,
        "lr_eta_min": 0.0,
        "loss": {
            "one_step_mse": {"enabled": True, "weight": 1.0},
            "rollout_mse": {
                "enabled": False,
                "horizon": 10,
                "weight": 1.0,
                "teacher_forcing_prob": 0.0,
                "detach_between_steps": False,
            },
            "pose_mse": {"enabled": False, "weight": 0.1, "components": ["x", "y"]},
            "weights": {"vx": 1.0, "vy": 1.0, "w": 1.0},
            "rollout_cvar": {
                "enabled": False,
                "alpha": 0.2,
                "apply_to": "rollout_plus_pose",
                "min_k": 1,
            },
        },
        "regularization": {
            "adapter_identity_weight": 0.0,
            "residual_l2_weight": 0.0,
            "friction_prior_weight": 0.0,
        },
        "optim": {"grad_clip_norm": 0.0},
    },
}
"""Every legal key of the reference's files with the value it has where a file leaves it out."""

WINDOWS_PER_GROUP = 4
SCHEDULERS = (None, "none", "cosine")


@dataclasses.dataclass(frozen=True)
class ReferenceNames:
    """What a file says besides the settings of the learner.

    Attributes:
        experiment: Name of the file without suffix.
        run_root: Folder of the run in the reference.
        run_name: Its name there.
        ckpt_name: Name of its checkpoint there.
        data_dir: Folder of its data.
        num_eval_trajectories: Trajectories that test.
        val_ratio: Share of the others that selects.
        epochs: Passes over the one-step rows.
        notes: What is different here, a line each.
    """

    experiment: str
    run_root: str | None
    run_name: str | None
    ckpt_name: str
    data_dir: str | None
    num_eval_trajectories: int
    val_ratio: float
    epochs: int
    notes: tuple[str, ...]


class ReferenceConfig(NamedTuple):
    """A file of the reference as a run of ours, its seed, and its names."""

    run: DynamicsRun
    seed: int
    names: ReferenceNames


def load_reference_config(path: str | Path) -> ReferenceConfig:
    """Read a config file of the reference.

    Its ``epochs`` do not become steps, since that takes the size of the data: see
    :func:`reference_steps`.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: It is no JSON object, or a key is unknown or has the wrong type.
        ValueError: A value breaks a rule; the message ends in the file's name.
    """
    path = Path(path)
    refuse_checkpoint(path)
    if not path.is_file():
        raise FileNotFoundError(f"config not found: {path}")
    content = read_json(path, ConfigError)
    merged = _merged(content, KEYS, path.name)
    try:
        run, notes = settle_tail(_run(merged, path.name))
    except ConfigError:
        raise
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')} ({path.name})") from error
    data, training = merged["data"], merged["training"]

    def read(kind: Any, section: str, key: str) -> Any:
        return from_plain(kind, merged[section][key], path.name, f"{section}.{key}")

    names = ReferenceNames(
        experiment=path.stem,
        run_root=read(str | None, "training", "run_root"),
        run_name=read(str | None, "training", "run_name"),
        ckpt_name=read(str, "training", "ckpt_name"),
        data_dir=read(str | None, "data", "data_dir"),
        num_eval_trajectories=read(int, "data", "num_eval_trajectories"),
        val_ratio=read(float, "data", "val_ratio"),
        epochs=read(int, "training", "epochs"),
        notes=(*notes, *_notes(data, merged["model"], training)),
    )
    return ReferenceConfig(run, from_plain(int, merged["seed"], path.name, "seed"), names)


def settle_tail(run: DynamicsRun) -> tuple[DynamicsRun, tuple[str, ...]]:
    """Switch CVaR off where there is no rollout, and warn where the tail is less than one item.

    Returns:
        The run, and a line for each of the two that is so.
    """
    loss, tail = run.agent.loss, run.agent.loss.rollout_cvar
    if tail.enabled and not loss.rollout_mse.enabled:
        off = dataclasses.replace(loss, rollout_cvar=dataclasses.replace(tail, enabled=False))
        agent = dataclasses.replace(run.agent, loss=off)
        line = "rollout_cvar is switched off, since rollout_mse.enabled is false; alpha is 1"
        return dataclasses.replace(run, agent=agent), (line,)
    of_items = tail.group == "item"
    units = run.agent.batch_size if of_items else run.agent.groups
    if tail.enabled and tail.alpha * units < 1:
        name, option = ("item", "batch_size") if of_items else ("trajectory", "groups")
        return run, (
            f"rollout_cvar: a tail of one {name} (alpha {tail.alpha:g} of {units}); raise {option} "
            f"to ≥ {math.ceil(1 / tail.alpha)}",
        )
    return run, ()


def as_reference(run: DynamicsRun) -> DynamicsRun:
    """The run without what the reference does not have.

    Single items make the tail from the first step on, unscaled; poses follow the twist at the end
    of a step; the last parameters count, not their average; no noise.
    """
    agent = run.agent
    tail = dataclasses.replace(
        agent.loss.rollout_cvar, group="item", warmup=0.0, anneal_end=0.0, scale_match=False
    )
    loss = dataclasses.replace(agent.loss, rollout_cvar=tail, input_noise=0.0)
    optim = dataclasses.replace(agent.optim, average_decay=0.0)
    agent = dataclasses.replace(
        agent,
        loss=loss,
        optim=optim,
        groups=agent.batch_size,
        windows_per_group=1,
        integrator="next",
    )
    return dataclasses.replace(run, agent=agent)


def reference_steps(epochs: int, one_step_rows: int, batch_size: int) -> int:
    """Gradient steps of so many passes over the rows, the last batch of a pass cut short."""
    return epochs * -(-one_step_rows // batch_size)


def refuse_checkpoint(path: Path) -> None:
    """Refuse checkpoints of the reference, and any other pickle.

    Raises:
        ValueError: The path is one; says how to get at its numbers.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ValueError(
            f"{path}: pickled files are not opened, since opening one runs the code inside. Export "
            "it in the environment that wrote it: safetensors.torch.save_file(torch.load("
            f"{path.name!r}, weights_only=True)['state_dict'], 'best.safetensors'). Its networks "
            "work on z-scores and are no model of ours: to have one, `steelyard train dynamics "
            "DATA --config config.json` with the config beside it."
        )


def _run(merged: Mapping[str, Any], file: str) -> DynamicsRun:
    model, training = dict(merged["model"]), merged["training"]
    given = dict(model.pop("control_adapter"))
    if given["steer_output_scale"] is None:  # unbounded; our plant has a bound
        del given["steer_output_scale"]
    adapter = from_plain(AdapterConfig, given, file, "model.control_adapter")
    adapter = dataclasses.replace(adapter, acc_output_scale=None)  # see _notes
    friction = from_plain(FrictionConfig, model.pop("friction_param"), file, "model.friction_param")
    if isinstance(model["type"], str):
        model["type"] = model["type"].lower()
    chosen = from_plain(ModelConfig, model, file, "model")
    parts = {
        "one_step_mse": OneStepConfig,
        "rollout_mse": RolloutConfig,
        "pose_mse": PoseConfig,
        "weights": TwistWeights,
        "rollout_cvar": RolloutCvarConfig,
    }
    loss = {
        name: from_plain(kind, training["loss"][name], file, f"training.loss.{name}")
        for name, kind in parts.items()
    }
    size = from_plain(int, training["batch_size"], file, "training.batch_size")
    if size < 1:
        raise ValueError(f"training.batch_size must be at least 1, got {size}")
    each = math.gcd(size, WINDOWS_PER_GROUP)
    agent = DynamicsConfig(
        model=dataclasses.replace(chosen, control_adapter=adapter, friction_param=friction),
        loss=LossConfig(**loss),
        regularization=from_plain(
            RegularizationConfig, training["regularization"], file, "training.regularization"
        ),
        optim=_optim(training, file),
        groups=size // each,
        windows_per_group=each,
    )
    return DynamicsRun(agent=agent)


def _optim(training: Mapping[str, Any], file: str) -> OptimConfig:
    scheduler = training["lr_scheduler"]
    if scheduler not in SCHEDULERS:
        raise ConfigError(
            f"{file}: training.lr_scheduler must be 'cosine' or null, got {scheduler!r:.80}"
        )
    numbers = {"lr": training["lr"], "weight_decay": training["weight_decay"]}
    given = from_plain(OptimConfig, numbers, file, "training")
    last = from_plain(float, training["lr_eta_min"], file, "training.lr_eta_min")
    clip = from_plain(
        float, training["optim"]["grad_clip_norm"], file, "training.optim.grad_clip_norm"
    )
    return dataclasses.replace(
        given,
        lr_eta_min=last if scheduler == "cosine" else given.lr,
        grad_clip_norm=clip if clip > 0 else math.inf,
    )


def _notes(
    data: Mapping[str, Any], model: Mapping[str, Any], training: Mapping[str, Any]
) -> list[str]:
    notes = []
    if data["val_split_mode"] != "trajectory":
        notes.append(
            f"val_split_mode {data['val_split_mode']!r}: whole trajectories are split here; single "
            "time steps would put neighbours on both sides"
        )
    scale = model["control_adapter"]["acc_output_scale"]
    if scale is not None:
        notes.append(
            f"acc_output_scale {scale:g} was in standard deviations in the reference: the bound "
            "fitted to the data is taken (--model.control-adapter.acc-output-scale, m/s²)"
        )
    notes.append(
        f"epochs {training['epochs']}, eval_every, early_stop_*: training takes --steps; the model "
        "of least open-loop validation error is kept"
    )
    if training["weight_decay"]:
        notes.append("weight_decay is decoupled from Adam here (AdamW)")
    return notes


def _merged(given: Any, legal: Mapping[str, Any], file: str, key: str = "") -> dict[str, Any]:
    """The given values over the defaults, at any depth; comments are left out.

    Raises:
        ConfigError: A key is unknown, or an object is none.
    """
    if not isinstance(given, dict):
        got = clipped(repr(given))
        raise ConfigError(f"{file}: {key or 'the file'} must be a JSON object, got {got}")
    given = {name: value for name, value in given.items() if not name.startswith("_")}
    refuse_unknown(given, legal, file, key)
    return {
        name: (
            _merged(given.get(name, {}), default, file, inside(key, name))
            if isinstance(default, dict)
            else given.get(name, default)
        )
        for name, default in legal.items()
    }
