"""Hyper-parameters of dynamics learning; the keys are those of the reference code's JSON files."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

ModelType = Literal["structured", "direct", "kinematic", "single_track"]
Component = Literal["x", "y", "theta"]
COMPONENTS = ("x", "y", "theta")
ApplyTo: TypeAlias = Literal["rollout_plus_pose", "rollout", "pose"]
Group: TypeAlias = Literal["item", "trajectory"]
Estimator: TypeAlias = Literal["batch", "running"]
HorizonReduction: TypeAlias = Literal["mean", "final", "max"]


def _require_name(place: str, value: object, legal: Sequence[str]) -> None:
    if value not in legal:
        near = difflib.get_close_matches(str(value), legal, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{place} must be one of {', '.join(map(repr, legal))}, got {value!r}{hint}"
        )


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The network between the commands and the plant, or before a direct model."""

    enabled: bool = True
    """Whether commands are adapted."""
    include_speed_mag_steer: bool = True
    """Give the steering adapter the speed."""
    include_speed_sign_steer: bool = True
    """Give the steering adapter the direction of travel, as `tanh(vx / 0.05)`."""
    include_speed_mag_acc: bool = True
    """Give the acceleration adapter the speed."""
    include_speed_sign_acc: bool = True
    """Give the acceleration adapter the direction of travel."""
    include_vy_acc: bool = True
    """Give the acceleration adapter the sideways velocity."""
    include_w_acc: bool = True
    """Give the acceleration adapter the yaw rate."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of each hidden layer (tanh)."""
    steer_output_scale: float = 0.6
    """Largest steering angle after adaptation, rad."""
    acc_output_scale: float | None = None
    """Largest acceleration after adaptation, m/s²; none takes the fitted plant's."""


@dataclasses.dataclass(frozen=True)
class FrictionConfig:
    """How a network's output becomes the friction factor `k`."""

    mode: Literal["softplus_offset_1", "exp", "sigmoid_range"] = "sigmoid_range"
    """`softplus_offset_1` is 1 at 0 and unbounded, `exp` is clamped, `sigmoid_range` is 1 at 0 and
    stays within the range."""
    k_min: float = 0.2
    """Least factor."""
    k_max: float = 2.0
    """Largest factor."""

    def __post_init__(self) -> None:
        if not 0.0 < self.k_min < 1.0 < self.k_max:
            raise ValueError(
                f"friction_param needs 0 < k_min < 1 < k_max; got {self.k_min} and {self.k_max}."
            )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What predicts the next twist."""

    type: ModelType = "structured"
    """`structured`: a plant in SI units, an adapter before and a residual after it; `direct`: a
    network; `kinematic`, `single_track`: the plants alone, their parameters fitted."""
    physics: Literal["kinematic", "single_track"] = "kinematic"
    """Plant of the structured model."""
    hidden_dims: tuple[int, ...] = (128, 128)
    """Width of each hidden layer of the direct model (tanh)."""
    predict: Literal["delta", "next"] = "delta"
    """Whether the direct model's network gives the change or the next twist (the reference)."""
    learn_residual: bool = True
    """Whether a network corrects the plant's twist."""
    residual_hidden: tuple[int, ...] = (32, 32)
    """Width of each hidden layer of the residual and friction networks (tanh)."""
    learn_friction: bool = False
    """Whether a network scales how fast the yaw rate follows the kinematics."""
    friction_use_delta: bool = True
    """Give the friction network the steering angle."""
    friction_use_vy: bool = True
    """Give the friction network the sideways velocity."""
    friction_use_dt: bool = True
    """Give the friction network the length of the step."""
    friction_param: FrictionConfig = FrictionConfig()
    """Range of the friction factor."""
    control_adapter: AdapterConfig = AdapterConfig()
    """The adapter."""
    history: int = 0
    """Past commands that the networks see."""


