"""Weightings: from scores to a distribution over items.

A weighting answers with the **density ratio** ``r`` to a base measure ``b``, with ``Σ b r = 1``;
the probability of an item is ``p = b r``. Written so, zero sharpness is ``r ≡ 1`` exactly and the
unweighted run comes back bit for bit, whatever the base measure is.

:class:`Weighting` is abstract and its members are final: a member writes ``_ratio`` and nothing
else. All are pure, of static shape, and may be traced by ``jit`` and ``vmap``; no gradient flows
through any. Sharpness options may be scalar arrays, so that annealing one compiles nothing new.
``docs/emphasis.md`` shows how to add a member.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from steelyard.emphasis import measures
from steelyard.emphasis.checks import Scalar, require_range
from steelyard.emphasis.registry import build
from steelyard.emphasis.tail_relatives import ChiSquare, MeanTail, SmoothTail, Tilted
from steelyard.emphasis.weighting import PerItem, Weighting

_BISECTIONS = 40
_LOG_TEMPERATURE = (-85.0, 14.0)
"""Bracket of the search, in units of the scores' range: 1e-37 … 1e6, all of float32."""


class Uniform(Weighting):
    """Every item counts as in the base measure, ``r = 1``: no emphasis."""

    domain = "ignored"

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        return jnp.ones_like(scores)


class Proportional(Weighting):
    """``r = ε + (1 − ε) s^a / ⟨s^a⟩``.

    Attributes:
        power: ``a`` >= 0; 0 gives the base.
        floor: ``ε`` in [0, 1], the least ratio, so that no correction exceeds ``1/ε``; 1 gives the
            base. Items of score 0 are never drawn at 0.
    """

    power: Scalar = 1.0
    floor: Scalar = 0.0
    domain = "nonnegative"

    def __check_init__(self):
        require_range("Proportional.power", self.power, 0, jnp.inf)
        require_range("Proportional.floor", self.floor, 0, 1)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        largest = jnp.max(scores)
        share = jnp.where(scores == largest, 1.0, scores / largest)
        weights = jnp.power(share, self.power)
        # A share below float32's least number still has a power: take it through logarithms.
        tiny = (share < 1e-37) & (scores > 0) & (jnp.asarray(self.power) > 0)
        logarithm = jnp.log(jnp.where(tiny, scores, largest)) - jnp.log(largest)
        weights = jnp.where(tiny, jnp.exp(self.power * logarithm), weights)
        return measures.with_floor(measures.mean_one(weights, measure), self.floor)


class Rank(Weighting):
    """``w_(k) = k^{−a}`` for the k-th largest score, ``r = ε + (1 − ε) w / ⟨w⟩``.

    Tied items share the mean weight of their block (Schaul et al. 2016 leave ties to the sort).

    Attributes:
        power: ``a`` >= 0; 0 gives the base.
        floor: ``ε`` in [0, 1], the least ratio; 1 gives the base.
    """

    power: Scalar = 0.7
    floor: Scalar = 0.05
    domain = "signed"

    def __check_init__(self):
        require_range("Rank.power", self.power, 0, jnp.inf)
        require_range("Rank.floor", self.floor, 0, 1)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        masked = measure <= 0
        index = jnp.arange(scores.shape[0])
        masked, negated, order = jax.lax.sort((masked, -scores, index), num_keys=2)
        starts = (index == 0) | (negated != jnp.roll(negated, 1)) | (masked != jnp.roll(masked, 1))
        by_rank = jnp.power((index + 1).astype(scores.dtype), -self.power)
        block = jnp.stack([measures.block_sum(x, starts) for x in (by_rank, jnp.ones_like(scores))])
        weights = jnp.zeros_like(scores).at[order].set(block[0] / block[1], unique_indices=True)
        return measures.with_floor(measures.mean_one(weights, measure), self.floor)


class Softmax(Weighting):
    """``r = e^{s/T} / ⟨e^{s/T}⟩``, with ``T`` given or found for a wanted effective sample size.

    Exactly one of the two is given.

    Attributes:
        temperature: ``T`` > 0; infinity gives the base.
        ess: Wanted share of effective items ``1 / Σ b r²`` in (0, 1]; ``T`` is the smallest
            temperature that reaches it, found by 40 bisections in ``log T``. 1 gives the base.
    """

    temperature: Scalar | None = None
    ess: Scalar | None = None
    domain = "signed"

    def __check_init__(self):
        if (self.temperature is None) == (self.ess is None):
            raise ValueError(
                "Softmax needs exactly one of temperature and ess, "
                f"got temperature={self.temperature}, ess={self.ess}."
            )
        if self.temperature is not None:
            require_range("Softmax.temperature", self.temperature, 0, jnp.inf, low_open=True)
        if self.ess is not None:
            require_range("Softmax.ess", self.ess, 0, 1, low_open=True)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        active = measure > 0
        largest = jnp.max(jnp.where(active, scores, -jnp.inf))
        below = jnp.where(active & (scores != largest), scores - largest, 0.0)
        if self.temperature is not None:
            temperature, flat = self.temperature, jnp.isinf(self.temperature)
        else:
            lowest = jnp.min(jnp.where(active & (below > -jnp.inf), below, 0.0))
            below = below / jnp.where(lowest < 0, -lowest, 1.0)
            share = jnp.asarray(self.ess, scores.dtype)
            temperature, flat = self._search(below, measure, share), share >= 1.0
        weights = jnp.exp(jnp.where(flat, 0.0, below / temperature))
        return measures.mean_one(jnp.where(below == 0.0, 1.0, weights), measure)

    @staticmethod
    def _search(below: PerItem, measure: PerItem, share: Float[Array, ""]) -> Float[Array, ""]:
        """Return the least temperature whose effective share of items is at least ``share``."""
        total = jnp.sum(measure)

        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            weights = jnp.exp(below / jnp.exp(middle))
            first = jnp.sum(measure * weights) / total
            second = jnp.sum(measure * weights**2) / total
            enough = first**2 >= share * second
            return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

        bracket = tuple(jnp.asarray(end, below.dtype) for end in _LOG_TEMPERATURE)
        return jnp.exp(jax.lax.fori_loop(0, _BISECTIONS, halve, bracket)[1])


