"""The heuristic importance of on-policy items: advantage, value error, success.

``I = α |A| / s_A + β e / s_e + γ S / s_S``, with scales ``s`` of 1, or each component's root mean
square. Of the value error ``e`` there are several, because the obvious one is no second signal:
with value targets ``G = A + V`` from generalised advantage estimation, ``|G - V|`` is ``|A|``.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

ValueError_ = Literal["monte_carlo", "td", "identity"]
Scale = Literal["none", "rms"]
PerItem = Float[Array, " item"]


class Components(NamedTuple):
    """What the importance is made of, each non-negative.

    Attributes:
        advantage: ``|A|``.
        value_error: ``e``.
        success: ``S`` in ``[0, 1]``.
    """

    advantage: PerItem
    value_error: PerItem
    success: PerItem


class ImportanceScales(eqx.Module):
    """Divisors of the three components; what a scorer that is kept remembers."""

    advantage: Float[Array, ""]
    value_error: Float[Array, ""]
    success: Float[Array, ""]

    @classmethod
    def ones(cls) -> "ImportanceScales":
        """Leave components as they are."""
        return cls(jnp.ones(()), jnp.ones(()), jnp.ones(()))

    @classmethod
    def of(cls, parts: Components, valid: Bool[Array, " item"]) -> "ImportanceScales":
        """Root mean squares over the valid items; 1 for a component that is 0 throughout."""
        count = jnp.maximum(jnp.sum(valid), 1)

        def rms(x: PerItem) -> Float[Array, ""]:
            square = jnp.sum(jnp.where(valid, x, 0.0) ** 2) / count
            return jnp.where(square > 0, jnp.sqrt(square), 1.0)

        return cls(*(rms(x) for x in parts))


@dataclasses.dataclass(frozen=True)
class ImportanceWeights:
    """``α``, ``β`` and ``γ``."""

    advantage: float = 0.4
    value_error: float = 0.3
    success: float = 0.3

    def __post_init__(self) -> None:
        weights = (self.advantage, self.value_error, self.success)
        if min(weights) < 0 or not sum(weights) > 0:
            raise ValueError(
                f"cupid weights must be >= 0 and not all 0; got {weights}; for no emphasis use arm "
                "`uniform`"
            )


def value_error(
    kind: ValueError_,
    advantage: PerItem,
    monte_carlo: PerItem,
    value: PerItem,
    td_error: PerItem,
) -> PerItem:
    """Return the value error that a config names.

    Args:
        kind: ``monte_carlo`` is ``|M - V|`` with the Monte-Carlo return ``M``; ``td`` is ``|δ|``;
            ``identity`` is ``|A|``, what ``|G - V|`` amounts to.
        advantage: ``A``.
        monte_carlo: ``M``.
        value: ``V``.
        td_error: ``δ``.

    Raises:
        ValueError: There is no such kind.
    """
    if kind == "monte_carlo":
        return jnp.abs(monte_carlo - value)
    if kind == "td":
        return jnp.abs(td_error)
    if kind == "identity":
        return jnp.abs(advantage)
    raise ValueError(f"cupid_value_error is one of {get_args(ValueError_)}, got {kind!r}")


def importance(parts: Components, weights: ImportanceWeights, scales: ImportanceScales) -> PerItem:
    """Score every item by the weighted sum of its scaled components.

    Args:
        parts: The components.
        weights: ``α, β, γ``.
        scales: Their divisors.

    Returns:
        Non-negative scores.
    """
    return (
        weights.advantage * parts.advantage / scales.advantage
        + weights.value_error * parts.value_error / scales.value_error
        + weights.success * parts.success / scales.success
    )
