"""CVaR through the losses: values by hand, the linear program, the closed form of learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_emphasis_arms import near, reduce, stacked, steady
from scipy.optimize import linprog
from scipy.stats import norm

from steelyard.emphasis import Tail

TEN = np.arange(10.0, 0, -1)


@pytest.mark.parametrize(("alpha", "value"), [(0.25, 9.2), (0.2, 9.5), (1.0, 5.5), (0.05, 10.0)])
def test_the_value_is_the_rockafellar_uryasev_minimum(alpha, value):
    info = reduce(steady(Tail(alpha)), TEN)[-1]
    objective = [t + np.maximum(TEN - t, 0).sum() / (alpha * 10) for t in TEN]
    near([info.emphasised, info.rollout_cvar, min(objective)], value)
    near(info.rollout_mean, 5.5)


def test_the_minimum_of_the_first_example_is_at_eight():
    value, slope, _, info = reduce(steady(Tail(0.25)), TEN)
    near(info.weights / 10, [0.4, 0.4, 0.2] + 7 * [0])
    near(slope, info.weights / 10)
    near(value, 8 + (2 + 1) / 2.5)
    # Taking three whole items would give 9.0.
    assert float(value) > 9.1


@pytest.mark.parametrize(
    ("alpha", "losses", "weights", "value"),
    [
        (0.375, [4.0, 1, 3, 2], [2 / 3, 0, 1 / 3, 0], 11 / 3),
        (0.5, [3.0, 3, 3, 1], [1 / 3, 1 / 3, 1 / 3, 0], 3.0),
        (1.0, [3.0, 3, 3, 1], [0.25, 0.25, 0.25, 0.25], 2.5),
    ],
)
def test_the_fractional_item_and_ties_by_hand(alpha, losses, weights, value):
    got, _, _, info = reduce(steady(Tail(alpha)), losses)
    near(info.weights / 4, weights)
    near(got, value)


def test_seven_percent_of_a_hundred_are_seven_items():
    info = reduce(steady(Tail(0.07)), np.arange(100.0))[-1]
    assert float(info.k_used) == 7
    near([info.ess, info.max_weight], [7, 1 / 0.07], 1e-4)


def test_the_tail_of_a_normal_has_its_closed_form():
    edges = norm.ppf(np.linspace(0, 1, 1025))
    means = -1024 * np.diff(norm.pdf(edges))  # of each of 1024 equal shares
    for alpha, value in ((0.2, 1.400), (0.05, 2.063)):
        near(reduce(steady(Tail(alpha)), means)[-1].rollout_cvar, value, 1e-3)


def test_it_is_the_maximum_of_the_linear_program_and_no_weight_is_negative():
    rng = np.random.default_rng(0)
    for draw in range(200):
        size, alpha = int(rng.integers(1, 41)), float(rng.uniform(0.03, 1))
        losses = rng.lognormal(size=size)
        losses = np.round(losses, 1) if draw % 2 else losses  # every other draw has ties
        info = reduce(steady(Tail(alpha)), losses)[-1]
        weights = np.asarray(info.weights, np.float64) / size
        best = linprog(-losses, A_eq=np.ones((1, size)), b_eq=[1], bounds=(0, 1 / (alpha * size)))
        np.testing.assert_allclose(info.rollout_cvar, -best.fun, rtol=3e-5)
        np.testing.assert_allclose(weights.sum(), 1, atol=1e-5)
        assert (weights >= 0).all()
        assert weights.max() <= 1 / (alpha * size) * (1 + 1e-5)


def test_it_falls_with_alpha():
    losses = np.random.default_rng(1).lognormal(size=40)
    values = [float(reduce(steady(Tail(a)), losses)[0]) for a in np.linspace(0.02, 1, 40)]
    assert (np.diff(values) <= 1e-5).all()
    assert values[0] > 2 * values[-1]


def test_the_gradient_is_the_weighted_sum_of_the_items_gradients():
    rng = np.random.default_rng(2)
    x, y = jnp.asarray(rng.normal(size=(12, 3))), jnp.asarray(rng.normal(size=12))
    arm, theta = steady(Tail(0.3)), jnp.array([0.3, -0.2, 0.5])

    def item_losses(theta):
        return (x @ theta - y) ** 2

    objective = jax.jit(lambda theta: arm(item_losses(theta), None, arm.start(), 1.0)[0])
    slope = jax.jit(jax.grad(objective))(theta)
    weights = reduce(arm, item_losses(theta))[-1].weights / 12
    near(slope, weights @ jax.jit(jax.jacobian(item_losses))(theta), 1e-5)
    for axis in range(3):
        step = jnp.zeros(3).at[axis].set(1e-3)
        near(slope[axis], (objective(theta + step) - objective(theta - step)) / 2e-3, 3e-3)


def test_the_tail_of_a_batch_is_biased_low_by_the_documented_amount():
    # Lognormal, sigma 1, alpha 0.2. The objective at the true threshold is unbiased, and moves
    # with the batch: the gap to it has the bias and little of the noise.
    threshold = np.exp(norm.isf(0.2))
    truth = np.exp(0.5) * norm.cdf(1 - norm.isf(0.2)) / 0.2
    near(truth, 4.640, 1e-3)
    rng = np.random.default_rng(3)
    cvar = jax.jit(jax.vmap(lambda losses: Tail(0.2)(losses) @ losses))
    for size, bias in ((16, -0.0455), (64, -0.0112), (256, -0.0028)):
        losses = rng.lognormal(size=(160_000 // size, size)).astype(np.float32)
        unbiased = threshold + np.maximum(losses - threshold, 0).mean(1) / 0.2
        gap = np.asarray(cvar(jnp.asarray(losses))) - unbiased
        assert (gap <= 1e-4).all()
        near(gap.mean() / truth, bias, 0.0025)


def test_training_a_constant_reaches_the_closed_form_minimum_in_one_packed_program():
    # Squared loss on targets 0 (90 %) and 1 (10 %): the minimum is at min(0.1 / alpha, 0.5).
    targets = jnp.array(18 * [0.0] + 2 * [1.0])
    alphas = (1.0, 0.5, 0.25, 0.2)
    arms = stacked([steady(Tail(alpha), scale_match=True) for alpha in alphas])

    @jax.jit
    def train(arms):
        def one(arm):
            def descend(i, carry):
                c, state = carry
                slope, state = jax.grad(
                    lambda c: arm((c - targets) ** 2, None, state, 1.0)[:2], has_aux=True
                )(c)
                return c - 0.5 / (i * 0.1 + 10.0) * slope, state

            return jax.lax.fori_loop(0, 4000, descend, (jnp.float32(0.0), arm.start()))[0]

        return jax.lax.map(one, arms)

    near(train(arms), [min(0.1 / alpha, 0.5) for alpha in alphas], 3e-3)
