"""Base measures, and the arithmetic of density ratios to them.

A *measure* here is a non-negative number an item, 0 where the item does not count. It need not sum
to 1: the uniform measure is held as counts (1 on valid items), whose sums are exact in float32.

The kernels are compiled here, so that an eager call compiles one program a shape, not one a step.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from steelyard.emphasis.checks import Scalar

_RELATIVE_TOLERANCE = 1e-6
"""Masses nearer than this are equal: 0.07 · 100 is 7 items, in any arithmetic."""


def uniform_base(valid: Bool[Array, " item"]) -> Float[Array, " item"]:
    """Return the measure in which every valid item counts the same, ``valid / Σ valid``.

    Args:
        valid: Which items count; at least one.

    Returns:
        A probability an item, exactly 0 outside ``valid``.
    """
    count = valid.astype(jnp.float32)
    return count / jnp.maximum(jnp.sum(count), 1.0)


def length_base(
    lengths: Int[Array, " item"], valid: Bool[Array, " item"] | None = None
) -> Float[Array, " item"]:
    """Return the measure in which every *step* counts the same, ``n_i / Σ n``.

    Args:
        lengths: Steps (or starts) of each trajectory, >= 0.
        valid: Which trajectories count; ``None`` = all.

    Returns:
        A probability a trajectory, exactly 0 outside ``valid``.
    """
    count = lengths if valid is None else jnp.where(valid, lengths, 0)
    return count / jnp.maximum(jnp.sum(count), 1).astype(jnp.float32)


@jax.jit
def mean_one(
    weights: Float[Array, " item"], measure: Float[Array, " item"]
) -> Float[Array, " item"]:
    """Divide weights by their mean under ``measure``; equal weights give exactly 1.0.

    The mean is ``w_min + Σ m (w − w_min) / Σ m``: no cancellation, and for equal weights exact in
    whatever order the device sums, which ``Σ m w / Σ m`` is not.

    Args:
        weights: Non-negative, at most about 1e30; ignored where the measure is 0.
        measure: See the module.

    Returns:
        The density ratio, 0 where the measure is 0.
    """
    active = measure > 0
    low = jnp.min(jnp.where(active, weights, jnp.inf))
    excess = jnp.where(active, weights - low, 0.0)
    mean = low + jnp.sum(measure * excess) / jnp.sum(measure)
    # The comparison keeps 1.0 exact also on devices whose division is not correctly rounded.
    ratio = jnp.where(weights == mean, 1.0, weights / mean)
    return jnp.where(active, ratio, 0.0)


def with_floor(ratio: Float[Array, " item"], floor: Scalar) -> Float[Array, " item"]:
    """Mix a density ratio with the base, ``ε + (1 − ε) r``; exact at r = 1, ε = 0 and ε = 1.

    Args:
        ratio: A density ratio.
        floor: ``ε`` in [0, 1], the least ratio afterwards.

    Returns:
        The mixed ratio. A ratio of 0 becomes ``ε``: mask afterwards.
    """
    return jnp.where(ratio == 1.0, 1.0, floor + (1.0 - floor) * ratio)


@jax.jit
def block_sum(values: Float[Array, " item"], starts: Bool[Array, " item"]) -> Float[Array, " item"]:
    """Sum consecutive blocks and give every member the total of its block.

    A segmented scan, not a scatter: the same bits on every run of every device.

    Args:
        values: What to sum.
        starts: True where a block begins; the first item begins one.

    Returns:
        The total of the item's block, the same bits for all its members.
    """

    def combine(left, right):
        (left_start, left_sum), (right_start, right_sum) = left, right
        return left_start | right_start, jnp.where(right_start, right_sum, left_sum + right_sum)

    _, running = jax.lax.associative_scan(combine, (starts, values))
    last = jnp.concatenate([starts[1:], jnp.ones(1, bool)])
    index = jnp.where(last, jnp.arange(values.shape[0]), values.shape[0] - 1)
    return running[jax.lax.cummin(index, reverse=True)]


@jax.jit
def tail_ratio(
    scores: Float[Array, " item"], measure: Float[Array, " item"], alpha: Scalar
) -> Float[Array, " item"]:
    """Return the density ratio of the worst share ``alpha``: the weights of CVaR.

    ``1/α`` above the threshold ``t``, ``(A − m_>) / (α m_=)`` at it, 0 below, where ``A = α Σ m``
    and ``t`` is the largest score with ``m_≥ ≥ A``. Under any base measure this is the maximiser of
    ``Σ b r s`` over ``0 ≤ r ≤ 1/α``, ``Σ b r = 1``, with ties sharing one ratio.

    Args:
        scores: The larger, the worse; ignored where the measure is 0.
        measure: See the module.
        alpha: Share in (0, 1]; 1 gives exactly 1.0 on every item.

    Returns:
        The density ratio, 0 where the measure is 0.
    """
    active = measure > 0
    scores = jnp.where(active, scores, -jnp.inf)
    descending = jnp.argsort(-scores)
    total = jnp.sum(measure)
    wanted = alpha * total
    reached = jnp.cumsum(measure[descending]) >= wanted * (1 - _RELATIVE_TOLERANCE)
    # Where rounding leaves the sum short of the wanted mass, all items are in the tail.
    threshold = jnp.where(
        jnp.any(reached),
        scores[descending][jnp.argmax(reached)],
        jnp.min(jnp.where(active, scores, jnp.inf)),
    )
    above, at = active & (scores > threshold), active & (scores == threshold)
    mass_above = jnp.sum(jnp.where(above, measure, 0.0))
    mass_at = jnp.sum(jnp.where(at, measure, 0.0))
    fraction = jnp.clip((wanted - mass_above) / (alpha * mass_at), 0.0, 1.0 / alpha)
    ratio = jnp.where(above, 1.0 / alpha, jnp.where(at, fraction, 0.0))
    everything = (jnp.asarray(alpha) >= 1.0) | jnp.all(at == active)
    return jnp.where(active, jnp.where(everything, 1.0, ratio), 0.0)


@jax.jit
def drop_mask(
    scores: Float[Array, " item"], measure: Float[Array, " item"], fraction: Scalar
) -> Bool[Array, " item"]:
    """Return which items stay when the lowest share of the negative mass goes; ties stay.

    Args:
        scores: Signed; ignored where the measure is 0.
        measure: See the module.
        fraction: Share of the negative items' mass, in [0, 1].

    Returns:
        True on items that stay; never empty where an item counts.
    """
    active = measure > 0
    key = jnp.where(active, scores, jnp.inf)
    ascending = jnp.argsort(key)
    negative_mass = jnp.where(active & (scores < 0), measure, 0.0)
    allowed = fraction * jnp.sum(negative_mass) * (1 + _RELATIVE_TOLERANCE)
    gone = (jnp.cumsum(negative_mass[ascending]) <= allowed) & (negative_mass[ascending] > 0)
    count = jnp.minimum(jnp.sum(gone), jnp.sum(active) - 1)
    return active & (key >= key[ascending][count])


@jax.jit
def water_fill(
    ratio: Float[Array, " item"], measure: Float[Array, " item"], cap: Scalar
) -> Float[Array, " item"]:
    """Cap a density ratio and raise the others by one common factor, so that its mean stays 1.

    ``r ← min(λ r, cap)`` with ``λ ≥ 1`` such that ``Σ m r = Σ m``; solved exactly by one sort.

    Args:
        ratio: A density ratio, mean 1 under ``measure``.
        measure: See the module.
        cap: Largest ratio, >= 1.

    Returns:
        The capped ratio; the input bit for bit where nothing exceeds the cap.
    """
    descending = jnp.argsort(-ratio)
    mass, weight = measure[descending], ratio[descending]
    capped_mass = jnp.cumsum(mass) - mass
    rest = jnp.cumsum((mass * weight)[::-1])[::-1]
    scale = (jnp.sum(mass) - cap * capped_mass) / jnp.where(rest > 0, rest, jnp.inf)
    fits = (scale * weight <= cap) & (rest > 0)
    # With the cap at its least (1) rounding may leave no candidate: then everything is capped.
    chosen = jnp.where(jnp.any(fits), scale[jnp.argmax(fits)], jnp.inf)
    filled = jnp.where(ratio > 0, jnp.minimum(chosen * ratio, cap), 0.0)
    return jnp.where(jnp.any(ratio > cap), filled, ratio)
