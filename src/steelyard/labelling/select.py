"""Chooses what is asked next. Pure: the same history and the same key give the same question.

Pairs are never listed: ten thousand segments have fifty million of them. A pair is drawn by its
first segment, in proportion to the partners it was not asked with yet, then its second among
these; that is a uniform draw over all unasked pairs.

``insertion`` sorts: each new segment is placed into the ranking of its window by binary search, so
that n segments need Σ ⌈log2 k⌉ questions (k = 2 … n) and decide all n(n − 1)/2 pairs.
"""

import dataclasses
import hashlib
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from steelyard.labelling.records import Kind, LabellingError, Question

Select = Literal["uniform", "balanced", "active", "insertion"]
PairScope = Literal["window", "all"]

ACTIVE_DRAWS = 512
"""Unasked pairs that ``active`` looks at for each question."""
REPEAT_AFTER = 10
"""Answers between a question and its repetition, at least."""


@dataclasses.dataclass(frozen=True)
class Choosing:
    """How questions are chosen.

    Attributes:
        kind: Ratings or pairs.
        scale: Highest rating; 0 for pairs.
        select: ``"uniform"``; ``"balanced"``: least judged first; ``"active"``: where the scores
            handed over disagree most; ``"insertion"``: binary insertion into a ranking.
        repeat: Share of questions asked a second time, sides swapped, in [0, 1).
        overlap: Share of questions that all annotators get, in [0, 1].
        pair_scope: ``"window"`` compares the same part of an episode only; ``"all"`` anything.
        target: Questions for each annotator, without repetitions.
        seed: Text that all draws depend on.
    """

    kind: Kind
    scale: int = 0
    select: Select = "balanced"
    repeat: float = 0.05
    overlap: float = 0.1
    pair_scope: PairScope = "window"
    target: int = 0
    seed: str = ""

    def __post_init__(self):
        if not 0 <= self.repeat < 1:
            raise LabellingError(f"the share of repeated questions is in [0, 1), got {self.repeat}")
        if not 0 <= self.overlap <= 1:
            raise LabellingError(f"the share of shared questions is in [0, 1], got {self.overlap}")
        if self.kind == "rate" and self.select == "insertion":
            raise LabellingError("insertion asks about pairs: --mode pair, or another --select")


