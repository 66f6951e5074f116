"""Statistics of a few runs: means, paired differences and scores, each with its uncertainty.

The unit of replication is the **run** (one seed): all that a run measured is averaged to one number
first, because the start states of one run share its policy and are no independent evidence.
Intervals are percentile-bootstrap intervals at 95 %, as in rliable (Agarwal et al. 2021,
arXiv:2108.13264): runs are drawn with replacement, within each stratum (task) where there are
several.

Few runs make percentile intervals too narrow. For normal data the nominal 95 % cover the true mean
in 83 % of cases at 5 runs, 90 % at 10 and 93 % at 20; reports say so.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

LEVEL = 0.95
RESAMPLES = 10_000
LEAST_PAIRS_FOR_TEST = 6
MOST_PAIRS_ENUMERATED = 20
SEPARATION = 5.0

Runs = Float[np.ndarray, "run"]
OtherRuns = Float[np.ndarray, "other_run"]
Strata = Int[np.ndarray, "run"]
Statistic = Callable[[Float[np.ndarray, "draw run"]], Float[np.ndarray, "draw"]]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval.

    Attributes:
        value: The estimate on the runs themselves.
        low: Lower end of the interval; None where one run allows no interval.
        high: Upper end of the interval; None where one run allows no interval.
        n: Number of runs (or pairs of runs) behind it.
    """

    value: float
    low: float | None
    high: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """A mean paired difference, with the exact sign-flip test where pairs suffice for one.

    Attributes:
        estimate: Mean of ``x - y`` over the pairs and its interval.
        p_value: Two-sided; None below 6 pairs, where no outcome could reach 0.05.
        least_p: The smallest p that this number of pairs could ever give.
    """

    estimate: Estimate
    p_value: float | None
    least_p: float


@dataclasses.dataclass(frozen=True)
class Anchor:
    """The mean return of a reference policy and the standard error of that mean."""

    mean: float
    standard_error: float


def mean(values: Float[np.ndarray, "draw run"]) -> Float[np.ndarray, "draw"]:
    """Average over runs, one number a draw."""
    return values.mean(axis=-1)


def interquartile_mean(values: Float[np.ndarray, "draw run"]) -> Float[np.ndarray, "draw"]:
    """Average the middle half: the lowest and highest ``floor(run / 4)`` values are left out.

    Robust against single failed runs, hence blind to them: for tails report the tail itself.
    The definition is rliable's (``scipy.stats.trim_mean(x, 0.25)``).
    """
    runs = values.shape[-1]
    cut = runs // 4
    return np.sort(values, axis=-1)[:, cut : runs - cut].mean(axis=-1)


def bootstrap(
    values: Runs,
    rng: np.random.Generator,
    statistic: Statistic = mean,
    strata: Strata | None = None,
) -> Estimate:
    """Estimate a statistic over runs with its 95 % percentile-bootstrap interval.

    Args:
        values: One finite number a run.
        rng: Source of the resampling; the same state gives the same interval.
        statistic: Row-wise statistic, e.g. ``mean`` or ``interquartile_mean``.
        strata: Stratum (task) of each run; draws keep the size of every stratum.

    Returns:
        The estimate; without interval where no stratum has two runs.

    Raises:
        ValueError: If there is no value or one is not finite.
    """
    _require_finite(values, "values")
    value = float(statistic(values[None])[0])
    groups = [np.arange(len(values))]
    if strata is not None:
        groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    if max(map(len, groups)) < 2:
        return Estimate(value, None, None, len(values))
    rows = [group[rng.integers(len(group), size=(RESAMPLES, len(group)))] for group in groups]
    return _interval(value, statistic(values[np.concatenate(rows, axis=1)]), len(values))


def bootstrap_band(
    curves: Float[np.ndarray, "run point"], rng: np.random.Generator
) -> Float[np.ndarray, "2 point"]:
    """Return lower and upper ends of the 95 % interval of the mean curve, point by point.

    Whole runs are resampled, so that neighbouring points stay together. Needs at least two runs.
    """
    if len(curves) < 2:
        raise ValueError(f"a band needs at least 2 runs, got {len(curves)}")
    draws = _weights(len(curves), rng) @ curves
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def match_by_seed(x: Mapping[int, float], y: Mapping[int, float]) -> tuple[list[int], Runs, Runs]:
    """Return the seeds that both have, in order, and the values of each at those seeds."""
    seeds = sorted(x.keys() & y.keys())
    x_values, y_values = [x[seed] for seed in seeds], [y[seed] for seed in seeds]
    return seeds, np.array(x_values, float), np.array(y_values, float)


def paired_difference(x: Runs, y: OtherRuns, rng: np.random.Generator) -> PairedDifference:
    """Compare two arms on the same seeds: ``mean_i (x_i - y_i)``.

    Args:
        x: The method, one value a seed.
        y: The baseline, in the same order of seeds.
        rng: Source of the resampling.

    Raises:
        ValueError: If the lengths differ, there is no pair, or a value is not finite.
    """
    if len(x) != len(y):
        raise ValueError(f"paired values need equal lengths, got {len(x)} and {len(y)}")
    differences = x - y
    estimate = bootstrap(differences, rng)
    tested = estimate.n >= LEAST_PAIRS_FOR_TEST
    p_value = sign_flip_p_value(differences, rng) if tested else None
    return PairedDifference(estimate, p_value, least_p_value(estimate.n))


