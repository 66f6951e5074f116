"""Pictures of clusters: where they lie, how long they are, and how many there should be."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from steelyard.emphasis.trajectory_clusters import Clusters
from steelyard.reports import theme as themes
from steelyard.reports.theme import LIGHT


def cluster_pictures(
    clusters: Clusters, env: str, lengths: Int[np.ndarray, " episode"], folder: Path
) -> list[Path]:
    """Draw ``{env}_kmeans_{K}_cluster.png``, ``…_length.png`` and ``…_choice.png``.

    Args:
        clusters: What was found.
        env: Task.
        lengths: Steps of each trajectory; without effect where items are segments.
        folder: Where the pictures go.
    """
    stem = f"{env.split('/')[-1]}_kmeans_{clusters.k}"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"cluster": _places(clusters), "choice": _choice(clusters)}
    if len(lengths) == len(clusters.labels):
        drawn["length"] = _lengths(clusters, lengths)
    written = []
    for name, figure in drawn.items():
        path = folder / f"{stem}_{name}.png"
        path.write_bytes(themes.png(figure))
        written.append(path)
    return written


def _colour(cluster: int) -> str:
    return LIGHT.palette[cluster % len(LIGHT.palette)]


MARKS = "os^Dv"


def _mark(cluster: int) -> str:
    return MARKS[cluster // len(LIGHT.palette) % len(MARKS)]


def _places(clusters: Clusters) -> "themes.Figure":
    figure = themes.new_figure(6.4, 4.4, LIGHT)
    axes = figure.add_subplot()
    themes.style(axes, LIGHT)
    features = clusters.features
    second = features[:, 1] if features.shape[1] > 1 else clusters.returns
    for cluster in range(clusters.k):
        own = clusters.labels == cluster
        label = f"{cluster}: {own.sum()}, mean return {clusters.returns[own].mean():.1f}"
        axes.scatter(
            features[own, 0], second[own], s=16, color=_colour(cluster), marker=_mark(cluster),
            label=label, linewidths=0, alpha=0.85,
        )  # fmt: skip
    axes.set_xlabel("First principal component of the features")
    axes.set_ylabel("Second" if features.shape[1] > 1 else "Return")
    axes.legend(frameon=False, fontsize=themes.SMALL, loc="center left", bbox_to_anchor=(1.0, 0.5))
    themes.heading(axes, LIGHT, f"{clusters.k} clusters of {len(features)} trajectories", "")
    return figure


def _lengths(clusters: Clusters, lengths: np.ndarray) -> "themes.Figure":
    figure = themes.new_figure(6.4, 3.6, LIGHT)
    axes = figure.add_subplot()
    themes.style(axes, LIGHT)
    random = np.random.default_rng(0)
    for cluster in range(clusters.k):
        own = lengths[clusters.labels == cluster]
        place = cluster + random.uniform(-0.25, 0.25, len(own))
        axes.scatter(place, own, s=10, color=_colour(cluster), linewidths=0, alpha=0.6)
        axes.plot([cluster - 0.32, cluster + 0.32], [own.mean()] * 2, color=LIGHT.ink, linewidth=2)
    axes.set_xlabel("Cluster")
    axes.set_ylabel("Steps")
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(clusters.k))
    themes.heading(axes, LIGHT, "Length of the trajectories", "Line: mean.")
    return figure


def _choice(clusters: Clusters) -> "themes.Figure":
    figure = themes.new_figure(8.2, 3.4, LIGHT)
    left, right = figure.subplots(1, 2)
    names = {
        "return": "J(K): variance of the return left within",
        "silhouette": "− silhouette",
        "stability": "− agreement of bootstraps",
        "given": "J(K)",
    }
    drawn = ((left, clusters.criterion, names[clusters.chosen_by]),)
    drawn += ((right, clusters.inertia, "Sum of squared distances (elbow)"),)
    for axes, values, title in drawn:
        themes.style(axes, LIGHT)
        axes.plot(clusters.candidates, values, "o-", color=LIGHT.ink, linewidth=1.4, markersize=4)
        axes.axvline(clusters.k, color=LIGHT.palette[1], linewidth=1.2, linestyle="--")
        axes.set_xlabel("Clusters K")
        axes.set_ylabel(title)
    themes.heading(
        left, LIGHT, f"K = {clusters.k}", clusters.note or "Dashed: used, after merging."
    )
    return figure
