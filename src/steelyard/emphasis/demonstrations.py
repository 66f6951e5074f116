"""Emphasis on demonstrations: from a config to how much each recorded step counts."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from steelyard.data.demonstrations import Demonstrations
from steelyard.emphasis.clusters import cluster_labels
from steelyard.emphasis.grid import refusal
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.weightings import WEIGHTINGS, make_weighting
from steelyard.types import late

EpisodeScore: TypeAlias = Callable[[Demonstrations], Float[np.ndarray, " episode"]]
NONE, CLUSTER, GIVEN = "none", "cluster", "given"
_registered: dict[str, EpisodeScore] = {"episode_return": Demonstrations.returns}
EPISODE_SCORES: Mapping[str, EpisodeScore] = MappingProxyType(_registered)
"""Scores that read episodes and nothing else, by the name that configs use."""


def register_episode_score(name: str, score: EpisodeScore) -> None:
    """Make a score of your own known by name, for this process.

    Args:
        name: One that no other score has.
        score: Demonstrations to one finite number an episode; larger matters more.

    Raises:
        ValueError: The name is taken or empty.
    """
    if not name or name in score_names():
        raise ValueError(f"a score needs a name that is not taken: got {name!r}.")
    _registered[name] = score


def score_names() -> tuple[str, ...]:
    """Every name that a config's ``score`` may have."""
    return (NONE, CLUSTER, GIVEN, *EPISODE_SCORES)


@dataclasses.dataclass(frozen=True)
class EmphasisConfig:
    """Which episodes count more. The default says so explicitly: no score, uniform weighting."""

    score: str = NONE
    """What makes an episode matter: `none`; `episode_return` (this reads the task's reward); the
    `cluster` it falls into; `given`, by the program that trains; or a score of your own."""
    weighting: str = "uniform"
    """How scores become a distribution; see docs/emphasis.md."""
    power: float | None = None
    """Option of `proportional` and `rank`."""
    floor: float | None = None
    """Option of `proportional`, `rank` and `mean_tail`."""
    temperature: float | None = None
    """Option of `softmax`."""
    ess: float | None = None
    """Option of `softmax`: wanted effective sample size, as a share."""
    alpha: float | None = None
    """Option of `tail`, `mean_tail` and `smooth_tail`."""
    fraction: float | None = None
    """Option of `drop`."""
    tau: float | None = None
    """Option of `balanced`: 0 gives every cluster the same mass, 1 leaves the data as they are."""
    clusters: int = 4
    """Number of clusters, where the score is `cluster`."""
    through: Literal["batches", "losses"] = "batches"
    """Whether the learner feels it by drawing its batches, or by weighting its losses."""
    cap: float | None = late(None)
    """Option of `balanced`: the largest density ratio."""
    smoothing: float | None = late(None)
    """Option of `smooth_tail`."""
    tilt: float | None = late(None)
    """Option of `tilted`."""
    radius: float | None = late(None)
    """Option of `chi_square`."""

    def __post_init__(self) -> None:
        for kind, name, legal in (
            ("score", self.score, score_names()),
            ("weighting", self.weighting, tuple(WEIGHTINGS)),
        ):
            if name not in legal:
                near = difflib.get_close_matches(name, legal, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"emphasis: {kind} is one of {list(legal)}, got {name!r}.{hint}")
        if self.weighting not in ("uniform", "balanced") and self.score == NONE:
            raise ValueError(
                f"emphasis: weighting {self.weighting!r} needs a score, got 'none'; there are "
                f"{list(score_names()[1:])}."
            )
        refused = refusal(self.score, self.weighting)
        if refused is not None:
            raise ValueError(f"emphasis: {refused}")

    def options(self) -> dict[str, Any]:
        """Options of the weighting that are set."""
        return {name: v for name in OPTIONS if (v := getattr(self, name)) is not None}


OPTIONS = (
    *("power", "floor", "temperature", "ess", "alpha", "fraction", "tau"),
    *("cap", "smoothing", "tilt", "radius"),
)
"""Fields of the config that are options of weightings."""


def episode_ratios(
    demonstrations: Demonstrations,
    config: EmphasisConfig,
    seed: int,
    scores: Float[np.ndarray, " episode"] | None = None,
    base: Float[Array, " episode"] | None = None,
) -> Float[np.ndarray, " episode"]:
    """Density ratio of every episode to a base measure.

    Args:
        demonstrations: Episodes.
        config: Score and weighting.
        seed: Seed of the clustering.
        scores: One an episode, where the config's score is ``given``, and only then.
        base: Probability of each episode without emphasis; none counts an episode as many times as
            it has steps.

    Returns:
        Non-negative, mean one under the base; exactly one without emphasis, 0 where the base is.

    Raises:
        DatasetError: The score is the return and the dataset has no rewards.
        ValueError: Unknown option; scores that are missing, not wanted, of another number than the
            episodes, not finite, or of a sign that the weighting refuses.
    """
    if (scores is not None) != (config.score == GIVEN):
        raise ValueError(
            "emphasis: scores are handed over where score is 'given', and only there; got score "
            f"{config.score!r} {'with' if scores is not None else 'without'} scores. A score by "
            "name is registered with `register_episode_score`."
        )
    options = config.options()
    if config.score in EPISODE_SCORES:
        scores = EPISODE_SCORES[config.score](demonstrations)
    elif config.score == CLUSTER:
        labels = cluster_labels(episode_features(demonstrations), config.clusters, seed)
        options["labels"] = jnp.asarray(labels)
    scores = np.ones(len(demonstrations)) if scores is None else np.asarray(scores)
    if scores.shape != (len(demonstrations),) or not np.isfinite(scores).all():
        raise ValueError(
            f"emphasis: score {config.score!r} must give one finite number an episode, shape "
            f"({len(demonstrations)},); got shape {scores.shape}, "
            f"{int((~np.isfinite(scores)).sum())} of them not finite."
        )
    if base is None:
        base = length_base(jnp.asarray(demonstrations.lengths, jnp.int32))
    weighting = make_weighting(config.weighting, **options)
    return np.asarray(weighting.ratio(jnp.asarray(scores, jnp.float32), base=base))


def step_ratios(
    demonstrations: Demonstrations,
    config: EmphasisConfig,
    seed: int,
    scores: Float[np.ndarray, " episode"] | None = None,
) -> Float[np.ndarray, " step"]:
    """Density ratio of every recorded step to the uniform distribution over steps.

    Args:
        demonstrations: Episodes; an episode's steps share its ratio.
        config: Score and weighting.
        seed: Seed of the clustering.
        scores: As in :func:`episode_ratios`, whose errors these are, too.

    Returns:
        Non-negative, mean one; exactly one everywhere without emphasis.
    """
    ratios = episode_ratios(demonstrations, config, seed, scores)
    return ratios[demonstrations.step_episodes()]


def episode_features(demonstrations: Demonstrations) -> Float[np.ndarray, "episode feature"]:
    """Mean and last observation and mean action of each episode, each component standardised."""
    rows = []
    for episode in demonstrations.episodes():
        ends = (episode.observations.mean(0), episode.observations[-1], episode.actions.mean(0))
        rows.append(np.concatenate(ends))
    features = np.stack(rows)
    return (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
