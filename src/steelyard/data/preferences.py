"""Judgements at rest: ratings of segments and comparisons of two, and the pairs they make.

One orientation everywhere: a pair names the better segment first, with the probability ``y`` that
it is the better one, 0.5 for a tie. Only the readers and writers of files translate.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from steelyard.data.findings import DatasetError
from steelyard.data.segments import Segments

PairScope = Literal["window", "checkpoint", "all"]


@dataclasses.dataclass(frozen=True, eq=False)
class Ratings:
    """How good somebody found segments; larger is better.

    Attributes:
        segment: Its number.
        rating: On the annotator's scale.
        annotator: Who, a place in ``names``.
        names: Of the annotators.
    """

    segment: Int[np.ndarray, " rating"]
    rating: Float[np.ndarray, " rating"]
    annotator: Int[np.ndarray, " rating"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.segment)


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Comparisons of two segments.

    Attributes:
        winner: The better segment.
        loser: The other.
        label: Probability that the first is better, in ``[0.5, 1]``; 0.5 is a tie.
        strength: How much better, in ``[0, 1]``; a tie has 0.
        annotator: Who said so, a place in ``names``.
        names: Of the annotators.
    """

    winner: Int[np.ndarray, " pair"]
    loser: Int[np.ndarray, " pair"]
    label: Float[np.ndarray, " pair"]
    strength: Float[np.ndarray, " pair"]
    annotator: Int[np.ndarray, " pair"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.label) and not (self.label.min() >= 0.5 and self.label.max() <= 1.0):
            raise DatasetError(
                "a pair's label is the probability that its first segment is better, in [0.5, 1], "
                f"got {self.label.min():g} … {self.label.max():g}"
            )
        same = np.flatnonzero(self.winner == self.loser)
        if len(same):
            raise DatasetError(
                f"a pair has two segments, pair {same[0]} has {self.winner[same[0]]} twice"
            )

    def __len__(self) -> int:
        return len(self.winner)

    @property
    def strict(self) -> Bool[np.ndarray, " pair"]:
        """Pairs that are no ties."""
        return self.label != 0.5

    def take(self, which: np.ndarray) -> "Pairs":
        """Some of the pairs."""
        fields = ("winner", "loser", "label", "strength", "annotator")
        return dataclasses.replace(self, **{name: getattr(self, name)[which] for name in fields})

    def oriented(self) -> set[tuple[int, int, float]]:
        """Pairs as a set, ties in the order of their numbers; for tests and displays."""
        rows = zip(self.winner, self.loser, self.label, strict=True)
        return {
            (int(min(a, b)), int(max(a, b)), 0.5) if y == 0.5 else (int(a), int(b), float(y))
            for a, b, y in rows
        }


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """How ratings become pairs."""

    pair_scope: PairScope = "window"
    """Which segments are compared: of the same window, the same checkpoint, or all."""
    min_gap: float = 1.0
    """Least difference of two ratings; equal ones are ties."""
    max_pairs_per_segment: int | None = None
    """Most pairs that one segment is in; none keeps all."""
    ties: Literal["keep", "drop"] = "keep"
    """Whether equal ratings make pairs."""
    soft: float | None = None
    """`k` of soft labels `sigmoid(k · gap)`; none gives hard ones."""


def within_annotator_ranks(ratings: Ratings) -> Ratings:
    """Replace every rating by its mid-rank among its annotator's, so that scales agree."""
    ranks = np.zeros(len(ratings))
    for annotator in np.unique(ratings.annotator):
        own = ratings.annotator == annotator
        ranks[own] = rankdata(ratings.rating[own])
    return dataclasses.replace(ratings, rating=ranks)


def pairs_from_ratings(
    ratings: Ratings,
    segments: Segments,
    config: PairConfig = PairConfig(),
    seed: int = 0,
) -> Pairs:
    """Compare all rated segments that may be: ``n`` ratings, up to ``n (n - 1) / 2`` pairs.

    Each unordered pair stands once; its loss holds both orders. Pairs are of one annotator.

    Args:
        ratings: One annotator's or several's.
        segments: What was rated.
        config: Which pairs, and their labels.
        seed: Of the choice, where ``max_pairs_per_segment`` leaves some out.

    Returns:
        The pairs, ties with label 0.5 and strength 0.

    Raises:
        DatasetError: No two ratings differ, or no window has two segments; says what there is.
    """
    check_ratings(ratings, segments)
    group = {
        "window": segments.window,
        "checkpoint": segments.checkpoint,
        "all": np.zeros(len(segments), int),
    }[config.pair_scope]
    found = []
    for annotator in range(len(ratings.names)):
        own = np.flatnonzero(ratings.annotator == annotator)
        first, second = np.triu_indices(len(own), 1)
        a, b = own[first], own[second]
        together = group[ratings.segment[a]] == group[ratings.segment[b]]
        different = ratings.segment[a] != ratings.segment[b]
        found.append(np.stack([a, b], 1)[together & different])
    rows = np.concatenate(found) if found else np.zeros((0, 2), int)
    gap = ratings.rating[rows[:, 0]] - ratings.rating[rows[:, 1]]
    kept = (np.abs(gap) >= config.min_gap) | ((gap == 0) & (config.ties == "keep"))
    rows, gap = rows[kept], gap[kept]
    if not (gap != 0).any():
        raise DatasetError(_why_no_pairs(ratings, segments, config))
    rows = np.where((gap < 0)[:, None], rows[:, ::-1], rows)
    gap = np.abs(gap)
    label = np.ones(len(gap)) if config.soft is None else 1.0 / (1.0 + np.exp(-config.soft * gap))
    pairs = Pairs(
        ratings.segment[rows[:, 0]],
        ratings.segment[rows[:, 1]],
        np.where(gap == 0, 0.5, label),
        gap / gap.max(),
        ratings.annotator[rows[:, 0]],
        ratings.names,
    )
    if config.max_pairs_per_segment is None:
        return pairs
    return pairs.take(_thinned(pairs, config.max_pairs_per_segment, len(segments), seed))


