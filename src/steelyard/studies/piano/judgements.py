"""What learners are told: segments and a judge → ratings, pairs, and pairs that nobody sees."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from steelyard.data.judges import rate, utilities
from steelyard.data.preferences import Pairs, Ratings, pairs_from_ratings
from steelyard.data.segments import Segments
from steelyard.emphasis.weightings import make_weighting
from steelyard.studies.piano.plan import Judged

TOP_SHARE = 0.1
TIE_FLOOR = 0.1
"""Share of the uniform measure in pairs drawn by strength, without which ties would vanish."""


class Judgements(NamedTuple):
    """Answers of the judge.

    Attributes:
        ratings: Of the segments that are rated.
        pairs: Made of them.
        held: Pairs of other segments, rated by the same judge.
        worth: Of every segment, which only the oracle is told.
    """

    ratings: Ratings
    pairs: Pairs
    held: Pairs
    worth: Float[np.ndarray, " item"]


def judge_segments(segments: Segments, judged: Judged, seed: int) -> Judgements:
    """Ask the judge; a seed's answers are the same for every arm.

    Raises:
        ValueError: More segments are to be rated than there are.
    """
    wanted = judged.ratings + judged.held_out
    if wanted > len(segments):
        raise ValueError(
            f"ratings and held_out are {judged.ratings} + {judged.held_out} segments, "
            f"and there are {len(segments)}; play more episodes, or rate fewer"
        )
    random = np.random.default_rng([seed, 0x1DD])
    which = random.permutation(len(segments))
    worth = utilities(segments, judged.judge)
    ratings = rate(worth, which[: judged.ratings], judged.judge, random)
    others = rate(worth, which[judged.ratings : wanted], judged.judge, random)
    return Judgements(
        ratings,
        pairs_from_ratings(ratings, segments, judged.pair, seed),
        pairs_from_ratings(others, segments, judged.pair, seed),
        worth,
    )


def cloned_segments(kind: str, segments: Segments, told: Judgements) -> Float[np.ndarray, " item"]:
    """How often each segment is cloned by an arm that clones; at least one is.

    Args:
        kind: ``all``; ``winners``, once for every pair won, half for a tie; ``top_rated``, those of
            the best rating; ``top_return``, the tenth of all that is worth most.
        segments: All of them.
        told: What the judge said.
    """
    count = len(segments)
    if kind == "all":
        return np.ones(count)
    if kind == "top_return":
        least = np.quantile(told.worth, 1.0 - TOP_SHARE)
        return (told.worth >= least).astype(np.float64)
    if kind == "top_rated":
        best = told.ratings.rating >= told.ratings.rating.max()
        return np.bincount(told.ratings.segment[best], minlength=count).astype(np.float64)
    pairs = told.pairs
    won = np.bincount(pairs.winner, np.where(pairs.strict, 1.0, 0.5), count)
    tied = np.bincount(pairs.loser, np.where(pairs.strict, 0.0, 0.5), count)
    return won + tied


def pair_ratio(weighting: str | None, pairs: Pairs) -> Float[np.ndarray, " pair"] | None:
    """Density ratio of pairs by the strength of their judgement; none draws them alike."""
    if weighting is None:
        return None
    if weighting == "proportional":
        made = make_weighting(weighting, power=1.0, floor=TIE_FLOOR)
    else:
        made = make_weighting(weighting)
    return np.asarray(made.ratio(jnp.asarray(pairs.strength, jnp.float32)))
