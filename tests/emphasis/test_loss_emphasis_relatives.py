"""Relatives of the tail: values by hand, optimality, and what they tend to."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_emphasis_arms import near
from scipy.optimize import minimize

from steelyard.emphasis import (
    ChiSquare,
    MeanTail,
    SmoothTail,
    Softmax,
    Tail,
    Tilted,
    length_base,
    make_weighting,
)

SCORES = jnp.asarray(np.random.default_rng(0).lognormal(size=9), jnp.float32)


@eqx.filter_jit
def compiled(weighting, *arguments):
    return weighting.ratio(*arguments)


def ratio_of(weighting, *arguments):
    return compiled(jax.tree.map(jnp.asarray, weighting), *arguments)


def test_mean_tail_mixes_the_weights():
    ratio = ratio_of(MeanTail(0.25, 0.4), jnp.array([4.0, 1, 3, 2]))
    near(ratio, [0.4 + 0.6 * 4, 0.4, 0.4, 0.4])


def test_tilted_is_a_softmax_in_units_of_the_spread():
    scores = jnp.array([-1.0, 1.0])
    near(ratio_of(Tilted(1.0), scores), 2 * np.array([1, np.e**2]) / (1 + np.e**2))
    spread = float(np.std(np.asarray(SCORES)))
    near(ratio_of(Tilted(2.0), SCORES), Softmax(temperature=spread / 2).ratio(SCORES), 1e-4)


def test_the_tilted_weights_are_the_gradient_of_the_tilted_risk():
    tilt = 0.7 / float(jnp.std(SCORES))
    risk = jax.grad(lambda s: jax.nn.logsumexp(tilt * s) / tilt)(SCORES)
    near(Tilted(0.7)(SCORES), risk, 1e-5)


def test_chi_square_of_two_items_by_hand():
    # r = 1 ± d with ⟨(r − 1)²⟩ = d² = radius.
    near(ratio_of(ChiSquare(0.25), jnp.array([3.0, 7.0])), [0.5, 1.5])


def test_chi_square_is_mean_plus_spread_where_nothing_is_cut():
    base = length_base(jnp.array([4, 1, 2, 3, 3, 1, 1, 2, 5]))
    mean = jnp.sum(base * SCORES)
    spread = jnp.sqrt(jnp.sum(base * (SCORES - mean) ** 2))
    ratio = ratio_of(ChiSquare(0.04), SCORES, None, base)
    near(ratio, 1 + 0.2 * (SCORES - mean) / spread, 1e-4)
    near(jnp.sum(base * ratio * SCORES), mean + 0.2 * spread, 1e-4)


@pytest.mark.parametrize("radius", [0.1, 1.0, 5.0])
def test_chi_square_spends_its_radius(radius):
    ratio = ratio_of(ChiSquare(radius), SCORES)
    near(jnp.mean((ratio - 1) ** 2), radius, 1e-4 * (1 + radius))
    near(jnp.sum(ratio) ** 2 / jnp.sum(ratio**2) / 9, 1 / (1 + radius), 1e-4)


def test_a_ball_beyond_the_simplex_leaves_the_worst_alone():
    near(ratio_of(ChiSquare(50.0), jnp.array([2.0, 2, 1, 0])), [2, 2, 0, 0])


def solve(objective, cap, ball=None):
    """The maximiser over the capped simplex by a general solver, for comparison."""
    constraints = [{"type": "eq", "fun": lambda r: r.mean() - 1}]
    if ball is not None:
        constraints.append({"type": "ineq", "fun": lambda r: ball - np.mean((r - 1) ** 2)})
    found = minimize(
        lambda r: -objective(r),
        np.ones(9),
        bounds=9 * [(1e-9, cap)],
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found.success, found.message
    return found.x


def test_chi_square_is_the_worst_case_of_its_ball():
    scores = np.asarray(SCORES, np.float64)
    best = solve(lambda r: np.mean(r * scores), 9.0, ball=1.0)
    near(ratio_of(ChiSquare(1.0), SCORES), best, 2e-3)


def test_smooth_tail_is_the_maximiser_with_an_entropy_penalty():
    scores = np.asarray(SCORES, np.float64)
    penalty = 0.5 * scores.std()
    best = solve(lambda r: np.mean(r * scores) - penalty * np.mean(r * np.log(r)), 1 / 0.3)
    near(ratio_of(SmoothTail(0.3, 0.5), SCORES), best, 2e-3)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.95])
def test_smooth_tail_tends_to_the_tail_and_to_the_mean(alpha):
    near(ratio_of(SmoothTail(alpha, 1e-4), SCORES), ratio_of(Tail(alpha), SCORES), 1e-4)
    near(ratio_of(SmoothTail(alpha, 1e4), SCORES), np.ones(9), 1e-3)
    between = ratio_of(SmoothTail(alpha, 0.3), SCORES)
    assert float(between.max()) <= 1 / alpha * (1 + 1e-5)
    assert float(between.min()) > 0


@pytest.mark.parametrize("weighting", [Tilted(1.0), ChiSquare(1.0), SmoothTail(0.3), MeanTail(0.3)])
def test_the_unit_of_the_losses_changes_nothing(weighting):
    # A shift and a factor leave the weights alone, so one setting serves a whole run.
    near(ratio_of(weighting, 1e-3 * SCORES), ratio_of(weighting, SCORES), 1e-4)
    near(ratio_of(weighting, 5.0 + SCORES), ratio_of(weighting, SCORES), 1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mean_tail", {"alpha": 0.0}, r"MeanTail.alpha must be in \(0, 1\], got 0"),
        ("mean_tail", {"alpha": 0.5, "floor": 2}, r"MeanTail.floor must be in \[0, 1\], got 2"),
        ("smooth_tail", {"alpha": 1.2}, r"SmoothTail.alpha must be in \(0, 1\], got 1.2"),
        ("smooth_tail", {"alpha": 0.5, "smoothing": 0}, "SmoothTail.smoothing must be in"),
        ("tilted", {"tilt": -1}, "Tilted.tilt must be in"),
        ("chi_square", {"radius": float("nan")}, "ChiSquare.radius must be in"),
    ],
)
def test_a_wrong_option_gets_one_clear_error(name, options, words):
    with pytest.raises(ValueError, match=words):
        make_weighting(name, **options)
