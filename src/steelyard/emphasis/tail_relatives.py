"""Relatives of the tail: weightings between the mean and the worst items that are less abrupt.

All but :class:`MeanTail` read the scores in units of their standard deviation under the base
measure, so one setting means the same early and late in training. Scores must be finite.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from steelyard.emphasis import measures
from steelyard.emphasis.checks import Scalar, require_range
from steelyard.emphasis.weighting import PerItem, Weighting

_LARGEST_EXPONENT = 60.0
"""``e^60`` and its inverse leave room in float32 for the sums of :mod:`measures`."""
_LOG_DEPTH = (-60.0, 30.0)
_BISECTIONS = 40


def below_worst(scores: PerItem, measure: PerItem) -> PerItem:
    """Return how far each score lies below the largest, ``(s − max s) / std s``.

    Args:
        scores: Finite; ignored where the measure is 0.
        measure: Non-negative, 0 where an item does not count.

    Returns:
        At most 0, exactly 0 at the largest score, on items that do not count, and everywhere where
        the scores are equal.
    """
    active = measure > 0
    largest = jnp.max(jnp.where(active, scores, -jnp.inf))
    below = jnp.where(active, scores - largest, 0.0)
    # Divided by the range first: squares of raw scores may overflow.
    span = -jnp.min(below)
    below = below / jnp.where(span > 0, span, 1.0)
    total = jnp.where(jnp.any(active), jnp.sum(measure), 1.0)
    mean = jnp.sum(measure * below) / total
    spread = jnp.sqrt(jnp.sum(measure * jnp.where(active, below - mean, 0.0) ** 2) / total)
    return below / jnp.where(spread > 0, spread, 1.0)


class MeanTail(Weighting):
    """Mean and CVaR mixed: ``r = ε + (1 − ε) r_tail(α)``, so no item is left out.

    Attributes:
        alpha: Share of the base measure in the tail, in (0, 1]; 1 gives the base.
        floor: ``ε`` in [0, 1], the share of the mean and the least ratio; 1 gives the base.
    """

    alpha: Scalar
    floor: Scalar = 0.5
    domain = "signed"

    def __check_init__(self):
        require_range("MeanTail.alpha", self.alpha, 0, 1, low_open=True)
        require_range("MeanTail.floor", self.floor, 0, 1)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        alpha = jnp.asarray(self.alpha, scores.dtype)
        return measures.with_floor(measures.tail_ratio(scores, measure, alpha), self.floor)


class SmoothTail(Weighting):
    """CVaR smoothed by entropy: ``r = min(1/α, c e^{s/(ν std s)})``, with ``c`` such that ⟨r⟩ = 1.

    The maximiser of ``⟨r s⟩ − ν std(s) ⟨r log r⟩`` over ``0 ≤ r ≤ 1/α``: the KL-regularised CVaR of
    Levy, Carmon, Duchi, Sidford 2020, arXiv:2010.05893, but with the regulariser in units of the
    scores' spread. ``ν → 0`` gives :class:`~steelyard.emphasis.weightings.Tail`.

    Attributes:
        alpha: Inverse of the largest ratio, in (0, 1]; 1 gives the base.
        smoothing: ``ν`` > 0; infinity gives the base.
    """

    alpha: Scalar
    smoothing: Scalar = 0.5
    domain = "signed"

    def __check_init__(self):
        require_range("SmoothTail.alpha", self.alpha, 0, 1, low_open=True)
        require_range("SmoothTail.smoothing", self.smoothing, 0, jnp.inf, low_open=True)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        alpha = jnp.asarray(self.alpha, scores.dtype)
        below = below_worst(scores, measure)
        # Exponents count from the threshold of the tail, not from the top: the ratio there is
        # never far from 1, so what float32 cannot tell apart is capped anyway, or is nothing.
        in_tail = measures.tail_ratio(below, measure, alpha) > 0
        threshold = jnp.min(jnp.where(in_tail, below, jnp.inf))
        exponent = (below - threshold) / self.smoothing
        weights = jnp.exp(jnp.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        flat = (alpha >= 1.0) | jnp.isinf(self.smoothing)
        weights = jnp.where((measure > 0) & ~flat, weights, 1.0)
        return measures.water_fill(measures.mean_one(weights, measure), measure, 1.0 / alpha)


class Tilted(Weighting):
    """Tilted empirical risk: ``r = e^{τ s / std s} / ⟨e^{τ s / std s}⟩``.

    Li, Beirami, Sanjabi, Smith 2021, arXiv:2007.01162, whose gradient this is, but with the
    tilt in units of the scores' spread: an absolute one would fade as the losses fall.

    Attributes:
        tilt: ``τ`` >= 0; 0 gives the base.
    """

    tilt: Scalar = 1.0
    domain = "signed"

    def __check_init__(self):
        require_range("Tilted.tilt", self.tilt, 0, jnp.inf)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        below = below_worst(scores, measure)
        weights = jnp.where(below == 0.0, 1.0, jnp.exp(self.tilt * below))
        return measures.mean_one(weights, measure)


class ChiSquare(Weighting):
    """Worst case in a χ² ball: ``r = (s − η)₊ / ⟨(s − η)₊⟩`` with ``⟨(r − 1)²⟩ = ρ``.

    The maximiser of ``⟨r s⟩`` over ``⟨(r − 1)²⟩ ≤ ρ`` (Levy, Carmon, Duchi, Sidford 2020,
    arXiv:2010.05893); the effective share of items is ``1 / (1 + ρ)``. Where the ball reaches
    beyond the simplex the items at the largest score share all.

    Attributes:
        radius: ``ρ`` >= 0; 0 gives the base.
    """

    radius: Scalar = 1.0
    domain = "signed"

    def __check_init__(self):
        require_range("ChiSquare.radius", self.radius, 0, jnp.inf)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        below = below_worst(scores, measure)
        radius = jnp.asarray(self.radius, scores.dtype)
        weights = jnp.maximum(1.0 + below / self._depth(below, measure, radius), 0.0)
        return measures.mean_one(jnp.where(radius > 0, weights, 1.0), measure)

    @staticmethod
    def _depth(below: PerItem, measure: PerItem, radius: Float[Array, ""]) -> Float[Array, ""]:
        """Return the least distance of ``η`` below the top whose ratio stays inside the ball."""
        total = jnp.sum(measure)

        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            weights = jnp.maximum(1.0 + below / jnp.exp(middle), 0.0)
            first = jnp.sum(measure * weights) / total
            second = jnp.sum(measure * weights**2) / total
            inside = second <= (1.0 + radius) * first**2
            return jnp.where(inside, low, middle), jnp.where(inside, middle, high)

        bracket = tuple(jnp.asarray(end, below.dtype) for end in _LOG_DEPTH)
        return jnp.exp(jax.lax.fori_loop(0, _BISECTIONS, halve, bracket)[1])
