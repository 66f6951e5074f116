"""Pairs from ratings, listed by hand; splits that share no segment; scores of pairs."""

import dataclasses

import numpy as np
import pytest

from steelyard.data.findings import DatasetError
from steelyard.data.preferences import (
    PairConfig,
    Pairs,
    Ratings,
    annotator_agreement,
    combine,
    pairs_from_ratings,
    split_pairs,
    times_compared,
    within_annotator_ranks,
)
from steelyard.data.segments import PlayedEpisodes, Segments


def played(windows: list[int], checkpoints: list[int] | None = None) -> Segments:
    """Segments of 2 steps in the given windows, each of an episode of its own."""
    count, steps = len(windows), 2
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    never = np.zeros((count, steps), bool)
    length = steps * (max(windows) + 1)
    return Segments(
        "Pendulum-v1", {}, 0.05, zeros(count, steps, 3), zeros(count, steps, 1),
        zeros(count, steps), never, never, ~never, never, zeros(count, steps), zeros(count, 3),
        np.arange(count), steps * np.array(windows),
        np.zeros(count, int) if checkpoints is None else np.array(checkpoints),
        zeros(count), ("a", "b"),
        PlayedEpisodes(np.arange(count), zeros(count, length, 1), np.full(count, length)),
    )  # fmt: skip


def rated(values: list[float], who: list[int] | None = None) -> Ratings:
    count = len(values)
    annotators = np.zeros(count, int) if who is None else np.array(who)
    names = tuple(f"n{i}" for i in range(annotators.max() + 1))
    return Ratings(np.arange(count), np.array(values, float), annotators, names)


def test_four_ratings_give_five_strict_pairs_and_a_tie():
    pairs = pairs_from_ratings(rated([5, 3, 3, 1]), played([0, 0, 0, 0]))
    assert pairs.oriented() == {
        (0, 1, 1.0), (0, 2, 1.0), (0, 3, 1.0), (1, 3, 1.0), (2, 3, 1.0), (1, 2, 0.5),
    }  # fmt: skip
    by_pair = {(int(w), int(s)): x for w, s, x in zip(pairs.winner, pairs.loser, pairs.strength,
                                                     strict=True)}  # fmt: skip
    assert by_pair[0, 3] == 1.0
    assert by_pair[0, 1] == 0.5
    assert by_pair[1, 2] == 0.0  # a tie has no strength


def test_only_the_same_part_of_the_music_is_compared_whoever_played():
    segments = played([0, 1, 0, 1], [0, 0, 1, 1])
    ratings = rated([4, 3, 2, 1])
    by_window = pairs_from_ratings(ratings, segments)
    assert by_window.oriented() == {(0, 2, 1.0), (1, 3, 1.0)}
    by_checkpoint = pairs_from_ratings(ratings, segments, PairConfig("checkpoint"))
    assert by_checkpoint.oriented() == {(0, 1, 1.0), (2, 3, 1.0)}
    assert len(pairs_from_ratings(ratings, segments, PairConfig("all"))) == 6


def test_annotators_are_not_compared_with_each_other():
    ratings = Ratings(
        np.array([0, 1, 0, 1]), np.array([5.0, 4, 1, 2]), np.array([0, 0, 1, 1]), ("ana", "bo")
    )
    pairs = pairs_from_ratings(ratings, played([0, 0]))
    assert pairs.oriented() == {(0, 1, 1.0), (1, 0, 1.0)}
    assert pairs.annotator.tolist() == [0, 1]


def test_gaps_ties_soft_labels_and_thinning():
    segments, ratings = played([0] * 4), rated([1, 1, 2, 5])
    assert len(pairs_from_ratings(ratings, segments, PairConfig(ties="drop"))) == 5
    far = pairs_from_ratings(ratings, segments, PairConfig(min_gap=3.0, ties="drop"))
    assert far.oriented() == {(3, 0, 1.0), (3, 1, 1.0), (3, 2, 1.0)}
    soft = pairs_from_ratings(ratings, segments, PairConfig(soft=1.0))
    labels = {round(float(y), 4) for y in soft.label}
    assert labels == {0.5, 0.7311, 0.9526, 0.982}
    few = pairs_from_ratings(ratings, segments, PairConfig(max_pairs_per_segment=1))
    assert times_compared(few, 4).max() == 1


def test_scales_of_annotators_become_ranks():
    ratings = rated([1, 2, 2, 90, 100], [0, 0, 0, 1, 1])
    assert within_annotator_ranks(ratings).rating.tolist() == [1.0, 2.5, 2.5, 1.0, 2.0]


def test_ratings_that_say_nothing_are_refused_with_what_there_is():
    with pytest.raises(DatasetError, match=r"3 ratings between 2 and 2 .* by window: 0: 3\)"):
        pairs_from_ratings(rated([2, 2, 2]), played([0, 0, 0]))
    with pytest.raises(DatasetError, match="rate more segments of one window"):
        pairs_from_ratings(rated([1, 5]), played([0, 1]))
    outside = dataclasses.replace(rated([1, 5]), segment=np.array([0, 7]))
    with pytest.raises(DatasetError, match=r"segment 7; the data set has segments 0 … 1"):
        pairs_from_ratings(outside, played([0, 0]))


def test_no_segment_is_on_both_sides_of_a_split():
    random = np.random.default_rng(0)
    segments = played([0] * 40)
    pairs = pairs_from_ratings(rated(list(random.integers(1, 6, 40))), segments)
    for seed in range(5):
        learned, held = split_pairs(pairs, 0.2, seed)
        sides = [set(p.winner) | set(p.loser) for p in (learned, held)]
        assert not sides[0] & sides[1]
        assert len(sides[1]) == 8
        assert len(held) == 28
    whole, nothing = split_pairs(pairs, 0.0, 0)
    assert len(whole) == len(pairs)
    assert len(nothing) == 0


def test_a_split_without_a_strict_pair_is_refused():
    pairs = pairs_from_ratings(rated([1, 2, 3]), played([0, 0, 0]))
    with pytest.raises(DatasetError, match="no pair held out in which one is better"):
        split_pairs(pairs, 0.34, 0)


def test_pairs_are_oriented_and_of_two_segments():
    one = np.zeros(1, int)
    with pytest.raises(DatasetError, match=r"in \[0.5, 1\], got 0 … 0"):
        Pairs(one, one + 1, np.zeros(1), np.ones(1), one, ("n",))
    with pytest.raises(DatasetError, match="pair 0 has 0 twice"):
        Pairs(one, one, np.ones(1), np.ones(1), one, ("n",))


def test_agreement_is_the_share_of_equal_answers_about_the_same_two():
    pairs = Pairs(
        np.array([0, 0, 1, 2]), np.array([1, 1, 0, 3]), np.array([1, 1, 1, 0.5]),
        np.ones(4), np.array([0, 1, 2, 0]), ("x", "y", "z"),
    )  # fmt: skip
    assert annotator_agreement(pairs) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1.0])
    other = dataclasses.replace(pairs, names=("z", "y", "w"))
    both = combine([pairs, other])
    assert both.names == ("x", "y", "z", "w")
    assert both.annotator.tolist() == [0, 1, 2, 0, 2, 1, 3, 2]