def unpaired_difference(x: Runs, y: OtherRuns, rng: np.random.Generator) -> Estimate:
    """Compare two arms without common seeds: difference of means, each side resampled by itself.

    ``n`` is the smaller number of runs; there is no interval unless both sides have two.
    """
    _require_finite(x, "x")
    _require_finite(y, "y")
    value = float(x.mean() - y.mean())
    least = min(len(x), len(y))
    if least < 2:
        return Estimate(value, None, None, least)
    draws = _weights(len(x), rng) @ x - _weights(len(y), rng) @ y
    return _interval(value, draws, least)


def sign_flip_p_value(differences: Runs, rng: np.random.Generator) -> float:
    """Test whether paired differences are symmetric about 0, two-sided.

    Under that hypothesis each difference could as well have had the other sign. The p-value is the
    share of the ``2^n`` sign patterns whose mean is at least as far from 0 as the one observed:
    exact up to 20 pairs, by 100,000 random patterns beyond.
    """
    _require_finite(differences, "differences")
    observed = abs(differences.sum())
    # Sums of the same numbers in another order differ by rounding: equal patterns count as equal.
    least = observed - 1e-9 * np.abs(differences).sum()
    if len(differences) > MOST_PAIRS_ENUMERATED:
        signs = rng.integers(0, 2, size=(100_000, len(differences))) * 2.0 - 1.0
        return float((1 + np.sum(np.abs(signs @ differences) >= least)) / 100_001)
    sums = differences[
        :1
    ]  # a pattern and its mirror image are equally far from 0: one sign is free
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    return float(np.mean(np.abs(sums) >= least))


def least_p_value(pairs: int) -> float:
    """Return the smallest p a two-sided sign-flip test can give, ``2 / 2^pairs``."""
    return min(1.0, 2.0 * 0.5**pairs)


def probability_of_improvement(x: Runs, y: OtherRuns, rng: np.random.Generator) -> Estimate:
    """Estimate how likely a run of ``x`` beats a run of ``y``: ``P(X > Y) + P(X = Y) / 2``.

    All pairs of runs count and both sides are resampled by themselves (Agarwal et al. 2021, section
    4.3, one task). Where every ``x`` beats every ``y`` no resample can say otherwise, so that the
    interval is the single point 1, however few the runs.
    """
    _require_finite(x, "x")
    _require_finite(y, "y")
    wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    value, least = float(wins.mean()), min(len(x), len(y))
    if least < 2:
        return Estimate(value, None, None, least)
    draws = np.sum((_weights(len(x), rng) @ wins) * _weights(len(y), rng), axis=1)
    return _interval(value, np.clip(draws, 0.0, 1.0), least)


def anchor(returns: Float[np.ndarray, "episode"]) -> Anchor:
    """Summarise the episode returns of a reference policy; needs at least two episodes."""
    _require_finite(returns, "returns")
    if len(returns) < 2:
        raise ValueError(f"a standard error needs at least 2 episodes, got {len(returns)}")
    return Anchor(float(returns.mean()), float(returns.std(ddof=1) / math.sqrt(len(returns))))


def normalised_score(value: float, random: Anchor, expert: Anchor) -> float:
    """Place a return between the random policy (0) and the expert (1).

    ``score = (R - R_random) / (R_expert - R_random)``: invariant under ``R -> aR + b``, ``a > 0``;
    above 1 where the expert is surpassed, below 0 where the random policy is not reached.

    Args:
        value: Mean return to score, over the same start states as the expert's.
        random: Return of uniform actions.
        expert: Return of the expert.

    Raises:
        ValueError: If the expert does not surpass the random policy by 5 standard errors of the
            difference, since the score would then divide by noise.
    """
    span = expert.mean - random.mean
    error = math.hypot(random.standard_error, expert.standard_error)
    if not span > 0 or span < SEPARATION * error:
        raise ValueError(
            f"a score needs an expert that beats the random policy by {SEPARATION:g} standard "
            f"errors: expert {expert.mean:.6g} ± {expert.standard_error:.3g}, "
            f"random {random.mean:.6g} ± {random.standard_error:.3g}, "
            f"difference {span:.6g} where at least {SEPARATION * error:.6g} is needed; "
            "train the expert longer or evaluate more episodes"
        )
    return (value - random.mean) / span


def _interval(value: float, draws: Float[np.ndarray, "draw"], n: int) -> Estimate:
    """Attach the central 95 % of the bootstrap draws to an estimate."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), n)


def _weights(runs: int, rng: np.random.Generator) -> Float[np.ndarray, "draw run"]:
    """Draw bootstrap resamples as the share that each run has in them."""
    return rng.multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES) / runs


def _require_finite(values: Float[np.ndarray, "run"], name: str) -> None:
    """Refuse empty and non-finite input by name and position."""
    if len(values) == 0:
        raise ValueError(f"{name} needs at least one number, got none")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{name} must be finite, got {values[bad[0]]} at position {bad[0]}")
