"""Emphasis: what data count, and how much, as parts that are seen, swapped and measured.

A score says how much each item matters, a weighting turns scores into a distribution, a sampler
draws batches from it or a reduction weights losses with it, and diagnostics say what it did.
"""

from steelyard.emphasis.checks import require_nonnegative
from steelyard.emphasis.clusters import cluster_labels
from steelyard.emphasis.diagnostics import RATIO_EDGES, diagnose
from steelyard.emphasis.gradient_norm import gradient_norm
from steelyard.emphasis.grid import SCORE_KINDS, refusal
from steelyard.emphasis.influence import influence
from steelyard.emphasis.loss_emphasis import LossEmphasis, make_loss_emphasis
from steelyard.emphasis.loss_records import LossEmphasisInfo, LossEmphasisState
from steelyard.emphasis.measures import length_base, uniform_base
from steelyard.emphasis.reductions import (
    REDUCTIONS,
    CVaR,
    Mean,
    Reduction,
    SelfNormalisedMean,
    WeightedMean,
    make_reduction,
)
from steelyard.emphasis.samplers import (
    SAMPLERS,
    Drawn,
    DrawnStarts,
    Multinomial,
    Sampler,
    Systematic,
    Table,
    defensive_mixture,
    draw_starts,
    draw_starts_from,
    draw_uniform,
    make_sampler,
    tabulate,
)
from steelyard.emphasis.scores import SCORES, constant, episode_return, own_loss
from steelyard.emphasis.tail_relatives import ChiSquare, MeanTail, SmoothTail, Tilted
from steelyard.emphasis.tail_settings import require_alpha, require_min_k, small_tail_warning
from steelyard.emphasis.weighting import Weighting
from steelyard.emphasis.weightings import (
    WEIGHTINGS,
    Balanced,
    Drop,
    Proportional,
    Rank,
    Softmax,
    Tail,
    Uniform,
    make_weighting,
    register_weighting,
)

__all__ = [
    "RATIO_EDGES",
    "REDUCTIONS",
    "SAMPLERS",
    "SCORES",
    "SCORE_KINDS",
    "WEIGHTINGS",
    "Balanced",
    "CVaR",
    "ChiSquare",
    "Drawn",
    "DrawnStarts",
    "Drop",
    "LossEmphasis",
    "LossEmphasisInfo",
    "LossEmphasisState",
    "Mean",
    "MeanTail",
    "Multinomial",
    "Proportional",
    "Rank",
    "Reduction",
    "Sampler",
    "SelfNormalisedMean",
    "SmoothTail",
    "Softmax",
    "Systematic",
    "Table",
    "Tail",
    "Tilted",
    "Uniform",
    "WeightedMean",
    "Weighting",
    "cluster_labels",
    "constant",
    "defensive_mixture",
    "diagnose",
    "draw_starts",
    "draw_starts_from",
    "draw_uniform",
    "episode_return",
    "gradient_norm",
    "influence",
    "length_base",
    "make_loss_emphasis",
    "make_reduction",
    "make_sampler",
    "make_weighting",
    "own_loss",
    "refusal",
    "register_weighting",
    "require_alpha",
    "require_min_k",
    "require_nonnegative",
    "small_tail_warning",
    "tabulate",
    "uniform_base",
]