@dataclasses.dataclass(frozen=True)
class Pool:
    """What can be asked about.

    Attributes:
        segment: Numbers, ascending.
        window: Place in the episode; pairs stay within one, if so chosen.
        scores: Scores of an ensemble, which ``active`` needs.
    """

    segment: Int[np.ndarray, " item"]
    window: Int[np.ndarray, " item"]
    scores: Float[np.ndarray, "item head"] | None = None

    def groups(self, scope: PairScope) -> Int[np.ndarray, " item"]:
        """Return the group of each segment within which pairs are made."""
        if scope == "all":
            return np.zeros_like(self.window)
        return np.unique(self.window, return_inverse=True)[1]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What one annotator was asked so far, in order.

    Attributes:
        a: Segment; of a pair the one with the smaller number.
        b: Second segment; -1 for a rating.
        left_is_a: Which stood on the left.
        repeat: Whether it was a repetition.
        answered: Whether an answer stands that is not a skip.
        open: Whether the answer is still to come.
        preference: P(b wins) of answered pairs, else 0.5.
    """

    a: Int[np.ndarray, " task"]
    b: Int[np.ndarray, " task"]
    left_is_a: Bool[np.ndarray, " task"]
    repeat: Bool[np.ndarray, " task"]
    answered: Bool[np.ndarray, " task"]
    open: Bool[np.ndarray, " task"]
    preference: Float[np.ndarray, " task"]


def pair_count(pool: Pool, scope: PairScope) -> int:
    """Return how many pairs there are to ask about."""
    sizes = np.bincount(pool.groups(scope)).astype(np.int64)
    return int((sizes * (sizes - 1) // 2).sum())


def default_target(choosing: Choosing, pool: Pool) -> int:
    """Return how many questions each annotator gets, unless told otherwise.

    Ratings: every segment once. Pairs: three a segment, so that each is in about six; for
    ``insertion`` as many as the sorting can need.
    """
    if choosing.kind == "rate":
        return len(pool.segment)
    if choosing.select == "insertion":
        sizes = np.bincount(pool.groups(choosing.pair_scope)).tolist()
        return sum((k - 1).bit_length() for size in sizes for k in range(2, size + 1))
    return min(pair_count(pool, choosing.pair_scope), 3 * len(pool.segment))


def coin(seed: str, annotator: str, a: int, b: int) -> bool:
    """Return whether ``a`` stands on the left, fixed by annotator and pair."""
    return _hash(f"{seed}|{annotator}|{a}|{b}") % 2 == 0


def choose(
    choosing: Choosing,
    pool: Pool,
    asked: Asked,
    annotator: str,
    shared: list[tuple[int, int | None]],
) -> Question | None:
    """Choose the next question for an annotator.

    Args:
        choosing: How.
        pool: What can be asked about.
        asked: What this annotator was asked.
        annotator: Name.
        shared: Questions put to others that this annotator should get, too.

    Returns:
        The question, none where everything was asked or the target is reached.
    """
    number = len(asked.a)
    key = _hash(f"{choosing.seed}|{annotator}|{choosing.kind}|{choosing.scale}|{number}")
    rng = np.random.default_rng(key)
    repeat, overlap = rng.random(2)
    if repeat < choosing.repeat and (question := _repetition(choosing, asked, rng)):
        return question
    if number - int(asked.repeat.sum()) >= choosing.target:
        return None
    is_shared = bool(overlap < choosing.overlap)
    if is_shared:
        known = set(pool.segment.tolist())
        for a, b in shared:
            if a in known and (b is None or b in known):
                return _question(choosing, annotator, a, b, "shared")
    found = _rating(choosing, pool, asked, rng) if choosing.kind == "rate" else None
    if choosing.kind == "pair":
        found = _pair(choosing, pool, asked, rng)
    if found is None:
        return None
    return _question(choosing, annotator, *found, "shared" if is_shared else choosing.select)


def _question(choosing: Choosing, annotator: str, a: int, b: int | None, reason: str) -> Question:
    if b is None:
        return Question("rate", a, None, True, reason, choosing.scale)
    a, b = min(a, b), max(a, b)
    return Question("pair", a, b, coin(choosing.seed, annotator, a, b), reason)


def _repetition(choosing: Choosing, asked: Asked, rng: np.random.Generator) -> Question | None:
    """A question answered some time ago and not repeated yet, with its sides swapped."""
    again = set(zip(asked.a[asked.repeat].tolist(), asked.b[asked.repeat].tolist(), strict=True))
    early = np.arange(len(asked.a)) < len(asked.a) - REPEAT_AFTER
    places = [
        place
        for place in np.flatnonzero(early & asked.answered & ~asked.repeat).tolist()
        if (int(asked.a[place]), int(asked.b[place])) not in again
    ]
    if not places:
        return None
    place = places[int(rng.integers(len(places)))]
    a, b = int(asked.a[place]), int(asked.b[place])
    if choosing.kind == "rate":
        return Question("rate", a, None, True, "repeat", choosing.scale)
    return Question("pair", a, b, not asked.left_is_a[place], "repeat")


def _rating(
    choosing: Choosing, pool: Pool, asked: Asked, rng: np.random.Generator
) -> tuple[int, None] | None:
    rest = np.flatnonzero(~np.isin(pool.segment, asked.a))
    if not len(rest):
        return None
    if choosing.select == "balanced":  # as many of each window as of any other
        groups = pool.groups("window")
        done = np.bincount(groups[np.isin(pool.segment, asked.a)], minlength=groups.max() + 1)
        rest = rest[done[groups[rest]] == done[groups[rest]].min()]
    if choosing.select == "active":
        spread = _scores(pool)[rest].std(axis=1)
        return int(pool.segment[rest[int(np.argmax(spread))]]), None
    return int(pool.segment[rest[int(rng.integers(len(rest)))]]), None


def _pair(
    choosing: Choosing, pool: Pool, asked: Asked, rng: np.random.Generator
) -> tuple[int, int] | None:
    groups = pool.groups(choosing.pair_scope)
    if choosing.select == "insertion":
        place = _insertion(choosing, pool, asked, groups)
    else:
        graph = _Graph(groups, *_positions(pool, asked))
        if choosing.select == "active":
            place = _active(graph, _scores(pool), rng)
        else:
            place = graph.draw(rng, least=choosing.select == "balanced")
    return None if place is None else (int(pool.segment[place[0]]), int(pool.segment[place[1]]))


def _positions(pool: Pool, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the pool of both segments of every pair asked, repetitions left out."""
    keep = ~asked.repeat & np.isin(asked.a, pool.segment) & np.isin(asked.b, pool.segment)
    return np.searchsorted(pool.segment, asked.a[keep]), np.searchsorted(
        pool.segment, asked.b[keep]
    )


