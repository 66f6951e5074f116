"""Scores of on-policy items, by hand: importance, gradient norms, influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import defensive_mixture, diagnose, make_weighting, tabulate
from steelyard.emphasis.gradient_norm import last_layer_norm, predicted_gain
from steelyard.emphasis.importance import (
    Components,
    ImportanceScales,
    ImportanceWeights,
    adapted,
    importance,
    value_error,
    weights_gradient,
)
from steelyard.emphasis.influence import (
    conjugate_gradient,
    cross_fitted_influence,
    divide_by_root,
    influence,
    target_gradient,
)
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.numerics import gaussian

ADVANTAGE = jnp.array([2.0, -1.0, 0.0, 0.5])
SUCCESS = jnp.array([1.0, 0.0, 0.0, 1.0])
ALL = jnp.ones(4, bool)
PLAIN = ImportanceScales.ones()


def scored(error):
    parts = Components(jnp.abs(ADVANTAGE), error, SUCCESS)
    return importance(parts, ImportanceWeights().as_array(), PLAIN)


# -- importance ------------------------------------------------------------------------------


def test_the_references_formula_by_hand_is_its_advantage_twice():
    error = value_error("identity", ADVANTAGE, *[jnp.full(4, 9.0)] * 3)
    scores = scored(error)
    np.testing.assert_allclose(scores, [1.7, 0.7, 0.0, 0.65], rtol=1e-6)
    np.testing.assert_allclose(scores, 0.7 * jnp.abs(ADVANTAGE) + 0.3 * SUCCESS, rtol=1e-6)
    p = make_weighting("proportional")(scores)
    np.testing.assert_allclose(p, [0.5574, 0.2295, 0.0, 0.2131], atol=5e-5)
    found = diagnose(p, scores)
    assert float(found["ess"]) == pytest.approx(2.4464, abs=5e-5)
    assert float(found["perplexity"]) == pytest.approx(2.6994, abs=5e-5)


def test_a_floor_bounds_what_is_owed_by_hand():
    p = make_weighting("proportional")(scored(jnp.abs(ADVANTAGE)))
    q = defensive_mixture(p, 0.2, jnp.full(4, 0.25))
    np.testing.assert_allclose(q, [0.4959, 0.2336, 0.05, 0.2205], atol=5e-5)
    owed = tabulate(q, jnp.full(4, 0.25)).correction
    np.testing.assert_allclose(owed, [0.5041, 1.0702, 5.0, 1.1338], atol=5e-4)


def test_a_value_error_of_its_own_by_hand():
    scores = scored(jnp.array([1.0, 0.5, 0.25, 0.0]))
    np.testing.assert_allclose(scores, [1.4, 0.55, 0.075, 0.5], rtol=1e-6)
    p = make_weighting("proportional")(scores)
    assert float(diagnose(p, scores)["ess"]) == pytest.approx(2.5319, abs=5e-5)


def test_each_value_error_reads_its_own_input():
    a, m, v, d = (jnp.array([x]) for x in (-1.0, 5.0, 2.0, 0.5))
    for kind, expected in (("monte_carlo", 3.0), ("td", 0.5), ("identity", 1.0)):
        assert value_error(kind, a, m, v, d).tolist() == [expected]


def test_scales_are_root_mean_squares_over_what_counts_and_never_divide_by_zero():
    parts = Components(jnp.array([3.0, 4.0, 99.0]), jnp.zeros(3), jnp.array([1.0, 1.0, 0.0]))
    scales = ImportanceScales.of(parts, jnp.array([True, True, False]))
    assert float(scales.advantage) == pytest.approx(np.sqrt(12.5))
    assert float(scales.value_error) == 1.0
    assert float(scales.success) == 1.0


# -- gradient norms --------------------------------------------------------------------------


def test_weights_adapt_to_where_influence_lies_and_keep_sum_and_floor():
    parts = Components(
        jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0, 0.0]),
        jnp.array([0.0, 0.0, 1.0, 9.0]),
    )  # fmt: skip
    valid = jnp.array([True, True, True, False])
    weights, psi = jnp.array([0.4, 0.3, 0.3]), jnp.array([1.0, -1.0, 0.0, 5.0])
    gradient = weights_gradient(parts, weights, PLAIN, psi, valid)
    # By hand: w_i = 3 I_i / (α + β + γ) and target = 3 (α - β) / (α + β + γ).
    np.testing.assert_allclose(gradient, [3 - 0.3, -3 - 0.3, -0.3], rtol=1e-5)
    moved = adapted(weights, gradient)
    assert moved[0] > 0.4
    assert moved[1] < 0.3
    assert float(moved.sum()) == pytest.approx(1.0)
    for _ in range(200):
        moved = adapted(moved, gradient)
    np.testing.assert_allclose(moved, [0.9, 0.05, 0.05], atol=1e-3)


def test_the_last_layers_gradient_norm_by_hand_and_by_differentiation():
    pull = gaussian.score_of_mean(jnp.array([[0.5]]), jnp.zeros((1, 1)), jnp.log(jnp.array([0.5])))
    hidden, gradient = jnp.array([[1.0, 2.0]]), 3.0 * pull
    for bias, norm in ((False, 13.4164), (True, 14.6969)):
        found = last_layer_norm(gradient, hidden, bias=bias)
        assert found.tolist() == pytest.approx([norm], abs=1e-4)
    rng = np.random.default_rng(0)
    h, y = (jnp.asarray(rng.normal(size=(6, n)), jnp.float32) for n in (5, 2))
    layer = (jnp.asarray(rng.normal(size=(5, 2)), jnp.float32), jnp.zeros(2))

    def loss(layer, h, y):
        return jnp.sum((h @ layer[0] + layer[1] - y) ** 2)

    each = jax.vmap(jax.grad(loss), (None, 0, 0))(layer, h, y)
    exact = jnp.sqrt(jnp.sum(each[0] ** 2, (1, 2)) + jnp.sum(each[1] ** 2, 1))
    output = 2.0 * (h @ layer[0] - y)
    np.testing.assert_allclose(last_layer_norm(output, h, bias=True), exact, rtol=1e-5)


@pytest.mark.parametrize(("floor", "gain"), [(0.0, 1.75), (0.2, 1.7111), (1.0, 1.0)])
def test_the_predicted_gain_by_hand(floor, gain):
    s = jnp.array([1.0, 1.0, 1.0, 5.0])
    q = defensive_mixture(make_weighting("proportional")(s), floor, jnp.full(4, 0.25))
    assert float(predicted_gain(s, q, ALL)) == pytest.approx(gain, abs=5e-5)


def test_no_gradient_predicts_no_gain():
    assert float(predicted_gain(jnp.zeros(4), jnp.full(4, 0.25), ALL)) == 1.0


def test_drawing_by_gradient_norms_is_unbiased_and_has_the_predicted_variance():
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(400, 3)) * rng.lognormal(0, 1.2, (400, 1))
    s = jnp.asarray(np.linalg.norm(gradients, axis=1), jnp.float32)
    base = jnp.full(400, 1 / 400)
    q = defensive_mixture(make_weighting("proportional")(s), 0.2, base)
    p, draws = np.asarray(q / q.sum(), float), 4_000
    chosen = rng.choice(400, draws, p=p / p.sum())
    estimate = gradients[chosen] / (400 * p[chosen])[:, None]
    error = estimate.std(0, ddof=1) / np.sqrt(draws)
    assert (np.abs(estimate.mean(0) - gradients.mean(0)) < 3.5 * error).all()
    plain = np.mean(np.sum(gradients**2, 1))
    gain = plain / np.mean(np.sum(estimate**2, 1))
    assert gain == pytest.approx(float(predicted_gain(s, q, jnp.ones(400, bool))), rel=0.1)
    assert gain > 1.5


# -- influence -------------------------------------------------------------------------------

THETA = jnp.array(0.25)
X, U = jnp.array([1.0, 2.0, -1.0]), jnp.array([0.5, 0.0, 0.5])
WORTH = jnp.array([1.0, -1.0, 2.0])
RETURNS = jnp.array([1.0, -1.0, 1.0])


def log_prob(theta):
    return gaussian.log_prob(U[:, None], (theta * X)[:, None], jnp.log(jnp.array([0.5])))


def losses(theta):
    old = jax.lax.stop_gradient(log_prob(theta))
    return -WORTH * jnp.exp(log_prob(theta) - old)


def test_influence_by_hand_by_product_and_by_differences():
    each = jax.vmap(jax.grad(lambda t, i: log_prob(t)[i]), (None, 0))(THETA, jnp.arange(3))
    np.testing.assert_allclose(each, [1.0, -4.0, -3.0], rtol=1e-6)
    g = target_gradient(log_prob, THETA, RETURNS / 3)
    assert float(g) == pytest.approx(2 / 3, rel=1e-6)
    psi = influence(losses, THETA, g)
    np.testing.assert_allclose(psi, [0.6667, 2.6667, -4.0], atol=5e-5)
    product = jax.vmap(jax.grad(lambda t, i: losses(t)[i]), (None, 0))(THETA, jnp.arange(3))
    np.testing.assert_allclose(psi, -product * g, rtol=1e-6)
    old, step = log_prob(THETA), 1e-2

    def moved(by):
        return -WORTH * jnp.exp(log_prob(THETA + by * g) - old)

    # Float32: the central difference is good to about 1e-3 at this step.
    np.testing.assert_allclose(psi, -(moved(step) - moved(-step)) / (2 * step), rtol=2e-3)


def test_one_step_changes_the_target_by_the_weighted_sum_of_influences_to_first_order():
    g = target_gradient(log_prob, THETA, RETURNS / 3)
    psi, weights, rate = influence(losses, THETA, g), jnp.array([2.0, 0.5, 0.5]), 1e-3
    step = -rate * jax.grad(lambda t: jnp.sum(weights * losses(t)))(THETA)

    def target(theta):
        return jnp.sum(RETURNS / 3 * log_prob(theta))

    change = float(target(THETA + step) - target(THETA))
    assert change == pytest.approx(rate * float(jnp.sum(psi * weights)), rel=2e-2)


def test_an_item_out_of_the_target_has_no_part_in_it_whatever_its_log_probability():
    def broken(theta):
        return log_prob(theta).at[1].set(jnp.nan)

    g = target_gradient(broken, THETA, jnp.array([1.0, 0.0, 1.0]))
    assert float(g) == pytest.approx(-2.0)


def test_a_part_is_scored_by_the_others_direction_alone():
    parts = tuple(lambda theta, rows=rows: losses(theta)[rows] for rows in (slice(1), slice(1, 3)))
    psi = cross_fitted_influence(parts, THETA, (jnp.array(1.0), jnp.array(10.0)))
    plain = influence(losses, THETA, jnp.array(1.0))
    np.testing.assert_allclose(jnp.concatenate(psi), plain * jnp.array([10, 1, 1]), rtol=1e-6)


def test_conjugate_gradients_solve_and_say_how_well():
    matrix = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    g = jnp.array([1.0, -1.0])
    v, residual = conjugate_gradient(lambda x: matrix @ x, g, jnp.array(0.1), 20)
    np.testing.assert_allclose(v, np.linalg.solve(matrix + 0.1 * np.eye(2), g), rtol=1e-4)
    assert float(residual) < 1e-4
    _, poor = conjugate_gradient(lambda x: matrix @ x, g, jnp.array(0.1), 0)
    assert float(poor) == pytest.approx(1.0)


def test_adams_scale_divides_each_component_by_its_own_root():
    found = divide_by_root(jnp.array([1.0, 1.0]), jnp.array([4.0, 0.25]), 0.0)
    assert found.tolist() == [0.5, 2.0]


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.6529), (2.0, 0.8644), (4.0, 0.9606)])
def test_soft_weights_leave_the_effective_share_by_hand(temperature, share):
    p = make_weighting("softmax", temperature=temperature)(jnp.array([-1.0, 0.0, 1.0]))
    assert float(diagnose(p, p)["ess_share"]) == pytest.approx(share, abs=5e-5)


def test_the_temperature_for_a_wanted_share_by_hand():
    ratio = make_weighting("softmax", ess=0.9).ratio(jnp.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(ratio, [0.6224, 0.9444, 1.4332], atol=2e-4)


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict.fromkeys(
            ("cupid_advantage_weight", "cupid_value_error_weight", "cupid_success_weight"), 0.0
        ), "cupid weights must be >= 0 and not all 0; got .*use arm `uniform`"),
        ({"cupid_success_weight": -0.1}, "cupid weights must be >= 0"),
        ({"cupid_compute_interval": 0}, "cupid_compute_interval must be at least 1, got 0"),
        ({"cupid_floor": 1.2}, r"cupid_floor must be in \[0, 1\], got 1.2"),
        ({"cupid_correction": -1.0}, r"cupid_correction must be in \[0, 1\], got -1.0"),
        ({"cupid_ess": 0.0}, r"cupid_ess must be in \(0, 1\], got 0.0"),
        ({"use_cupid": True, "cupid_floor": 0.0}, "unbounded where p = 0: set cupid_floor > 0"),
        ({"use_cupid": True, "cupid_mode": "influence"}, "influence is signed; use softmax"),
        ({"cupid_weighting": "proportionl"}, "did you mean 'proportional'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_with_rule_value_and_range(settings, message):
    with pytest.raises(ValueError, match=message):
        CupidConfig(**settings)
