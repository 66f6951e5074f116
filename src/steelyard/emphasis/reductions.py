"""Reductions: per-item losses to the scalar that is differentiated.

All have one signature, ``reduction(losses, weights=None) -> scalar``, so any of them plugs into any
learner. ``weights`` have mean 1: density ratios, or the corrections a sampler owes. No gradient
flows into weights. Where a weight is 0 the item gives no value and no gradient, even if its loss is
NaN, so padding is masked by a weight of 0.

Reductions are immutable; built from Python numbers they are hashable and serve as static arguments.
"""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from steelyard.emphasis.checks import Scalar, require_range
from steelyard.emphasis.registry import build
from steelyard.emphasis.weightings import Tail

PerItem: TypeAlias = Float[Array, " batch"]


class Reduction(eqx.Module):
    """A rule that turns per-item losses into one number."""

    @abc.abstractmethod
    def __call__(self, losses: PerItem, weights: PerItem | None = None) -> Float[Array, ""]:
        """Reduce.

        Args:
            losses: One an item.
            weights: Non-negative, one an item; ``None`` = all 1.

        Returns:
            The scalar.
        """


def _masked(losses: PerItem, weights: PerItem) -> tuple[PerItem, PerItem]:
    """Return the losses with 0 where the weight is 0, and the weights as constants."""
    weights = jax.lax.stop_gradient(weights)
    return jnp.where(weights == 0, 0.0, losses), weights


class Mean(Reduction):
    """``Σ l_i / B``: the plain mean, which **ignores** weights.

    With batches drawn under an emphasis this leaves the emphasis in: to take it out again, use
    ``weighted_mean`` with the sampler's corrections.
    """

    def __call__(self, losses: PerItem, weights: PerItem | None = None) -> Float[Array, ""]:
        """Reduce; see :class:`Reduction`."""
        return jnp.mean(losses)


class WeightedMean(Reduction):
    """``Σ w_i l_i / B``: unbiased for the base measure when ``w`` are a sampler's corrections."""

    def __call__(self, losses: PerItem, weights: PerItem | None = None) -> Float[Array, ""]:
        """Reduce; see :class:`Reduction`."""
        if weights is None:
            return jnp.mean(losses)
        losses, weights = _masked(losses, weights)
        return jnp.mean(weights * losses)


class SelfNormalisedMean(Reduction):
    """``Σ w_i l_i / Σ w_i``: bounded by the losses, slightly biased; 0 where all weights are 0."""

    def __call__(self, losses: PerItem, weights: PerItem | None = None) -> Float[Array, ""]:
        """Reduce; see :class:`Reduction`."""
        if weights is None:
            return jnp.mean(losses)
        losses, weights = _masked(losses, weights)
        total = jnp.sum(weights)
        return jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0)


class CVaR(Reduction):
    """The mean of the worst share ``α`` of the losses, with the fractional last item.

    ``Σ r_i l_i / B`` with ``r`` of :class:`~steelyard.emphasis.weightings.Tail` under no gradient,
    which is the gradient of the Rockafellar–Uryasev value. With weights the tail is that of the
    weighted losses, ``Σ w_i r_i l_i / Σ w_i``. ``α = 1`` equals ``mean`` (``self_normalised_mean``
    where weights are given) bit for bit.

    Attributes:
        alpha: Share in (0, 1]; a scalar array where it is annealed.
        min_k: The tail holds at least this many average items, >= 1.
    """

    alpha: Scalar
    min_k: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        require_range("cvar.alpha", self.alpha, 0, 1, low_open=True)
        require_range("cvar.min_k", self.min_k, 1, jnp.inf)

    def __call__(self, losses: PerItem, weights: PerItem | None = None) -> Float[Array, ""]:
        """Reduce; see :class:`Reduction`."""
        return self.weigh(losses, weights)[0]

    def weigh(
        self, losses: PerItem, weights: PerItem | None = None
    ) -> tuple[Float[Array, ""], PerItem]:
        """Reduce, and return the tail's density ratios for diagnostics.

        Args:
            losses: One an item.
            weights: As in :class:`Reduction`.

        Returns:
            The scalar and the ratios, ``0 … 1/α``, of mean 1 under the weights.
        """
        tail = Tail(self.alpha, self.min_k)
        constant = jax.lax.stop_gradient(losses)
        if weights is None:
            ratio = tail._ratio(constant, jnp.ones_like(losses))
            return jnp.mean(ratio * losses), ratio
        losses, weights = _masked(losses, weights)
        ratio = tail._ratio(jnp.where(weights == 0, 0.0, constant), weights)
        total = jnp.sum(weights)
        return jnp.sum(weights * ratio * losses) / jnp.where(total > 0, total, 1.0), ratio


REDUCTIONS: Mapping[str, type[Reduction]] = MappingProxyType(
    {
        "mean": Mean,
        "weighted_mean": WeightedMean,
        "self_normalised_mean": SelfNormalisedMean,
        "cvar": CVaR,
    }
)
"""Every reduction by the name that configs use."""


def make_reduction(name: str, **options: Any) -> Reduction:
    """Build a reduction from its name.

    Args:
        name: A key of ``REDUCTIONS``.
        **options: The fields of that class.

    Returns:
        The reduction.

    Raises:
        ValueError: Unknown name or option (the message names the nearest), a missing option, or a
            value out of range.

    Example:
        >>> float(make_reduction("cvar", alpha=0.5)(jnp.array([4.0, 1.0, 3.0, 2.0])))
        3.5
    """
    return build(REDUCTIONS, "reduction", name, options)
