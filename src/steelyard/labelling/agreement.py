"""How far the judgements of a data set can be trusted, in numbers that fit on one page."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from steelyard.labelling.records import Judgement, Kind
from steelyard.numerics.agreement import (
    TOO_FEW,
    bootstrap_interval,
    cohen_kappa,
    cyclic_triads,
    krippendorff_alpha,
    raw_agreement,
    wilson_interval,
)

Item = tuple[int, int | None]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number about agreement.

    Attributes:
        name: What it is.
        value: The number; none where too few items speak about it.
        low: Lower end of its 95 % interval, none where there is none.
        high: Upper end.
        n: Items it rests on.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int

    def __str__(self):
        if self.value is None:
            return f"{self.name}: too few ({self.n} of {TOO_FEW})"
        ends = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.name}: {self.value:.3f}{ends}, n = {self.n}"


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Figures between annotators, and of each annotator alone.

    Attributes:
        kind: Ratings or pairs.
        answers: Standing answers of each annotator.
        between: Raw agreement, Cohen's κ of each two, Krippendorff's α of all.
        alone: By annotator: self-consistency, share of left, share of cyclic triads.
    """

    kind: Kind
    answers: dict[str, int]
    between: tuple[Figure, ...]
    alone: dict[str, tuple[Figure, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self) | {"too_few": TOO_FEW}

    def __str__(self):
        lines = [f"answers ({self.kind}): " + _listed(self.answers)]
        lines += [f"  {figure}" for figure in self.between]
        for name, figures in self.alone.items():
            lines += [f"{name} alone:", *(f"  {figure}" for figure in figures)]
        return "\n".join(lines)


def agreement(events: Sequence[Judgement], kind: Kind, scale: int) -> Agreement:
    """Compute the figures from the log of all annotators.

    Ties of both kinds are one answer, and slight and strong preferences are the same one. What was
    taken back or skipped does not count.

    Args:
        events: The log; other kinds and scales are left out.
        kind: Ratings or pairs.
        scale: Highest rating; 0 for pairs.
    """
    events = [e for e in events if e.counts and e.task.question.kind == kind]
    events = [e for e in events if e.task.question.scale == scale]
    names = sorted({event.task.annotator for event in events})
    first: dict[str, dict[Item, float]] = {name: {} for name in names}
    again: dict[str, dict[Item, float]] = {name: {} for name in names}
    for event in events:
        question = event.task.question
        table = again if question.reason == "repeat" else first
        table[event.task.annotator][question.a, question.b] = _category(event)
    alone = {}
    for name in names:
        own = [event for event in events if event.task.annotator == name]
        figures = [_repeats(first[name], again[name])]
        if kind == "pair":
            figures += [_left(own), _circles(first[name])]
        alone[name] = tuple(figures)
    counts = {name: len(first[name]) + len(again[name]) for name in names}
    return Agreement(kind, counts, _between(first, kind), alone)


def _category(event: Judgement) -> float:
    preference = event.preference
    return float(event.rating or 0) if preference is None else 2 * preference


def _table(first: dict[str, dict[Item, float]], names: Sequence[str]) -> np.ndarray:
    """Answers to the items that at least two of the annotators gave."""
    counts = collections.Counter(item for name in names for item in first[name])
    shared = [item for item, count in counts.items() if count > 1]
    rows = [[first[name].get(item, math.nan) for item in shared] for name in names]
    return np.array(rows, dtype=np.float64).reshape(len(names), len(shared))


def _between(first: dict[str, dict[Item, float]], kind: Kind) -> tuple[Figure, ...]:
    names = list(first)
    if len(names) < 2:
        return ()
    answers = _table(first, names)
    metric = "nominal" if kind == "pair" else "ordinal"
    figures = [
        _estimate("raw agreement", answers, raw_agreement),
        _estimate(f"Krippendorff's α, {metric}", answers, lambda x: krippendorff_alpha(x, metric)),
    ]
    for one, two in itertools.combinations(names, 2):
        table = _table(first, [one, two])
        figures.append(_estimate(f"Cohen's κ, {one} and {two}", table, _kappa))
    return tuple(figures)


def _kappa(answers: np.ndarray) -> float:
    return cohen_kappa(answers[0].astype(int), answers[1].astype(int))


def _estimate(name: str, answers: np.ndarray, statistic: Callable) -> Figure:
    n = answers.shape[1]
    if n < TOO_FEW:
        return Figure(name, None, None, None, n)
    value = statistic(answers)
    if math.isnan(value):  # all gave the same answer to everything: chance cannot be corrected
        return Figure(f"{name} (undefined: all answers are the same)", None, None, None, n)
    return Figure(name, value, *bootstrap_interval(answers, statistic), n)


def _repeats(first: dict[Item, float], again: dict[Item, float]) -> Figure:
    both = [(first[item], value) for item, value in again.items() if item in first]
    same = sum(one == two for one, two in both)
    return _share("self-consistency on repeats", same, len(both))


def _left(events: Sequence[Judgement]) -> Figure:
    sides = [e.answer.answer for e in events if e.answer.answer in ("left", "right")]
    return _share("share of left (0.5 without a side habit)", sides.count("left"), len(sides))


def _circles(first: dict[Item, float]) -> Figure:
    strict = [(a, b, value) for (a, b), value in first.items() if b is not None and value != 1]
    winners = np.array([b if value == 2 else a for a, b, value in strict], dtype=np.int64)
    losers = np.array([a if value == 2 else b for a, b, value in strict], dtype=np.int64)
    cyclic, complete = cyclic_triads(winners, losers)
    return _share("share of cyclic triads (0.25 by coin)", cyclic, complete)


def _share(name: str, part: int, total: int) -> Figure:
    if total < TOO_FEW:
        return Figure(name, None, None, None, total)
    return Figure(name, part / total, *wilson_interval(part, total), total)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none yet"
