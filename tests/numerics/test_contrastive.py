"""Contrastive likelihoods, scores and losses: by hand, laws, and where the reference is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.numerics.contrastive import (
    clipped_gaussian,
    davidson,
    effective_alpha,
    preference_loss,
    segment_score,
    squared_error,
    tanh_gaussian,
)
from steelyard.numerics.gaussian import log_tanh_slope

LN2 = float(np.log(2.0))


def loss(winner, loser, label=1.0, lambda_=1.0):
    return float(preference_loss(jnp.float32(winner), jnp.float32(loser), label, lambda_))


@pytest.mark.parametrize(
    ("label", "lambda_", "expected"),
    [
        (1.0, 1.0, 0.3133),
        (1.0, 0.75, 0.9741),
        (1.0, 0.5, 2.1269),
        (1.0, 0.25, 3.5298),
        (0.5, 1.0, 0.8133),
        (0.5, 0.5, 2.8283),
        (0.8, 0.5, 2.4075),
    ],
)
def test_loss_by_hand(label, lambda_, expected):
    assert loss(-5.0, -6.0, label, lambda_) == pytest.approx(expected, abs=5e-5)


def test_equal_scores_lose_ln2_without_bias_and_more_with_it():
    assert loss(-5.0, -5.0) == pytest.approx(LN2, abs=1e-6)
    assert loss(-5.0, -5.0, lambda_=0.5) == pytest.approx(2.5789, abs=5e-5)


def test_swapping_a_pair_and_its_label_changes_nothing():
    for label in (1.0, 0.8, 0.5):
        assert loss(-1.0, -3.0, label, 0.7) == pytest.approx(loss(-3.0, -1.0, 1 - label, 0.7))


def test_a_common_shift_matters_only_with_bias():
    assert loss(-5.0, -6.0) == pytest.approx(loss(-1.0, -2.0), abs=1e-6)
    shifted = loss(-5.0 + 4.0, -6.0 + 4.0, lambda_=0.5)
    logit = (-5.0 + 0.5 * 6.0) + 0.5 * 4.0
    assert shifted == pytest.approx(np.log1p(np.exp(-logit)), abs=1e-5)


def test_extreme_scores_stay_finite_in_value_and_gradient():
    for winner, loser in ((800.0, -800.0), (-800.0, 800.0)):
        value, grad = jax.value_and_grad(lambda s, t=loser: preference_loss(s, jnp.float32(t)))(
            jnp.float32(winner)
        )
        assert np.isfinite(value)
        assert np.isfinite(grad)


def test_the_plain_form_is_the_formula_of_the_reference_in_float64():
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        likelihood = random.normal(size=(2, 40, 100))
        valid = np.ones((40, 100), bool)
        first, second = (
            segment_score(jnp.asarray(x), jnp.asarray(valid), 0.1, 0.99, 39, "sum")
            for x in likelihood
        )
        ours = np.asarray(preference_loss(first, second))
    scores = 0.1 * (likelihood * 0.99 ** np.arange(100)).sum(-1)
    theirs = -np.log(np.exp(scores[0]) / (np.exp(scores[0]) + np.exp(scores[1])))
    np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_temperature_is_the_papers_at_its_length_and_does_not_grow_with_others():
    def alpha(steps, size, gamma=1.0, scale="normalised"):
        return float(effective_alpha(0.1, jnp.ones((steps,), bool), gamma, size, scale))

    assert alpha(64, 4) == pytest.approx(0.1, rel=1e-6)
    assert alpha(100, 39) == pytest.approx(0.006564, abs=5e-7)
    assert alpha(100, 39, 0.99) == pytest.approx(0.010354, abs=5e-7)
    assert alpha(100, 39, scale="sum") == pytest.approx(0.1)


def test_what_stands_in_masked_steps_is_ignored_bit_for_bit():
    likelihood = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
    short = segment_score(likelihood[:4], jnp.ones(4, bool), 0.1, 0.9, 2)
    valid = jnp.arange(6) < 4
    for filler in (0.0, 1e30, jnp.nan):
        padded = segment_score(jnp.where(valid, likelihood, filler), valid, 0.1, 0.9, 2)
        assert float(padded) == float(short)


def test_discount_by_hand():
    score = segment_score(jnp.array([-1.0, -2.0]), jnp.ones(2, bool), 0.1, 0.5, 4, "sum")
    assert float(score) == pytest.approx(0.1 * (-1.0 - 0.5 * 2.0))


@pytest.mark.parametrize(("action", "expected"), [(0.85, 1.2586), (1.0, -1.8410), (-1.0, -184.37)])
def test_clipped_gaussian_by_hand(action, expected):
    value = clipped_gaussian(jnp.array([0.9]), jnp.array([action]), jnp.float32(0.1))
    assert float(value) == pytest.approx(expected, rel=1e-4)


def test_clipped_gaussian_is_the_law_of_a_clipped_draw():
    grid = np.linspace(-1, 1, 20_001)[1:-1].astype(np.float32)
    mode, std = jnp.array([0.3]), jnp.float32(0.4)
    inside = np.exp(
        np.asarray(clipped_gaussian(jnp.full((len(grid), 1), 0.3), jnp.asarray(grid)[:, None], std))
    )
    ends = [float(jnp.exp(clipped_gaussian(mode, jnp.array([a]), std))) for a in (-1.0, 1.0)]
    assert np.trapezoid(inside, grid) + sum(ends) == pytest.approx(1.0, abs=1e-3)
    drawn = np.clip(0.3 + 0.4 * np.random.default_rng(0).standard_normal(100_000), -1, 1)
    assert np.mean(drawn == 1.0) == pytest.approx(ends[1], abs=0.005)


def test_squash_is_stable_where_the_naive_form_is_not():
    assert float(log_tanh_slope(jnp.float32(9.0))) == pytest.approx(-16.6137, abs=1e-4)
    naive = float(jnp.log(1.0 - jnp.tanh(jnp.float32(9.0)) ** 2))
    assert abs(naive + 16.6137) > 0.1


LIKELIHOODS = {
    "squared_error": lambda m, a: squared_error(jnp.tanh(m), a),
    "clipped_gaussian": lambda m, a: clipped_gaussian(jnp.tanh(m), a, jnp.float32(0.3)),
    "tanh_gaussian": lambda m, a: tanh_gaussian(m, jnp.full(m.shape, -1.0), a),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_actions_at_the_bounds_have_finite_values_and_gradients(name):
    action = jnp.where(jnp.arange(100 * 39).reshape(100, 39) % 2, 1.0, -1.0)
    mean = jnp.asarray(np.random.default_rng(0).normal(size=(100, 39)), jnp.float32)

    def total(m):
        return jnp.sum(LIKELIHOODS[name](m, action))

    value, grad = jax.value_and_grad(total)(mean)
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(grad)).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_far_actions_still_pull(name):
    """Clipping a step's log-probability to ±10 would take the gradient away there."""
    mean, action = jnp.full(39, 1.0), jnp.full(39, -0.99)
    grad = np.asarray(jax.grad(lambda m: LIKELIHOODS[name](m, action))(mean))
    assert (np.abs(grad) > 1e-3).all()
    clipped = jax.grad(lambda m: jnp.clip(LIKELIHOODS["tanh_gaussian"](m, action), -10, 10))(mean)
    assert not np.asarray(clipped).any()


