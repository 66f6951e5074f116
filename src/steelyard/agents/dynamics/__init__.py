"""Dynamics models of a vehicle, learned from recorded motion."""

from steelyard.agents.dynamics.config import (
    AdapterConfig,
    DynamicsConfig,
    FrictionConfig,
    HardReplayConfig,
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
from steelyard.agents.dynamics.learner import (
    Dynamics,
    DynamicsBatch,
    make_model,
    parameter_count,
    predict,
)
from steelyard.agents.dynamics.losses import Settings
from steelyard.agents.dynamics.plants import Plant, fit_kinematic, make_plant
from steelyard.agents.dynamics.scales import Scales

__all__ = [
    "AdapterConfig",
    "Dynamics",
    "DynamicsBatch",
    "DynamicsConfig",
    "FrictionConfig",
    "HardReplayConfig",
    "LossConfig",
    "ModelConfig",
    "OneStepConfig",
    "OptimConfig",
    "Plant",
    "PoseConfig",
    "RegularizationConfig",
    "RolloutConfig",
    "RolloutCvarConfig",
    "Scales",
    "Settings",
    "TwistWeights",
    "fit_kinematic",
    "make_model",
    "make_plant",
    "parameter_count",
    "predict",
]
