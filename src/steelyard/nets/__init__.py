"""Network building blocks: per-item functions of one observation, batched by ``jax.vmap``."""

from steelyard.nets.distributions import (
    TanhGaussian,
    choose_tanh_normal,
    sample_tanh_normal,
    tanh_normal_log_prob,
)
from steelyard.nets.ensemble import apply_ensemble, make_ensemble, q_values
from steelyard.nets.mlp import ACTIVATIONS, MLP

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "TanhGaussian",
    "apply_ensemble",
    "choose_tanh_normal",
    "make_ensemble",
    "q_values",
    "sample_tanh_normal",
    "tanh_normal_log_prob",
]