def test_davidson_by_hand_and_by_draws():
    for tie, expected in ((0.5, (0.5984, 0.2201, 0.1815)), (1.0, (0.5065, 0.1863, 0.3072))):
        found = [float(p) for p in davidson(jnp.float32(1.0), tie)]
        assert found == pytest.approx(expected, abs=5e-5)
    assert [float(p) for p in davidson(jnp.float32(1e4), 0.5)] == [1.0, 0.0, 0.0]


def standardised_loss(likelihood, winner, loser):
    """The reference's form: discounted values, standardised inside a segment, then summed."""
    weighted = 0.1 * likelihood * 0.99 ** jnp.arange(likelihood.shape[1])[None]
    mean = jnp.mean(weighted, axis=1, keepdims=True)
    scores = jnp.sum((weighted - mean) / (jnp.std(weighted, axis=1, keepdims=True) + 1e-8), axis=1)
    return jnp.mean(jax.nn.softplus(-(scores[winner] - scores[loser])))


def test_the_standardised_form_cannot_learn_and_ours_can():
    """On separable data the reference's loss stays at ln 2, its gradient at 0."""
    random = np.random.default_rng(0)
    observation = jnp.asarray(random.normal(size=(20, 30, 3)), jnp.float32)
    good = jnp.arange(20) < 10
    action = jnp.where(good[:, None, None], 0.8, -0.8) * jnp.ones((20, 30, 2))
    action = action + 0.1 * jnp.asarray(random.normal(size=(20, 30, 2)), jnp.float32)
    winner, loser = jnp.arange(10), jnp.arange(10, 20)
    valid = jnp.ones((20, 30), bool)

    def likelihood(weights):
        return squared_error(jnp.tanh(observation @ weights[:3] + weights[None, None, 3]), action)

    def ours(weights):
        scores = segment_score(likelihood(weights), valid, 0.1, 1.0, 2)
        return jnp.mean(preference_loss(scores[winner], scores[loser]))

    def theirs(weights):
        return standardised_loss(likelihood(weights), winner, loser)

    start = jnp.zeros((4, 2))

    def descended(function):
        weights = start
        for _ in range(50):
            weights = weights - 0.05 * jax.grad(function)(weights)
        return float(function(weights))

    assert float(ours(start)) == pytest.approx(LN2, abs=0.1)
    assert descended(ours) < 0.5
    assert float(theirs(start)) == pytest.approx(LN2, abs=1e-4)
    assert float(jnp.max(jnp.abs(jax.grad(theirs)(start)))) < 1e-4
    assert descended(theirs) == pytest.approx(LN2, abs=1e-4)
