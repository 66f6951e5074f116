"""A synthetic judge: what segments are worth, and noisy answers about them, as pure functions.

Knox et al. 2022, "Models of human preference for learning reward functions", arXiv:2206.02231
(return and regret); Davidson 1970 (ties).
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from steelyard.data.preferences import Pairs, Ratings
from steelyard.data.segments import Segments

Utility = Literal["return", "success", "last_reward"]


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """Who judges, and how reliably."""

    utility: Utility = "return"
    """Worth of a segment: its return, whether it succeeds, or its last step's reward."""
    gamma: float = 1.0
    """Discount per step of the return."""
    bins: int = 5
    """Ratings 1 … bins, by quantile."""
    rating_noise: float = 0.0
    """Deviation of what is added to the worth before it is rated, in deviations of it."""
    beta: float = float("inf")
    """How sharply pairs are told apart, in deviations of the worth; infinite is exactly."""
    tie: float = 0.0
    """`ν` of Davidson's ties; 0 has none."""
    flip: float = 0.0
    """Share of answers that are turned round, or of ratings that are drawn anew."""

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"judge.bins is at least 2: got {self.bins}")
        if not 0.0 <= self.flip <= 1.0:
            raise ValueError(f"judge.flip lies in [0, 1]: got {self.flip}")
        if self.rating_noise < 0 or self.tie < 0 or self.beta <= 0:
            raise ValueError(
                "judge: rating_noise and tie are at least 0 and beta is above 0, got "
                f"{self.rating_noise}, {self.tie}, {self.beta}"
            )


def utilities(segments: Segments, config: JudgeConfig) -> Float[np.ndarray, " item"]:
    """What each segment is worth to the judge."""
    if config.utility == "success":
        return np.asarray((segments.success & segments.valid).any(axis=1), np.float64)
    reward = np.where(segments.valid, segments.reward, 0.0).astype(np.float64)
    if config.utility == "last_reward":
        last = segments.valid.sum(axis=1) - 1
        return np.asarray(reward[np.arange(len(segments)), last])
    return np.asarray(reward @ (config.gamma ** np.arange(segments.steps)))


def rate(
    worth: Float[np.ndarray, " item"],
    which: Int[np.ndarray, " rating"],
    config: JudgeConfig,
    random: np.random.Generator,
) -> Ratings:
    """Rate segments 1 … ``bins`` by the quantile of their worth among those that are rated.

    Args:
        worth: Of every segment.
        which: Segments to rate.
        config: The judge.
        random: Of the noise.
    """
    own = worth[which]
    spread = float(own.std()) or 1.0
    seen = own + config.rating_noise * spread * random.standard_normal(len(own))
    edges = np.quantile(seen, np.arange(1, config.bins) / config.bins)
    rating = 1.0 + np.searchsorted(edges, seen, side="left")
    wrong = random.random(len(own)) < config.flip
    rating = np.where(wrong, random.integers(1, config.bins + 1, len(own)), rating)
    return Ratings(which, rating.astype(np.float64), np.zeros(len(which), int), ("judge",))


def compare(
    worth: Float[np.ndarray, " item"],
    first: Int[np.ndarray, " pair"],
    second: Int[np.ndarray, " pair"],
    config: JudgeConfig,
    random: np.random.Generator,
) -> Pairs:
    """Compare segments two by two: ``P ∝ e^{βΔ/2}, e^{-βΔ/2}, ν``, then flip some answers.

    Args:
        worth: Of every segment.
        first: One segment of each pair.
        second: The other.
        config: The judge.
        random: Of the answers.
    """
    difference = (worth[first] - worth[second]) / (float(worth.std()) or 1.0)
    if np.isinf(config.beta):
        better, tied = difference > 0, difference == 0
    else:
        half = 0.5 * config.beta * difference
        parts = np.stack([np.exp(half - np.abs(half)), np.exp(-half - np.abs(half))])
        tie = config.tie * np.exp(-np.abs(half))
        total = parts.sum(0) + tie
        drawn = random.random(len(half)) * total
        tied, better = drawn >= parts.sum(0), drawn < parts[0]
    turned = random.random(len(difference)) < config.flip
    better = np.where(turned, ~better, better)
    label = np.where(tied, 0.5, 1.0)
    strength = np.where(tied, 0.0, np.minimum(np.abs(difference), 1.0))
    who = np.zeros(len(label), int)
    winner, loser = np.where(better, first, second), np.where(better, second, first)
    return Pairs(winner, loser, label, strength, who, ("judge",))
