"""Emphasis on demonstrations: from a config to how much each recorded step counts."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from steelyard.data.demonstrations import Demonstrations
from steelyard.emphasis.clusters import cluster_labels
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.weightings import make_weighting


@dataclasses.dataclass(frozen=True)
class EmphasisConfig:
    """Which episodes count more. The default says so explicitly: no score, uniform weighting."""

    score: Literal["none", "episode_return", "cluster"] = "none"
    """What makes an episode matter: nothing, its return (this reads the task's reward), or the
    cluster it falls into."""
    weighting: str = "uniform"
    """How scores become a distribution; see docs/emphasis.md."""
    power: float | None = None
    """Option of `proportional` and `rank`."""
    floor: float | None = None
    """Option of `proportional` and `rank`."""
    temperature: float | None = None
    """Option of `softmax`."""
    ess: float | None = None
    """Option of `softmax`: wanted effective sample size, as a share."""
    alpha: float | None = None
    """Option of `tail`."""
    fraction: float | None = None
    """Option of `drop`."""
    tau: float | None = None
    """Option of `balanced`: 0 gives every cluster the same mass, 1 leaves the data as they are."""
    clusters: int = 4
    """Number of clusters, where the score is `cluster`."""
    through: Literal["batches", "losses"] = "batches"
    """Whether the learner feels it by drawing its batches, or by weighting its losses."""

    def __post_init__(self) -> None:
        if (self.weighting == "balanced") != (self.score == "cluster"):
            raise ValueError(
                "emphasis: weighting 'balanced' goes with score 'cluster' and with no other, got "
                f"{self.weighting!r} with {self.score!r}."
            )
        if self.weighting != "uniform" and self.score == "none":
            raise ValueError(
                f"emphasis: weighting {self.weighting!r} needs a score, got 'none'; there are "
                "'episode_return' and 'cluster'."
            )


def step_ratios(
    demonstrations: Demonstrations, config: EmphasisConfig, seed: int
) -> Float[np.ndarray, " step"]:
    """Density ratio of every recorded step to the uniform distribution over steps.

    Args:
        demonstrations: Episodes; an episode's steps share its ratio.
        config: Score and weighting.
        seed: Seed of the clustering.

    Returns:
        Non-negative, mean one; exactly one everywhere without emphasis.

    Raises:
        DatasetError: The score is the return and the dataset has no rewards.
        ValueError: Unknown weighting or option.
    """
    names = ("power", "floor", "temperature", "ess", "alpha", "fraction", "tau")
    options = {n: v for n in names if (v := getattr(config, n)) is not None}
    scores = np.ones(len(demonstrations), np.float32)
    if config.score == "episode_return":
        scores = demonstrations.returns().astype(np.float32)
    elif config.score == "cluster":
        labels = cluster_labels(episode_features(demonstrations), config.clusters, seed)
        options["labels"] = jnp.asarray(labels)
    weighting = make_weighting(config.weighting, **options)
    base = length_base(jnp.asarray(demonstrations.lengths, jnp.int32))
    ratios = weighting.ratio(jnp.asarray(scores), base=base)
    return np.asarray(ratios)[demonstrations.step_episodes()]


def episode_features(demonstrations: Demonstrations) -> Float[np.ndarray, "episode feature"]:
    """Mean and last observation and mean action of each episode, each component standardised."""
    rows = []
    for episode in demonstrations.episodes():
        ends = (episode.observations.mean(0), episode.observations[-1], episode.actions.mean(0))
        rows.append(np.concatenate(ends))
    features = np.stack(rows)
    return (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
