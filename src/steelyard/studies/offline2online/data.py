"""The data of a seed: recorded or loaded, clustered, kept in its run folder and opened again."""

import json
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from steelyard.data.demonstrations import Demonstrations
from steelyard.data.normalisation import Normaliser, Statistics
from steelyard.data.trajectory_store import TrajectoryStore, segments
from steelyard.emphasis.trajectory_clusters import Clusters, cluster_trajectories
from steelyard.emphasis.trajectory_features import Layout, Projection, layout_of
from steelyard.files import read_arrays, reading
from steelyard.studies.offline2online.datasets import load_offline_data
from steelyard.studies.offline2online.plan import Data
from steelyard.training.group import Ticker
from steelyard.training.operator_demonstrations import Recorded, record_operators
from steelyard.training.run_folder import RunFolder, save_arrays, write_json

DATASET, CLUSTERS, OPERATORS = "data", "clusters.npz", "operators.json"
STEPS_OF_AN_ITEM, SPARE_ITEMS = 10, 100
"""There is room for new trajectories of this mean length, and some more; else the oldest go."""


class Prepared(NamedTuple):
    """The data of a run and what is known of its trajectories.

    Attributes:
        data: The dataset.
        labels: Cluster of each trajectory or segment.
        clusters: How they were found, to place others.
    """

    data: Demonstrations
    labels: Int[np.ndarray, " item"]
    clusters: Clusters


def record(settings: Data, seed: int, tick: Ticker) -> Recorded:
    """Play a regime's episodes, or load a dataset."""
    if settings.regime is not None:
        return record_operators(settings.env, settings.regime, seed, tick)
    assert settings.dataset is not None, "a part has a regime or a dataset"
    data = load_part(settings, 0)
    tick(1)
    return Recorded(data, ())


def load_part(settings: Data, number: int) -> Demonstrations:
    """One file of a dataset, counted round."""
    assert settings.dataset is not None, "operators' data are of one part"
    return load_offline_data(
        Path(settings.dataset), settings.env, settings.sparse, number, settings.proportion
    )


def prepare(settings: Data, seed: int, folder: RunFolder, tick: Ticker) -> Prepared:
    """Make a seed's data and clusters and write them to its folder."""
    recorded = record(settings, seed, tick)
    recorded.data.save(folder.path / DATASET, overwrite=True)
    clusters = cluster(recorded.data, settings, seed)
    save_clusters(folder.path / CLUSTERS, clusters)
    write_json(folder.path / OPERATORS, list(recorded.operators))
    return Prepared(recorded.data, clusters.labels, clusters)


def cluster(data: Demonstrations, settings: Data, seed: int) -> Clusters:
    """Cluster the trajectories of a dataset, or the segments of their starts."""
    layout = layout_of(settings.env, data.env_spec.observation_size)
    frames, returns = items_of(data, settings.cluster.segment)
    return cluster_trajectories(frames, returns, layout, settings.cluster, seed)


def items_of(data: Demonstrations, segment: int | None) -> tuple[list[np.ndarray], np.ndarray]:
    """Observations and return of each trajectory, or of each segment of one."""
    frames, returns = [], []
    for episode in data.episodes():
        assert episode.rewards is not None, "offline reinforcement learning reads rewards"
        for first, last in segments(len(episode.actions), segment):
            frames.append(episode.observations[first : last + 1])
            returns.append(float(np.sum(episode.rewards[first:last], dtype=np.float64)))
    return frames, np.array(returns)


def open_prepared(folder: Path) -> Prepared:
    """Open the data of a finished data cell."""
    clusters = load_clusters(folder / CLUSTERS)
    return Prepared(Demonstrations.load(folder / DATASET), clusters.labels, clusters)


def store_of(prepared: Prepared, segment: int | None, new_steps: int) -> TrajectoryStore:
    """Trajectories on the device, with room for what is played online.

    Rows are as many as episodes of full length would need, where that is not far more than there
    are, so that stores of several seeds are of one shape.
    """
    data = prepared.data
    rows = len(data) * (data.env_spec.max_episode_steps + 1)
    spare = rows if rows < 4 * data.num_steps else None
    new_items = new_steps // STEPS_OF_AN_ITEM + SPARE_ITEMS if new_steps else 0
    return TrajectoryStore.of(data, new_steps, new_items, spare, segment)


def normaliser_of(data: Demonstrations, wanted: bool) -> Normaliser:
    """Of observations: the data's mean and deviation, or none."""
    if not wanted:
        return Normaliser.identity(data.env_spec.observation_size)
    return Statistics.of(jnp.asarray(data.observations)).normaliser()


def save_clusters(path: Path, found: Clusters) -> None:
    """Write ``clusters.npz``: features, labels, centroids, K, J, and how to place others."""
    layout = {
        "position": found.layout.position,
        "objects": found.layout.objects,
        "quaternions": found.layout.quaternions,
        "others": found.layout.others,
    }
    arrays = {
        "features": found.features,
        "labels": found.labels,
        "centroids": found.centroids,
        "returns": found.returns,
        "K": found.k,
        "candidates": found.candidates,
        "J": found.criterion,
        "inertia": found.inertia,
        "chosen_by": found.chosen_by,
        "note": found.note,
        "mean": found.projection.mean,
        "scale": found.projection.scale,
        "components": found.projection.components,
        "layout": json.dumps(layout),
        "relative": found.relative,
    }
    save_arrays(path, {name: np.asarray(value) for name, value in arrays.items()})


def load_clusters(path: Path) -> Clusters:
    """Read what :func:`save_clusters` wrote.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or something else.
    """
    file = read_arrays(path)
    with reading(path, "not the clusters of a data set"):
        told = json.loads(str(file["layout"]))
        layout = Layout(
            position=tuple(told["position"]),
            objects=tuple(tuple(columns) for columns in told["objects"]),
            quaternions=tuple((tuple(c), scalar) for c, scalar in told["quaternions"]),
            others=tuple(told["others"]),
        )
        return Clusters(
            labels=file["labels"],
            features=file["features"],
            centroids=file["centroids"],
            returns=file["returns"],
            candidates=tuple(int(k) for k in file["candidates"]),
            criterion=tuple(float(j) for j in file["J"]),
            inertia=tuple(float(j) for j in file["inertia"]),
            chosen_by=str(file["chosen_by"]),
            note=str(file["note"]),
            projection=Projection(file["mean"], file["scale"], file["components"]),
            layout=layout,
            relative=bool(file["relative"]),
        )
