"""Clusters of trajectories: features and returns → labels, with a number of clusters that fits.

The number is chosen by how alike the returns within clusters are, whatever the scale of the return:

    J(K) = [W_K / (M − K)] / [S / (M − 1)]

with ``W_K`` the sum of squares of the return within clusters and ``S`` the total one: one minus the
adjusted R² of the return on the labels. The smallest K is taken whose ``J`` is at most 1.05 times
the least, or 0.01 above it: where labels say almost all already, a cluster more that explains less
than a hundredth of the variance is none. Small clusters are given to their nearest before J is
taken, so a clustering that only sets a few odd trajectories apart says nothing.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from steelyard.emphasis.clusters import number_by_size
from steelyard.emphasis.trajectory_features import Layout, Projection, describe_trajectory

Criterion = Literal["return", "silhouette", "stability"]
MOST_CLUSTERS = 12
TOLERANCE, SLACK = 1.05, 0.01
SMALLEST, SMALLEST_SHARE = 5, 0.02
RESTARTS = 10
BOOTSTRAPS = 5


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How trajectories are clustered."""

    k: int | None = None
    """Number of clusters; none chooses it."""
    k_criterion: Criterion = "return"
    """What chooses it: likeness of returns, the silhouette, or agreement of bootstraps."""
    segment: int | None = None
    """Starts of a segment, where trajectories hold several tasks; none clusters them whole."""


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Labels of items, and what they were found from.

    Attributes:
        labels: Cluster of each item, 0 the largest.
        features: What was clustered.
        centroids: Middle of each cluster, in features.
        returns: Return of each item.
        candidates: Numbers of clusters that were tried.
        criterion: Value of each; the choice is the smallest whose value is near the best.
        inertia: Sum of squared distances of each, for the elbow.
        chosen_by: Which criterion, or ``given``.
        note: What had to be done otherwise, or nothing.
        projection: From a trajectory to features.
        layout: Of its observations.
        relative: Whether places are relative to the first frame.
    """

    labels: Int[np.ndarray, " item"]
    features: Float[np.ndarray, "item feat"]
    centroids: Float[np.ndarray, "cluster feat"]
    returns: Float[np.ndarray, " item"]
    candidates: tuple[int, ...]
    criterion: tuple[float, ...]
    inertia: tuple[float, ...]
    chosen_by: str
    note: str
    projection: Projection
    layout: Layout
    relative: bool

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centroids)

    def assign(self, observations: Float[np.ndarray, "frame obs"]) -> int:
        """The cluster whose middle is nearest to a trajectory."""
        groups = [describe_trajectory(observations, self.layout, self.relative)]
        distance = np.linalg.norm(self.projection(groups) - self.centroids, axis=1)
        return int(np.argmin(distance))

    def metrics(self) -> dict[str, float]:
        """`cluster/offline/*`, and `k_used`, of the draw that gives every cluster the same share.

        `prob_k` is the share of items in each; entropy, divergence and effective number are of
        those shares.
        """
        counts = np.bincount(self.labels, minlength=self.k).astype(float)
        shares = counts / counts.sum()
        entropy = float(-np.sum(shares * np.log(np.maximum(shares, 1e-300))))
        ratio = (1.0 / self.k) / shares[self.labels]
        found = {
            "prob_entropy": entropy,
            "kl_to_uniform": float(np.log(self.k) - entropy),
            "ess": float(len(ratio) / np.mean(ratio**2)),
            "count_min": float(counts.min()),
            "count_max": float(counts.max()),
        }
        found |= {f"prob_{i}": float(share) for i, share in enumerate(shares)}
        return {"k_used": float(self.k)} | {f"cluster/offline/{n}": v for n, v in found.items()}

    def table(self, lengths: Int[np.ndarray, " item"]) -> list[dict[str, int | float]]:
        """`cluster/stats`: number, length and return of the items of each cluster."""
        rows: list[dict[str, int | float]] = []
        for cluster in range(self.k):
            own = self.labels == cluster
            rows.append(
                {
                    "cid": cluster,
                    "n": int(own.sum()),
                    "len_mean": float(lengths[own].mean()),
                    "len_std": float(lengths[own].std()),
                    "ret_mean": float(self.returns[own].mean()),
                }
            )
        return rows


def cluster_trajectories(
    observations: Sequence[Float[np.ndarray, "_ obs"]],
    returns: Float[np.ndarray, " item"],
    layout: Layout,
    config: ClusterConfig,
    seed: int,
) -> Clusters:
    """Cluster items by what they look like.

    Args:
        observations: Frames of each item.
        returns: Its return, which chooses the number of clusters and nothing else.
        layout: What the frames hold.
        config: How many clusters, or what chooses their number.
        seed: Of k-means' restarts.

    Raises:
        ValueError: ``k`` is 1 or above the number of items.
    """
    relative = config.segment is not None
    groups = [describe_trajectory(own, layout, relative) for own in observations]
    projection = Projection.of(groups)
    features = projection(groups)
    distinct = len(np.unique(features.round(12), axis=0))
    if config.k is not None and not 2 <= config.k <= distinct:
        raise ValueError(
            f"k must be at least 2, or there is nothing to balance, and at most the number of "
            f"different items, {distinct}; got k = {config.k}"
        )
    tried = range(2, min(MOST_CLUSTERS, distinct - 1) + 1) if config.k is None else [config.k]
    if not len(tried):
        raise ValueError(f"clusters need at least 3 different trajectories, got {distinct}")
    fits = [_fit(features, k, seed) for k in tried]
    criterion, note = config.k_criterion, ""
    if criterion == "return" and np.ptp(returns) == 0:
        criterion, note = "silhouette", "all returns are equal, so the silhouette chose K"
    merged = [_merged(np.asarray(fit.labels_), features) for fit in fits]
    values = [_criterion(criterion, labels, features, returns, seed) for labels in merged]
    best = min(values)
    near = best + max((TOLERANCE - 1.0) * abs(best), SLACK)
    place = next(i for i, value in enumerate(values) if value <= near)
    labels = merged[place]
    if labels.max() == 0:
        note = "no clusters but of a few odd trajectories, so there is nothing to balance"
    centroids = np.stack([features[labels == c].mean(0) for c in range(labels.max() + 1)])
    return Clusters(
        labels=labels,
        features=features,
        centroids=centroids,
        returns=np.asarray(returns, np.float64),
        candidates=tuple(tried),
        criterion=tuple(float(v) for v in values),
        inertia=tuple(float(f.inertia_) for f in fits),
        chosen_by="given" if config.k is not None else criterion,
        note=note,
        projection=projection,
        layout=layout,
        relative=relative,
    )


def return_homogeneity(
    labels: Int[np.ndarray, " item"], returns: Float[np.ndarray, " item"]
) -> float:
    """``J`` of a clustering: 1 where labels say nothing of the return, 0 where they say all.

    No affine map of the returns changes it.
    """
    values = np.asarray(returns, np.float64)
    items, clusters = len(values), len(np.unique(labels))
    total = float(np.sum((values - values.mean()) ** 2))
    if total == 0 or items <= clusters:
        return 1.0
    within = sum(
        float(np.sum((values[labels == c] - values[labels == c].mean()) ** 2))
        for c in np.unique(labels)
    )
    return (within / (items - clusters)) / (total / (items - 1))


def _fit(features: np.ndarray, k: int, seed: int) -> Any:
    from sklearn.cluster import KMeans  # slow to import, and only clustering needs it

    return KMeans(k, n_init=RESTARTS, random_state=seed).fit(features)  # pyright: ignore[reportArgumentType]


def _criterion(
    kind: str, labels: np.ndarray, features: np.ndarray, returns: np.ndarray, seed: int
) -> float:
    """What is to be least."""
    if labels.max() == 0:
        return 1.0
    if kind == "return":
        return return_homogeneity(labels, returns)
    if kind == "silhouette":
        from sklearn.metrics import silhouette_score

        return -float(silhouette_score(features, labels))
    return -_stability(labels, features, seed)


def _stability(labels: np.ndarray, features: np.ndarray, seed: int) -> float:
    """Mean agreement (adjusted Rand) of a clustering with those of bootstraps of its items."""
    from sklearn.metrics import adjusted_rand_score

    random, k = np.random.default_rng(seed), len(np.unique(labels))
    agreed = []
    for number in range(BOOTSTRAPS):
        chosen = random.integers(len(features), size=len(features))
        fit = _fit(features[chosen], k, seed + number + 1)
        agreed.append(adjusted_rand_score(labels, fit.predict(features)))
    return float(np.mean(agreed))


def _merged(labels: np.ndarray, features: np.ndarray) -> Int[np.ndarray, " item"]:
    """Give clusters that are too small to the nearest, and number the rest by size."""
    least = max(SMALLEST, int(np.ceil(SMALLEST_SHARE * len(labels))))
    labels = labels.copy()
    while True:
        names, sizes = np.unique(labels, return_counts=True)
        if len(names) == 1 or sizes.min() >= least:
            return number_by_size(labels)
        middles = np.stack([features[labels == name].mean(0) for name in names])
        small = int(np.argmin(sizes))
        distance = np.linalg.norm(middles - middles[small], axis=1)
        distance[small] = np.inf
        labels[labels == names[small]] = names[int(np.argmin(distance))]