class _Graph:
    """Segments as nodes and the pairs asked as edges."""

    def __init__(self, groups: np.ndarray, a: np.ndarray, b: np.ndarray):
        count = len(groups)
        self._groups, self._a, self._b = groups, a, b
        self._degree = np.bincount(a, minlength=count) + np.bincount(b, minlength=count)
        inside = groups[a] == groups[b]  # pairs of another scope take away no partner
        used = np.bincount(a[inside], minlength=count) + np.bincount(b[inside], minlength=count)
        self.partners_left = np.bincount(groups)[groups] - 1 - used

    def draw(self, rng: np.random.Generator, least: bool) -> tuple[int, int] | None:
        """Draw an unasked pair: uniformly, or of the segments least asked about."""
        free = np.flatnonzero(self.partners_left > 0)
        if not len(free):
            return None
        if least:
            free = free[self._degree[free] == self._degree[free].min()]
            first = int(rng.choice(free))
        else:
            share = self.partners_left[free] / self.partners_left[free].sum()
            first = int(rng.choice(free, p=share))
        taken = np.concatenate([self._b[self._a == first], self._a[self._b == first], [first]])
        partner = self._groups == self._groups[first]
        partner[taken] = False
        others = np.flatnonzero(partner)
        if least:
            others = others[self._degree[others] == self._degree[others].min()]
        return first, int(rng.choice(others))


def _active(graph: _Graph, scores: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Of some unasked pairs the one on whose winner the heads disagree most."""
    draws = [graph.draw(rng, least=False) for _ in range(ACTIVE_DRAWS)]
    places = np.array([place for place in draws if place is not None], dtype=int)
    if not len(places):
        return None
    difference = np.clip(scores[places[:, 1]] - scores[places[:, 0]], -50, 50)
    spread = (1 / (1 + np.exp(-difference))).std(axis=1)
    first, second = places[int(np.argmax(spread))]
    return int(first), int(second)


def _scores(pool: Pool) -> np.ndarray:
    if pool.scores is None:
        raise LabellingError("--select active needs --scores FILE with the scores of an ensemble")
    return pool.scores


def _insertion(
    choosing: Choosing, pool: Pool, asked: Asked, groups: np.ndarray
) -> tuple[int, int] | None:
    """The comparison that a binary insertion needs next, in a window without an open one."""
    known: dict[tuple[int, int], float] = {}
    busy: set[int] = set()
    for a, b, is_open, preference in zip(
        *_positions(pool, asked), *_kept(pool, asked, "open", "preference"), strict=True
    ):
        if is_open:
            busy.add(int(groups[a]))
        else:  # a skip places the segment beside the other, as a tie does
            known[int(a), int(b)] = float(preference)
    order = np.argsort([_hash(f"{choosing.seed}|{s}") for s in pool.segment.tolist()])
    for group in range(int(groups.max()) + 1 if len(groups) else 0):
        if group in busy:
            continue
        needed = _next_comparison(order[groups[order] == group].tolist(), known)
        if needed is not None:
            return needed
    return None


def _kept(pool: Pool, asked: Asked, *names: str) -> list[np.ndarray]:
    keep = ~asked.repeat & np.isin(asked.a, pool.segment) & np.isin(asked.b, pool.segment)
    return [getattr(asked, name)[keep] for name in names]


def _next_comparison(
    places: list[int], known: dict[tuple[int, int], float]
) -> tuple[int, int] | None:
    ranking: list[int] = []
    for new in places:
        low, high = 0, len(ranking)
        while low < high:
            middle = (low + high) // 2
            pair = min(new, ranking[middle]), max(new, ranking[middle])
            if pair not in known:
                return pair
            # Positions ascend with segment numbers, so the second of the pair is ``b``.
            wins = known[pair] if new == pair[1] else 1 - known[pair]
            if wins == 0.5:
                low = high = middle
            elif wins > 0.5:
                low = middle + 1
            else:
                high = middle
        ranking.insert(low, new)
    return None


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
