"""Bootstrap draws of items and of seeds, and statistics that read a draw as counts.

A draw with replacement is written as **how often each item is in it**, so that a statistic sorts
its items once and not once a draw. Draws are whole units (an item, or a block of items that are
near-copies of each other); the hierarchical bootstrap draws seeds, and items within each drawn seed
(Davison and Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

DRAWS = 10_000
_CHUNK = 250_000
"""Counts held at once; small enough for the processor's cache to help."""

Items = Float[np.ndarray, " item"]
Counts = Int[np.ndarray, "draw item"]
Statistic = Callable[[Items, Counts], Float[np.ndarray, "draw point"]]
"""Row-wise statistic: the items, and how often each draw holds them, to some numbers a draw."""

ItemDraws = Literal["within", "shared"]
"""``"within"``: each drawn seed draws its own items. ``"shared"``: one draw of items serves all
seeds, which is right where all seeds were judged on the same items and these stand for others."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean; infinite where an infinite item was drawn."""

    def __call__(self, values: Items, counts: Counts) -> Float[np.ndarray, "draw 1"]:
        """Apply row-wise; see :data:`Statistic`."""
        total = counts.sum(axis=1)
        return (_dot(counts.astype(np.float64), values) / total)[:, None]


@dataclasses.dataclass(frozen=True)
class TailMean:
    """CVaR: the mean of the largest share of the items, the last of them by its fraction.

    ``(1/A) Σ_(i) clip(A - #{larger}, 0, 1) x_(i)`` with ``A = share · n`` (Rockafellar and Uryasev
    2000, "Optimization of Conditional Value-at-Risk").

    Attributes:
        share: In (0, 1]; 1 is the mean.
    """

    share: float = 0.2

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of a tail must be in (0, 1], got {self.share}")

    def __call__(self, values: Items, counts: Counts) -> Float[np.ndarray, "draw 1"]:
        """Apply row-wise; see :data:`Statistic`."""
        order = np.argsort(-values, kind="stable")
        mass = self.share * counts.sum(axis=1)
        # Draws fill the tail with little more than `share` of the items: look at those alone.
        least = self.share * len(values)
        size = min(len(values), math.ceil(least + 6 * math.sqrt(least) + 20))
        held = counts[:, order[:size]]
        reached = np.cumsum(held, axis=1)
        if np.any(reached[:, -1] < mass):
            held, size = counts[:, order], len(values)
            reached = np.cumsum(held, axis=1)
        taken = np.clip(mass[:, None] - (reached - held), 0.0, held)
        taken[taken < 1e-9] = 0.0  # 0.07 · 100 is 7.000000000000001
        return (_dot(taken, values[order[:size]]) / mass)[:, None]


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """Quantiles at several levels, by linear interpolation between order statistics.

    Attributes:
        levels: Each in [0, 1].
    """

    levels: tuple[float, ...]

    def __call__(self, values: Items, counts: Counts) -> Float[np.ndarray, "draw point"]:
        """Apply row-wise to finite items; every draw must hold as many as the others."""
        order = np.argsort(values, kind="stable")
        size = int(counts[0].sum())
        ranks = np.tile(np.arange(len(values)), len(counts))
        drawn = np.repeat(ranks, counts[:, order].ravel()).reshape(len(counts), size)
        place = np.asarray(self.levels) * (size - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, size - 1)
        ordered = values[order]
        low, high = ordered[drawn[:, below]], ordered[drawn[:, above]]
        return low + (place - below) * (high - low)


@dataclasses.dataclass(frozen=True)
class Exceedance:
    """Share of the items above each of several thresholds.

    Attributes:
        thresholds: In the unit of the items.
    """

    thresholds: tuple[float, ...]

    def __call__(self, values: Items, counts: Counts) -> Float[np.ndarray, "draw point"]:
        """Apply row-wise; see :data:`Statistic`."""
        above = (values[:, None] > np.asarray(self.thresholds)[None, :]).astype(np.float64)
        return counts.astype(np.float64) @ above / counts.sum(axis=1, keepdims=True)


def on_all(statistic: Statistic, values: Items) -> Float[np.ndarray, " point"]:
    """Apply a statistic to the items themselves, each counted once."""
    return statistic(values, np.ones((1, len(values)), np.int64))[0]


def draw_counts(units: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw unit"]:
    """Draw ``units`` units with replacement, ``draws`` times; return how often each was drawn."""
    drawn = rng.integers(units, size=(draws, units), dtype=np.int32)
    drawn += np.arange(0, draws * units, units, dtype=np.int32)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units)


def hierarchical_draws(
    per_seed: Callable[[int, Counts], Float[np.ndarray, "draw point"]],
    seeds: int,
    items: int,
    rng: np.random.Generator,
    *,
    blocks: Int[np.ndarray, " item"] | None = None,
    item_draws: ItemDraws = "within",
    draws: int = DRAWS,
) -> Float[np.ndarray, "draw point"]:
    """Draw seeds, then items within each; return the mean over the drawn seeds, one row a draw.

    Args:
        per_seed: Statistic of one seed (its number) under the drawn items.
        seeds: How many seeds there are.
        items: How many items each seed has.
        rng: Source of the draws; the same state gives the same draws.
        blocks: Block of each item, numbered from 0 without holes; whole blocks are drawn. None
            draws single items.
        item_draws: Whether each drawn seed draws items of its own; see :data:`ItemDraws`.
        draws: How many draws.
    """
    units = items if blocks is None else int(blocks.max()) + 1
    parts: list[list[np.ndarray]] = [[] for _ in range(seeds)]
    step = max(1, _CHUNK // max(units, items))
    for first in range(0, draws, step):
        count = min(step, draws - first)
        shared = draw_counts(units, count, rng) if item_draws == "shared" else None
        for seed in range(seeds):
            drawn = draw_counts(units, count, rng) if shared is None else shared
            parts[seed].append(per_seed(seed, drawn if blocks is None else drawn[:, blocks]))
    inner = np.stack([np.concatenate(part) for part in parts])
    total = np.zeros(inner.shape[1:])
    for slot in range(seeds):
        picked = rng.integers(seeds, size=draws)
        # A seed that is drawn twice must not bring the same items twice: each slot reads the inner
        # draws from another place on.
        shift = 0 if item_draws == "shared" else slot * draws // seeds
        total += inner[picked, (np.arange(draws) + shift) % draws]
    return total / seeds


def _dot(weights: Float[np.ndarray, "draw item"], values: Items) -> Float[np.ndarray, " draw"]:
    """``weights @ values`` where an infinite value counts unless its weight is 0."""
    infinite = np.isinf(values)
    if not infinite.any():
        return weights @ values
    total = weights @ np.where(infinite, 0.0, values)
    return np.where(weights @ infinite.astype(np.float64) > 0, np.inf, total)
