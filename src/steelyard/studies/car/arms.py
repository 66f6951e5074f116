"""Arms of the car study: the configurations of the reference, with and without CVaR; controls."""

import dataclasses
from collections.abc import Callable

from steelyard.agents.dynamics import (
    AdapterConfig,
    DynamicsConfig,
    HardReplayConfig,
    OneStepConfig,
    PoseConfig,
    RegularizationConfig,
    RolloutCvarConfig,
)
from steelyard.reports.spec import Role

TAIL = "_cvar0p2"
"""Suffix of an arm that learns CVaR at 0.2, as in the reference."""

Change = Callable[[DynamicsConfig], DynamicsConfig]


@dataclasses.dataclass(frozen=True)
class ArmSpec:
    """How an arm differs from the study's common settings.

    Attributes:
        title: Name for people.
        description: What it is for.
        change: From the common settings to the arm's.
        role: Its part in the comparison.
        seeds: ``sweep`` arms run on every seed, others on the reference's one seed.
        run_name: Name of a run in the reference, ``{seed}`` for its seed.
        members: Models that are averaged.
        alike: Whether seeds hardly matter, so that one is enough.
    """

    title: str
    description: str
    change: Change
    role: Role = "method"
    sweep: bool = True
    run_name: str = ""
    members: int = 1
    alike: bool = False


def _rollout(config: DynamicsConfig, **fields: object) -> DynamicsConfig:
    rollout = dataclasses.replace(config.loss.rollout_mse, **fields)  # pyright: ignore[reportArgumentType]
    return _loss(config, rollout_mse=rollout)


def _loss(config: DynamicsConfig, **fields: object) -> DynamicsConfig:
    loss = dataclasses.replace(config.loss, **fields)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(config, loss=loss)


def _model(config: DynamicsConfig, **fields: object) -> DynamicsConfig:
    model = dataclasses.replace(config.model, **fields)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(config, model=model)


def with_tail(config: DynamicsConfig, alpha: float = 0.2) -> DynamicsConfig:
    """The same settings, learning the tail ``alpha`` of the windows' losses."""
    tail = dataclasses.replace(config.loss.rollout_cvar, enabled=True, alpha=alpha)
    return _loss(config, rollout_cvar=tail)


def _direct(config: DynamicsConfig, adapter: bool) -> DynamicsConfig:
    return _model(config, type="direct", control_adapter=AdapterConfig(enabled=adapter))


def _xytheta(config: DynamicsConfig) -> DynamicsConfig:
    return _loss(config, pose_mse=PoseConfig(weight=0.02, components=("x", "y", "theta")))


def _residual_l2(config: DynamicsConfig) -> DynamicsConfig:
    return dataclasses.replace(config, regularization=RegularizationConfig(residual_l2_weight=0.01))


def _one_step(config: DynamicsConfig) -> DynamicsConfig:
    config = _loss(config, one_step_mse=OneStepConfig(), pose_mse=PoseConfig(enabled=False))
    return _rollout(_direct(config, False), enabled=False, horizon=1)


def _plant(kind: str) -> Change:
    def change(config: DynamicsConfig) -> DynamicsConfig:
        optim = dataclasses.replace(config.optim, lr=1e-2, grad_clip_norm=10.0)
        fitted = _loss(_model(config, type=kind, history=0), input_noise=0.0)
        return dataclasses.replace(fitted, optim=optim)

    return change


def _same(config: DynamicsConfig) -> DynamicsConfig:
    return config


def _hybrid(config: DynamicsConfig) -> DynamicsConfig:
    return _model(config, type="structured", physics="single_track")


_BASE = {
    "structured": ArmSpec("Structured", "physics, adapter, residual; mean loss", _same, "baseline"),
    "direct": ArmSpec(
        "Direct", "a network alone; mean loss", lambda c: _direct(c, False), "baseline"
    ),
    "exp2_seed_sweep": ArmSpec(
        "exp2 (structured)",
        "the reference's base configuration",
        _same,
        "baseline",
        run_name="residual_seed{seed}",
    ),
    "exp2_h20": ArmSpec(
        "exp2, horizon 20",
        "does a longer horizon help CVaR?",
        lambda c: _rollout(c, horizon=20),
        "baseline",
        sweep=False,
        run_name="residual_h20",
    ),
    "exp2_tf0": ArmSpec(
        "exp2, no teacher forcing",
        "does CVaR help more on harder rollouts?",
        lambda c: _rollout(c, teacher_forcing_prob=0.0),
        "baseline",
        sweep=False,
        run_name="residual_tf0",
    ),
    "exp2_tf0p5": ArmSpec(
        "exp2, teacher forcing 0.5",
        "does CVaR help more on harder rollouts?",
        lambda c: _rollout(c, teacher_forcing_prob=0.5),
        "baseline",
        sweep=False,
        run_name="residual_tf0p5",
    ),
    "exp2_xytheta": ArmSpec(
        "exp2, heading in the pose loss",
        "supervises the heading too",
        _xytheta,
        "baseline",
        sweep=False,
        run_name="residual_xytheta",
    ),
    "exp2_resl2_0p01": ArmSpec(
        "exp2, residual L2 0.01",
        "a smaller residual",
        _residual_l2,
        "baseline",
        sweep=False,
        run_name="residual_resl2_0p01",
    ),
    "exp6_direct_rollout_pose": ArmSpec(
        "exp6 (direct, adapter)",
        "can CVaR make a network alone competitive?",
        lambda c: _direct(c, True),
        "baseline",
        sweep=False,
        run_name="direct_rollout_pose",
    ),
    "exp7_direct_no_adapter_rollout_pose": ArmSpec(
        "exp7 (direct)",
        "the same without an adapter",
        lambda c: _direct(c, False),
        "baseline",
        sweep=False,
        run_name="direct_no_adapter_rollout_pose",
    ),
}