@dataclasses.dataclass(frozen=True)
class OneStepConfig:
    """Error of the first predicted twist."""

    enabled: bool = True
    """Whether the term counts."""
    weight: float = 1.0
    """Its factor."""


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """Error of the twists of an open-loop rollout."""

    enabled: bool = True
    """Whether the term counts."""
    horizon: int = 10
    """Steps."""
    weight: float = 0.5
    """Its factor."""
    teacher_forcing_prob: float = 0.0
    """Chance, per item and step, that a step starts at the recorded twist."""
    detach_between_steps: bool = False
    """Whether gradients stop between steps."""
    horizon_reduction: HorizonReduction = "mean"
    """How the errors of the steps become one."""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"rollout_mse.horizon must be at least 1, got {self.horizon}.")
        if not 0.0 <= self.teacher_forcing_prob <= 1.0:
            raise ValueError(
                "rollout_mse.teacher_forcing_prob must be in [0, 1], "
                f"got {self.teacher_forcing_prob}."
            )
        _require_name(
            "rollout_mse.horizon_reduction", self.horizon_reduction, get_args(HorizonReduction)
        )


@dataclasses.dataclass(frozen=True)
class PoseConfig:
    """Error of the poses that the rollout's twists lead to."""

    enabled: bool = True
    """Whether the term counts."""
    weight: float = 0.05
    """Its factor."""
    components: tuple[Component, ...] = ("x", "y")
    """Which errors count: m, m and rad."""

    def __post_init__(self) -> None:
        for component in self.components:
            _require_name("pose_mse.components", component, COMPONENTS)


@dataclasses.dataclass(frozen=True)
class TwistWeights:
    """How much each component of the twist counts, in every term."""

    vx: float = 1.0
    """Forward velocity."""
    vy: float = 1.0
    """Sideways velocity."""
    w: float = 2.0
    """Yaw rate."""


