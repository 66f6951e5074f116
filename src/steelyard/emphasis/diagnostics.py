"""What a weighting did to the data, in numbers that are always logged where one is on."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from steelyard.emphasis.measures import uniform_base

RATIO_EDGES: tuple[float, ...] = (0.0, *(2.0**k for k in range(-6, 7)))
"""Lower edges of the histogram's bins after the first, which holds ratios of exactly 0."""


def diagnose(
    probabilities: Float[Array, " item"],
    scores: Float[Array, " item"],
    valid: Bool[Array, " item"] | None = None,
    base: Float[Array, " item"] | None = None,
    indices: Int[Array, " draw"] | None = None,
) -> dict[str, Array]:
    """Describe a distribution over items against its base measure.

    Args:
        probabilities: What a weighting returned, ``p``.
        scores: What it was given.
        valid: Which items count; ``None`` = all.
        base: Base measure ``b``; ``None`` = uniform over the valid items.
        indices: Items drawn since the last call; ``None`` counts the items that can be drawn.

    Returns:
        Scalars, with ``r = p/b`` and ``n`` the number of valid items:

        - ``ess_share`` = ``1 / Σ b r²`` in (0, 1] and ``ess`` = ``n · ess_share``; ``1/Σp²`` where
          the base is uniform.
        - ``perplexity_share`` = ``exp(−Σ p log r)`` and ``perplexity`` = ``n`` times that.
        - ``max_weight`` = the largest ``r`` (1 = no emphasis).
        - ``touched_share``: valid items among ``indices``, or with ``p > 0``, over ``n``.
        - ``score_top10_mean``, ``score_bottom10_mean``: means of the highest and lowest
          ``⌈n/10⌉`` valid scores.

        And ``ratio_histogram``, ``Float[15]``: the share of valid items with ``r = 0``, then with
        ``r`` in ``(0, 2⁻⁶)``, ``[2⁻⁶, 2⁻⁵)``, …, ``[2⁵, 2⁶)``, ``[2⁶, ∞)`` (``RATIO_EDGES``).
    """
    valid = jnp.ones_like(probabilities, bool) if valid is None else valid
    base = uniform_base(valid) if base is None else base
    valid = valid & (base > 0)
    count = jnp.maximum(jnp.sum(valid), 1)
    ratio = jnp.where(valid, probabilities / jnp.where(valid, base, 1.0), 0.0)

    ess_share = 1.0 / jnp.sum(jnp.where(valid, base, 0.0) * ratio**2)
    log_ratio = jnp.log(jnp.where(ratio > 0, ratio, 1.0))
    perplexity_share = jnp.exp(-jnp.sum(probabilities * log_ratio))

    if indices is None:
        touched = valid & (probabilities > 0)
    else:
        touched = valid & jnp.zeros_like(valid).at[indices].set(True)

    tenth = (count + 9) // 10
    place = jnp.arange(ratio.shape[0])
    ascending = jnp.sort(jnp.where(valid, scores, jnp.inf))
    lowest = jnp.where(place < tenth, ascending, 0.0)
    highest = jnp.where((place >= count - tenth) & (place < count), ascending, 0.0)

    edges = jnp.asarray(RATIO_EDGES[1:], ratio.dtype)
    bins = jnp.where(ratio > 0, 1 + jnp.searchsorted(edges, ratio, side="right"), 0)
    counts = jnp.zeros(len(RATIO_EDGES) + 1).at[bins].add(valid.astype(jnp.float32))
    return {
        "ess": ess_share * count,
        "ess_share": ess_share,
        "perplexity": perplexity_share * count,
        "perplexity_share": perplexity_share,
        "max_weight": jnp.max(ratio),
        "touched_share": jnp.sum(touched) / count,
        "score_top10_mean": jnp.sum(highest) / tenth,
        "score_bottom10_mean": jnp.sum(lowest) / tenth,
        "ratio_histogram": counts / count,
    }