def _tailed(name: str, base: ArmSpec) -> ArmSpec:
    return dataclasses.replace(
        base,
        title=f"{base.title}, CVaR 0.2",
        description="the same, learning the worst fifth of the trajectories",
        change=lambda config: with_tail(base.change(config)),
        role="method",
        run_name=f"{base.run_name}{TAIL}" if base.run_name else "",
    )


def _frontier(alpha: float) -> ArmSpec:
    return ArmSpec(
        f"Structured, CVaR {alpha:g}",
        "another share of the worst",
        lambda config: with_tail(config, alpha),
    )


MEAN_LOSS_RATIO = 3.0
"""By how much the tail's mean exceeds the mean on `mixed`, with CVaR 0.2 and without scale matching
(measured); what `mean_x_c` multiplies its loss by."""

_CONTROLS = {
    "mean_x_c": ArmSpec(
        "Structured, loss × 3",
        "control: the mean, its steps as large as unscaled CVaR's",
        lambda c: _loss(c, factor=MEAN_LOSS_RATIO),
        "control",
    ),
    "hard_replay": ArmSpec(
        "Structured, hard replay",
        "control: trajectories drawn by the rank of their last loss, corrected for it",
        lambda c: dataclasses.replace(c, hard_replay=HardReplayConfig(enabled=True)),
        "control",
    ),
    "huber": ArmSpec(
        "Structured, Huber",
        "control: the opposite emphasis, large losses count less",
        lambda c: _loss(c, huber=0.05),
        "control",
    ),
    "no_scale_match": ArmSpec(
        "Structured, CVaR 0.2 unscaled",
        "control: the reference's objective, up to 1/α larger",
        lambda c: _loss(
            with_tail(c), rollout_cvar=RolloutCvarConfig(enabled=True, scale_match=False)
        ),
        "control",
    ),
    "item_tail": ArmSpec(
        "Structured, CVaR 0.2 over windows",
        "control: single windows, not trajectories, make the tail",
        lambda c: _loss(with_tail(c), rollout_cvar=RolloutCvarConfig(enabled=True, group="item")),
        "control",
    ),
}

_CONTEXTS = {
    "direct_context": ArmSpec(
        "Direct, with context",
        "the same model, corrected by its mean error over the last second",
        _same,
    ),
    "hybrid_context": ArmSpec(
        "Single track and networks, with context",
        "the same model, corrected by its mean error over the last second",
        _hybrid,
    ),
    "single_track_context": ArmSpec(
        "Single track, with context",
        "the same fit, corrected by its mean error over the last second",
        _same,
        "control",
        alike=True,
    ),
}

_PEERS = {
    "naive": ArmSpec("Constant twist", "nothing changes", _same, "anchor", alike=True),
    "kinematic": ArmSpec(
        "Kinematic car", "no slip; fitted", _plant("kinematic"), "control", alike=True
    ),
    "single_track": ArmSpec(
        "Single track", "tyres, lags; fitted", _plant("single_track"), "control", alike=True
    ),
    "hybrid": ArmSpec(
        "Single track and networks",
        "the structured model on tyres and lags instead of a kinematic car",
        _hybrid,
        "control",
    ),
    "structured_friction": ArmSpec(
        "Structured, with friction network",
        "yaw follows the kinematics as fast as a network says, not at once",
        lambda c: _model(c, learn_friction=True),
        "control",
    ),
    "one_step": ArmSpec("One-step network", "never rolls out in training", _one_step, "control"),
    "ensemble": ArmSpec(
        "Five one-step networks",
        "their mean, as in PETS (Chua et al. 2018)",
        _one_step,
        "control",
        members=5,
    ),
}

ARMS: dict[str, ArmSpec] = {
    **{
        name: arm
        for base, spec in _BASE.items()
        for name, arm in ((base, spec), (base + TAIL, _tailed(base, spec)))
    },
    **{f"structured_cvar{str(a).replace('.', 'p')}": _frontier(a) for a in (0.7, 0.5, 0.3, 0.1)},
    **_CONTROLS,
    **_CONTEXTS,
    **_PEERS,
}
"""Every arm by name."""

MATRIX = tuple(
    f"{name}{suffix}" for name in _BASE if name.startswith("exp") for suffix in ("", TAIL)
)
"""The arms of the reference's 24 runs: five seeds of the sweep, one of the others, twice."""

FRONTIER = (
    "structured",
    "structured_cvar0p7",
    "structured_cvar0p5",
    "structured_cvar0p3",
    f"structured{TAIL}",
    "structured_cvar0p1",
)
"""From the mean to the sharpest tail."""


def pairs(arms: tuple[str, ...]) -> list[tuple[str, str]]:
    """The tail arms among some, each with its baseline."""
    tailed = [arm for arm in arms if arm.endswith(TAIL)]
    return [(arm, arm.removesuffix(TAIL)) for arm in tailed if arm.removesuffix(TAIL) in arms]
