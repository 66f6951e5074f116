"""Groups of items that are emphasised as one, such as the windows of one trajectory.

Sums are masked sums over a table ``[group, item]``, not scatters: the same bits on every run of
every device. The table is small for batches; this is not meant for whole data sets.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def group_means(
    losses: Float[Array, " item"],
    counted: Bool[Array, " item"],
    groups: Int[Array, " item"],
    num_groups: int,
) -> tuple[Float[Array, " group"], Float[Array, " group"]]:
    """Average the losses of each group over the items that count.

    Args:
        losses: One an item; ignored where an item does not count.
        counted: Which items count.
        groups: Label of each item, ``0 … num_groups − 1``.
        num_groups: Number of groups ``G``; a group may be empty.

    Returns:
        The means, 0 for an empty group, and how many items of each group count.
    """
    member = (groups[None] == jnp.arange(num_groups)[:, None]) & counted[None]
    counts = jnp.sum(member, axis=1).astype(losses.dtype)
    sums = jnp.sum(jnp.where(member, losses[None], 0.0), axis=1)
    return sums / jnp.maximum(counts, 1.0), counts


def spread_over_items(
    ratio: Float[Array, " group"],
    kept: Bool[Array, " group"],
    counts: Float[Array, " group"],
    counted: Bool[Array, " item"],
    groups: Int[Array, " item"],
) -> Float[Array, " item"]:
    """Split each group's weight evenly over its items.

    ``w_i = r_g B / (K n_g)``, with ``K`` groups kept and ``n_g`` items in group ``g``: the sum over
    the batch is ``B ⟨r⟩``, whatever the sizes of the groups, so the mean over the batch of
    ``w_i l_i`` is the mean over kept groups of ``r_g`` times the group's mean loss.

    Args:
        ratio: Density ratio of each group, 0 where it is not kept.
        kept: Which groups count.
        counts: Items that count in each group.
        counted: Which items count.
        groups: Label of each item, ``0 … G − 1``. Another label gives NaN.

    Returns:
        One weight an item, exactly ``r_g`` where all groups are of one size, are kept, and all
        their items count; 0 on items that do not.
    """
    size, total = groups.shape[0], counts.shape[0]
    shares = jnp.maximum(jnp.sum(kept).astype(ratio.dtype), 1.0) * jnp.maximum(counts, 1.0)
    legal = (groups >= 0) & (groups < total)
    weights = (ratio * (size / shares))[jnp.where(legal, groups, 0)]
    return jnp.where(legal, jnp.where(counted, weights, 0.0), jnp.nan)


def keep_all_but_worst(
    losses: Float[Array, " group"], valid: Bool[Array, " group"], share: Float[Array, ""]
) -> Bool[Array, " group"]:
    """Return which groups stay when the worst ``⌊share · n⌋`` of the ``n`` valid ones go.

    Args:
        losses: One a group; ignored where not valid.
        valid: Which groups count.
        share: In [0, 1).

    Returns:
        True on valid groups that stay: exactly that many go, of equal ones those that come first;
        at least one stays where any is valid.
    """
    number = jnp.sum(valid)
    # 0.07 · 100 is 7 groups, in any arithmetic.
    gone = jnp.floor(share * number * (1 + 1e-6)).astype(int)
    gone = jnp.minimum(gone, number - 1)
    worst_first = jnp.argsort(jnp.where(valid, -losses, jnp.inf))
    place = (
        jnp.zeros_like(worst_first)
        .at[worst_first]
        .set(jnp.arange(losses.shape[0]), unique_indices=True)
    )
    return valid & (place >= gone)