def check_ratings(ratings: Ratings, segments: Segments) -> None:
    """Refuse ratings of segments that are not there.

    Raises:
        DatasetError: Names the first.
    """
    outside = np.flatnonzero((ratings.segment < 0) | (ratings.segment >= len(segments)))
    if len(outside):
        raise DatasetError(
            f"rating {outside[0]} is of segment {ratings.segment[outside[0]]}; the data set has "
            f"segments 0 … {len(segments) - 1}"
        )


def _why_no_pairs(ratings: Ratings, segments: Segments, config: PairConfig) -> str:
    windows, counts = np.unique(segments.window[ratings.segment], return_counts=True)
    held = ", ".join(f"{w}: {c}" for w, c in zip(windows, counts, strict=True))
    low, high = (ratings.rating.min(), ratings.rating.max()) if len(ratings) else (0.0, 0.0)
    advice = (
        "rate segments that differ, or lower min_gap"
        if counts.size and counts.max() > 1
        else "rate more segments of one window, or use pair_scope='all'"
    )
    return (
        f"{len(ratings)} ratings between {low:g} and {high:g} make no pair in which one is better "
        f"(pair_scope={config.pair_scope!r}, min_gap={config.min_gap:g}; ratings by window: "
        f"{held}): {advice}"
    )


def _thinned(pairs: Pairs, most: int, segments: int, seed: int) -> np.ndarray:
    """Places of pairs, drawn in turn, so that no segment is in more than ``most``."""
    if most < 1:
        raise ValueError(f"max_pairs_per_segment is at least 1: got {most}")
    times, kept = np.zeros(segments, int), []
    for place in np.random.default_rng([seed, len(pairs)]).permutation(len(pairs)):
        both = [pairs.winner[place], pairs.loser[place]]
        if (times[both] < most).all():
            times[both] += 1
            kept.append(place)
    return np.sort(np.array(kept, int))


def split_pairs(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Hold out pairs so that no segment is on both sides.

    Segments are split; pairs across the two sides are in neither.

    Args:
        pairs: All of them.
        share: Share of the segments to hold out, in ``[0, 1)``.
        seed: Of the choice.

    Returns:
        Pairs to learn from, and those held out.

    Raises:
        DatasetError: A side has no pair in which one is better.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"the share that is held out lies in [0, 1): got {share}")
    used = np.unique(np.concatenate([pairs.winner, pairs.loser]))
    count = round(share * len(used))
    if count == 0:
        return pairs, pairs.take(np.zeros(0, int))
    out = np.random.default_rng([seed, len(used)]).permutation(used)[:count]
    first, second = np.isin(pairs.winner, out), np.isin(pairs.loser, out)
    sides = pairs.take(np.flatnonzero(~first & ~second)), pairs.take(np.flatnonzero(first & second))
    for name, side in zip(("to learn from", "held out"), sides, strict=True):
        if not side.strict.any():
            raise DatasetError(
                f"no pair {name} in which one is better: {len(used)} segments, of which {count} "
                f"are held out, have {len(pairs)} pairs; judge more, or hold out another share"
            )
    return sides


def times_compared(pairs: Pairs, segments: int) -> Int[np.ndarray, " item"]:
    """How many pairs each segment is in; a score of segments."""
    return np.bincount(np.concatenate([pairs.winner, pairs.loser]), minlength=segments)


def annotator_agreement(pairs: Pairs) -> Float[np.ndarray, " pair"]:
    """For each pair, the share of judgements of the same two segments that agree; a score."""
    low, high = np.minimum(pairs.winner, pairs.loser), np.maximum(pairs.winner, pairs.loser)
    answer = np.where(pairs.label == 0.5, 0, np.where(pairs.winner == low, 1, -1))
    keys = np.stack([low, high], 1)
    _, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.reshape(-1)
    total = np.bincount(place)[place]
    _, same = np.unique(np.stack([place, answer], 1), axis=0, return_inverse=True)
    same = same.reshape(-1)
    return np.bincount(same)[same] / total


def combine(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several sources, with the names of all annotators."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    joined = {
        field: np.concatenate([getattr(part, field) for part in parts])
        for field in ("winner", "loser", "label", "strength")
    }
    who = [np.array([names.index(n) for n in p.names], int)[p.annotator] for p in parts]
    return Pairs(**joined, annotator=np.concatenate(who), names=names)