@dataclasses.dataclass(frozen=True)
class RolloutCvarConfig:
    """How much each window counts: its own loss is the score, a tail of the losses is learned."""

    enabled: bool = False
    """Whether anything but the mean is learned."""
    alpha: float = 0.2
    """Share of the worst in the tail, in (0, 1]."""
    apply_to: ApplyTo = "rollout_plus_pose"
    """Which terms make the score and are weighted; the others count by their mean."""
    min_k: int = 1
    """The tail holds at least this many."""
    group: Group = "trajectory"
    """Whether single windows, or the windows of one trajectory together, make the tail."""
    warmup: float = 0.25
    """Share of the training during which everything counts alike."""
    anneal_end: float = 0.7
    """Share of the training at which `alpha` is reached."""
    scale_match: bool = True
    """Whether the term is scaled back to the size of the mean."""
    estimator: Estimator = "batch"
    """Whether the tail's threshold is that of the batch or follows all batches."""
    trim: float = 0.0
    """Share of the very worst to leave out, for recordings with faults."""

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha <= 1.0:
            raise ValueError(f"rollout_cvar.alpha must be in (0, 1], got {self.alpha}.")
        if self.min_k < 1:
            raise ValueError(f"rollout_cvar.min_k must be at least 1, got {self.min_k}.")
        if not 0.0 <= self.warmup <= self.anneal_end <= 1.0:
            raise ValueError(
                "rollout_cvar needs 0 <= warmup <= anneal_end <= 1, "
                f"got {self.warmup} and {self.anneal_end}."
            )
        if not 0.0 <= self.trim < 1.0:
            raise ValueError(f"rollout_cvar.trim must be in [0, 1), got {self.trim}.")
        for name, legal in (("apply_to", ApplyTo), ("group", Group), ("estimator", Estimator)):
            _require_name(f"rollout_cvar.{name}", getattr(self, name), get_args(legal))


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Terms of the loss."""

    one_step_mse: OneStepConfig = OneStepConfig()
    """First predicted twist."""
    rollout_mse: RolloutConfig = RolloutConfig()
    """Twists of a rollout."""
    pose_mse: PoseConfig = PoseConfig()
    """Poses of a rollout."""
    weights: TwistWeights = TwistWeights()
    """Components of the twist."""
    rollout_cvar: RolloutCvarConfig = RolloutCvarConfig()
    """How much each window counts."""
    factor: float = 1.0
    """Factor on the terms that `rollout_cvar.apply_to` names: a control for their size."""
    input_noise: float = 0.1
    """Noise on the twist that a rollout starts from, in standard deviations of the twist: a model
    then learns to come back to what it has seen."""
    huber: float = math.inf
    """Item losses above this count by twice their root only (Huber): a control for outliers."""

    def __post_init__(self) -> None:
        tail, pose = self.rollout_cvar, self.pose_mse
        if tail.enabled and tail.apply_to == "pose" and not pose.enabled:
            raise ValueError(
                "rollout_cvar.apply_to is 'pose', but pose_mse.enabled is false: enable it, or "
                "apply to 'rollout'."
            )
        if pose.enabled and not pose.components:
            raise ValueError(f"pose_mse.components must name some of {COMPONENTS}, got none.")
        if not self.huber > 0.0:
            raise ValueError(f"loss.huber must be above 0, got {self.huber}.")


@dataclasses.dataclass(frozen=True)
class RegularizationConfig:
    """Terms on the model's parts."""

    adapter_identity_weight: float = 0.0
    """Factor on the squared difference between adapted and given commands."""
    residual_l2_weight: float = 0.0
    """Factor on the mean squared residual, in standardised units."""
    friction_prior_weight: float = 0.0
    """Factor on the squared difference of the friction factor from 1."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How parameters move."""

    lr: float = 1e-3
    """Adam step at the start."""
    lr_eta_min: float = 1e-6
    """Adam step at the end of the cosine."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    grad_clip_norm: float = 1.0
    """Largest norm of the gradient."""
    average_decay: float = 0.999
    """Decay of the average of the parameters, which is what is kept; 0 keeps the last ones."""


@dataclasses.dataclass(frozen=True)
class HardReplayConfig:
    """Draw trajectories by the rank of the loss that they last had, and owe for it."""

    enabled: bool = False
    """Whether trajectories are drawn so; else all windows count the same."""
    power: float = 1.0
    """How sharply the rank decides; 0 draws as without."""
    floor: float = 0.2
    """Share that is drawn as without, which bounds the weight that is owed by its inverse."""
    correction: float = 1.0
    """Exponent of that weight: 1 leaves the objective as it is, 0 changes it."""

    def __post_init__(self) -> None:
        if not self.power >= 0.0:
            raise ValueError(f"hard_replay.power must be at least 0, got {self.power}.")
        if not 0.0 < self.floor <= 1.0:
            raise ValueError(f"hard_replay.floor must be in (0, 1], got {self.floor}.")
        if not 0.0 <= self.correction <= 1.0:
            raise ValueError(f"hard_replay.correction must be in [0, 1], got {self.correction}.")


@dataclasses.dataclass(frozen=True)
class DynamicsConfig:
    """A dynamics model and how it learns."""

    model: ModelConfig = ModelConfig()
    """The model."""
    loss: LossConfig = LossConfig()
    """What it minimises."""
    regularization: RegularizationConfig = RegularizationConfig()
    """Terms on its parts."""
    optim: OptimConfig = OptimConfig()
    """How its parameters move."""
    hard_replay: HardReplayConfig = HardReplayConfig()
    """Emphasis through batches instead of losses."""
    groups: int = 64
    """Trajectories in a batch."""
    windows_per_group: int = 4
    """Windows of each of them."""
    integrator: Literal["trapezoid", "next"] = "trapezoid"
    """How twists become poses: by the mean of both ends of a step, or by its end (reference)."""

    @property
    def batch_size(self) -> int:
        """Windows in a batch."""
        return self.groups * self.windows_per_group

    def __post_init__(self) -> None:
        tail = self.loss.rollout_cvar
        units = self.groups if tail.group == "trajectory" else self.batch_size
        if tail.enabled and tail.min_k > units:
            raise ValueError(
                f"rollout_cvar.min_k must be at most the {units} {tail.group} units of a batch, "
                f"got {tail.min_k}."
            )
