"""How well people agree: with each other, with themselves, and with any ranking at all.

Answers are categories numbered from 0, one row an annotator and one column an item; an item that
an annotator was not asked about is NaN. Chance-corrected values are 1 for perfect agreement and 0
for what guessing with the same habits would give.
"""

import statistics
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Answers = Float[np.ndarray, "annotator item"]
Metric = Literal["nominal", "ordinal"]

TOO_FEW = 20
"""Items that two people must share before a number about them is worth showing."""
DRAWS = 500


def raw_agreement(answers: Answers) -> float:
    """Return the share of equal answers among all pairs of answers to the same item.

    Args:
        answers: Categories, NaN where not asked.

    Returns:
        In [0, 1]; NaN where no item has two answers.
    """
    same, pairs = 0.0, 0.0
    for first in range(len(answers)):
        for second in range(first + 1, len(answers)):
            both = ~np.isnan(answers[first]) & ~np.isnan(answers[second])
            same += float((answers[first, both] == answers[second, both]).sum())
            pairs += float(both.sum())
    return same / pairs if pairs else float("nan")


def cohen_kappa(first: Int[np.ndarray, " item"], second: Int[np.ndarray, " item"]) -> float:
    """Compute Cohen's κ = (p_o − p_e) / (1 − p_e) of two annotators.

    ``p_o`` is the share of equal answers and ``p_e = Σ_c p_1(c) p_2(c)`` what independent answers
    of the same frequencies would give (Cohen 1960, *A coefficient of agreement for nominal
    scales*, equation 1).

    Args:
        first: Categories that the first annotator gave.
        second: The second's, to the same items.

    Returns:
        At most 1; NaN without items, or where both gave one and the same answer throughout.
    """
    if not len(first):
        return float("nan")
    categories = np.unique(np.concatenate([first, second]))
    shares = [(row[:, None] == categories).mean(axis=0) for row in (first, second)]
    expected = float((shares[0] * shares[1]).sum())
    observed = float((first == second).mean())
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def krippendorff_alpha(answers: Answers, metric: Metric = "nominal") -> float:
    """Compute Krippendorff's α = 1 − D_o / D_e, for any number of annotators and gaps.

    With the coincidences ``o_ck = Σ_u n_uc (n_uk − [c = k]) / (m_u − 1)`` over items ``u`` with
    ``m_u ≥ 2`` answers, ``n_c = Σ_k o_ck`` and ``n = Σ_c n_c``: ``D_o = Σ o_ck δ²_ck / n`` and
    ``D_e = Σ n_c (n_k − [c = k]) δ²_ck / (n (n − 1))``. δ² is 1 for different categories
    (nominal), or ``(Σ_{g=c..k} n_g − (n_c + n_k) / 2)²`` (ordinal). Krippendorff 2004, *Content
    Analysis*, chapter 11.

    Args:
        answers: Categories, in their order for ``"ordinal"``; NaN where not asked.
        metric: How different two categories are.

    Returns:
        At most 1; NaN where no item has two answers, or all answers are the same.
    """
    categories = np.unique(answers[~np.isnan(answers)])
    counts = (answers[:, :, None] == categories).sum(axis=0).astype(np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return float("nan")
    weights = 1 / (counts.sum(axis=1) - 1)
    coincidences = (counts * weights[:, None]).T @ counts - np.diag(weights @ counts)
    totals = coincidences.sum(axis=1)
    n = totals.sum()
    difference = _difference(totals, metric)
    observed = (coincidences * difference).sum() / n
    chance = (np.outer(totals, totals) - np.diag(totals)) / (n * (n - 1))
    expected = (chance * difference).sum()
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _difference(
    totals: Float[np.ndarray, " category"], metric: Metric
) -> Float[np.ndarray, "category category"]:
    if metric == "nominal":
        return 1 - np.eye(len(totals))
    upto = np.cumsum(totals)
    middle = upto - totals / 2  # Σ_{g≤c} n_g − n_c/2, whose differences are the ordinal distance
    return (middle[:, None] - middle) ** 2


def bootstrap_interval(
    answers: Answers,
    statistic: Callable[[Answers], float],
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Estimate a percentile interval by drawing items with replacement.

    Args:
        answers: Categories, NaN where not asked.
        statistic: What to compute of each draw; NaN draws are left out.
        draws: How many.
        level: Coverage, in (0, 1).
        seed: Of the draws.

    Returns:
        Lower and upper end; NaN without items.
    """
    items = answers.shape[1]
    if not items:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = [statistic(answers[:, rng.integers(items, size=items)]) for _ in range(draws)]
    values = [value for value in values if not np.isnan(value)]
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson_interval(successes: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval of a share (Wilson 1927).

    Args:
        successes: In [0, total].
        total: Number of trials.
        level: Coverage, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1]; NaN without trials.
    """
    if total == 0:
        return float("nan"), float("nan")
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    centre = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == total else (centre + half) / scale
    return float(low), float(high)


def cyclic_triads(winners: Int[np.ndarray, " pair"], losers: Int[np.ndarray, " pair"]) -> tuple:
    """Count triads whose strict judgements run in a circle: A over B over C over A.

    No ranking can explain a circle; answers by coin make a quarter of all triads circular
    (Kendall and Babington Smith 1940, *On the method of paired comparisons*).

    Args:
        winners: Item preferred in each strict judgement; each pair of items at most once.
        losers: The other item.

    Returns:
        Cyclic triads, and triads with all three pairs judged.
    """
    beats: dict[int, set[int]] = {}
    for winner, loser in zip(winners.tolist(), losers.tolist(), strict=True):
        beats.setdefault(winner, set()).add(loser)
        beats.setdefault(loser, set())
    near = {item: set(lost) for item, lost in beats.items()}
    for item, lost in beats.items():
        for other in lost:
            near[other].add(item)
    cyclic = complete = 0
    for first, around in near.items():
        for second in (x for x in around if x > first):
            for third in (x for x in around & near[second] if x > second):
                complete += 1
                forward = second in beats[first], third in beats[second], first in beats[third]
                cyclic += len(set(forward)) == 1
    return cyclic, complete
