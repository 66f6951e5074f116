"""The heuristic importance of on-policy items: advantage, value error, success.

``I = α |A| / s_A + β e / s_e + γ S / s_S``, with scales ``s`` of 1, or each component's root mean
square. Of the value error ``e`` there are several, because the obvious one is no second signal:
with value targets ``G = A + V`` from generalised advantage estimation, ``|G - V|`` is ``|A|``.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

ValueError_ = Literal["monte_carlo", "td", "identity"]
Scale = Literal["none", "rms", "adaptive"]
STEP, FLOOR = 0.1, 0.05
"""Of weights that adapt: their largest change in logarithms, their least share."""
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

    def as_array(self) -> Float[Array, "3"]:
        """``[α, β, γ]``."""
        return jnp.asarray((self.advantage, self.value_error, self.success), jnp.float32)


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


def importance(parts: Components, weights: Float[Array, "3"], scales: ImportanceScales) -> PerItem:
    """Score every item by the weighted sum of its scaled components.

    Args:
        parts: The components.
        weights: ``α, β, γ``.
        scales: Their divisors.

    Returns:
        Non-negative scores.
    """
    advantage, error, success = _scaled(parts, scales)
    return weights[0] * advantage + weights[1] * error + weights[2] * success


def weights_gradient(
    parts: Components,
    weights: Float[Array, "3"],
    scales: ImportanceScales,
    influence: PerItem,
    valid: Bool[Array, " item"],
) -> Float[Array, "3"]:
    """How the target of influence changes with each weight: ``Σ_i ψ_i ∂w_i/∂α_k``.

    Args:
        parts: The components.
        weights: ``α, β, γ``.
        scales: Divisors of the components.
        influence: ``ψ``, of the same items, by directions that they had no part in.
        valid: Which items count.

    Returns:
        Its gradient, with ``w_i = n I_i / Σ I`` of the valid items.
    """

    def target(weights: Float[Array, "3"]) -> Float[Array, ""]:
        scores = jnp.where(valid, importance(parts, weights, scales), 0.0)
        return jnp.sum(influence * scores) / jnp.maximum(jnp.sum(scores), 1e-30) * jnp.sum(valid)

    return jax.grad(target)(weights)


def adapted(weights: Float[Array, "3"], gradient: Float[Array, "3"]) -> Float[Array, "3"]:
    """Move weights along a gradient by one exponentiated step; their sum and a floor are kept.

    Args:
        weights: Non-negative.
        gradient: Of the target; only its direction counts.

    Returns:
        Weights of the same sum, each at least ``FLOOR`` of it.
    """
    direction = gradient / jnp.maximum(jnp.max(jnp.abs(gradient)), 1e-30)
    total = jnp.sum(weights)
    moved = weights * jnp.exp(STEP * direction)
    share = jnp.maximum(moved / jnp.sum(moved), FLOOR)
    # What the floor gives to some the others pay in proportion to what they have above it.
    above = share - FLOOR
    return total * (FLOOR + above / jnp.maximum(jnp.sum(above), 1e-30) * (1.0 - 3 * FLOOR))


def _scaled(parts: Components, scales: ImportanceScales) -> tuple[PerItem, PerItem, PerItem]:
    return (
        parts.advantage / scales.advantage,
        parts.value_error / scales.value_error,
        parts.success / scales.success,
    )