class Tail(Weighting):
    """The worst share ``α`` of the items, with the fractional last one: the weights of CVaR.

    ``r = 1/α`` above the threshold, the rest of the mass shared equally by the items at it, 0
    below (Rockafellar and Uryasev 2000). ``Σ b r s`` is then ``CVaR_α`` of the scores under the
    base measure.

    Attributes:
        alpha: Share of the base measure in the tail, in (0, 1]; 1 gives the base.
        min_k: The tail holds at least the mass of this many average items, >= 1.
    """

    alpha: Scalar
    min_k: int = eqx.field(static=True, default=1)
    domain = "signed"

    def __check_init__(self):
        require_range("Tail.alpha", self.alpha, 0, 1, low_open=True)
        require_range("Tail.min_k", self.min_k, 1, jnp.inf)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        alpha = jnp.asarray(self.alpha, scores.dtype)
        if self.min_k > 1:
            alpha = jnp.clip(self.min_k / jnp.sum(measure > 0), alpha, 1.0)
        return measures.tail_ratio(scores, measure, alpha)


class Balanced(Weighting):
    """Clusters count alike: ``r_i = B_{l_i}^{τ−1} / ⟨B^{τ−1}⟩``, ``B_k`` the base mass of one.

    Reads no scores. Ratios above the cap are cut and the others raised by one common factor.

    Attributes:
        labels: Cluster of each item, any integers; whatever a masked item holds is ignored.
        tau: ``τ`` in [0, 1]: 0 gives every cluster the same mass, 1 gives the base.
        cap: Largest ratio, >= 1; infinity for none.
    """

    labels: Int[Array, " item"] = eqx.field(converter=jnp.asarray)
    tau: Scalar = 0.0
    cap: Scalar = 10.0
    domain = "ignored"

    def __check_init__(self):
        require_range("Balanced.tau", self.tau, 0, 1)
        require_range("Balanced.cap", self.cap, 1, jnp.inf)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        if self.labels.shape != scores.shape:
            raise ValueError(
                "Balanced.labels must hold one label an item: "
                f"got {self.labels.shape[0]} labels for {scores.shape[0]} items."
            )
        masked, index = measure <= 0, jnp.arange(scores.shape[0])
        masked, labels, order = jax.lax.sort((masked, self.labels, index), num_keys=2)
        starts = (index == 0) | (labels != jnp.roll(labels, 1)) | (masked != jnp.roll(masked, 1))
        block = measures.block_sum(measure[order], starts)
        mass = jnp.zeros_like(scores).at[order].set(block, unique_indices=True)
        weights = jnp.power(mass / jnp.max(mass), jnp.asarray(self.tau, scores.dtype) - 1.0)
        return measures.water_fill(measures.mean_one(weights, measure), measure, self.cap)


class Drop(Weighting):
    """The lowest share of the *negative* items gets 0, all others stay as in the base measure.

    Items tied with the first that stays, stay. Where all are negative and all would go, the best
    stay.

    Attributes:
        fraction: Share of the negative items' mass to drop, in [0, 1]; 0 gives the base.
    """

    fraction: Scalar
    domain = "signed"

    def __check_init__(self):
        require_range("Drop.fraction", self.fraction, 0, 1)

    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        keep = measures.drop_mask(scores, measure, self.fraction)
        return measures.mean_one(keep.astype(scores.dtype), measure)


_registered: dict[str, type[Weighting]] = {
    "uniform": Uniform,
    "proportional": Proportional,
    "rank": Rank,
    "softmax": Softmax,
    "tail": Tail,
    "balanced": Balanced,
    "drop": Drop,
    "mean_tail": MeanTail,
    "smooth_tail": SmoothTail,
    "tilted": Tilted,
    "chi_square": ChiSquare,
}
WEIGHTINGS: Mapping[str, type[Weighting]] = MappingProxyType(_registered)
"""Every weighting by the name that configs use."""


def register_weighting(name: str, weighting: type[Any]) -> None:
    """Make a weighting of your own known by name, for this process.

    Args:
        name: One that no other weighting has.
        weighting: A subclass of :class:`Weighting`.

    Raises:
        ValueError: The name is taken or empty, or it is no weighting.
    """
    if not name or name in _registered:
        raise ValueError(f"a weighting needs a name that is not taken: got {name!r}.")
    if not issubclass(weighting, Weighting):
        raise ValueError(f"weighting {name!r} must be a subclass of Weighting, got {weighting!r}.")
    _registered[name] = weighting


def make_weighting(name: str, **options: Any) -> Weighting:
    """Build a weighting from its name.

    Args:
        name: A key of ``WEIGHTINGS``.
        **options: The fields of that class.

    Returns:
        The weighting.

    Raises:
        ValueError: Unknown name or option (the message names the nearest), a missing option, or a
            value out of range.

    Example:
        >>> make_weighting("rank", power=0.7, floor=0.05).power
        0.7
    """
    return build(WEIGHTINGS, "weighting", name, options)
