"""Clusters of items, for ``balanced``; on the host, through scikit-learn."""

import numpy as np
from jaxtyping import Float, Int


def cluster_labels(
    features: Float[np.ndarray, "item feature"], k: int, seed: int
) -> Int[np.ndarray, " item"]:
    """Cluster items by k-means++ with 10 restarts.

    Args:
        features: One row an item, finite, scaled by the caller so that distances mean something.
        k: Number of clusters, at least 1 and at most the number of distinct rows.
        seed: Seed of the restarts; the same seed gives the same labels.

    Returns:
        Labels ``0 … k − 1``, int32, numbered by size: cluster 0 is the largest (ties: the one
        whose first item comes first).

    Raises:
        ValueError: ``k`` is out of range or a feature is not finite.
    """
    from sklearn.cluster import KMeans  # slow to import, and only clustering needs it

    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"features must be finite, got a non-finite value in {int((~finite).sum())} items, "
            f"the first at item {int(np.argmin(finite))}."
        )
    distinct = len(np.unique(features, axis=0))
    if not 1 <= k <= distinct:
        raise ValueError(
            f"k must be between 1 and the number of distinct items, {distinct}, got {k}."
        )
    found = np.asarray(KMeans(k, n_init=10, random_state=seed).fit(features).labels_)  # pyright: ignore[reportArgumentType]
    return number_by_size(found)


def number_by_size(labels: Int[np.ndarray, " item"]) -> Int[np.ndarray, " item"]:
    """Number clusters ``0, 1, …``, the largest first; of equal ones that of the first item."""
    names, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(names), np.int32)
    rank[order] = np.arange(len(names))
    return rank[np.searchsorted(names, labels)]
