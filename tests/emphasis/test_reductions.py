"""Laws and by-hand values of the reductions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import (
    REDUCTIONS,
    CVaR,
    Mean,
    SelfNormalisedMean,
    WeightedMean,
    make_reduction,
)

EXAMPLES = {
    "mean": {},
    "weighted_mean": {},
    "self_normalised_mean": {},
    "cvar": {"alpha": 0.3},
}
LOSSES = jax.random.normal(jax.random.key(0), (49,)) ** 2
WEIGHTS = jax.random.uniform(jax.random.key(1), (49,), minval=0.5, maxval=1.5)


@pytest.fixture(params=REDUCTIONS)
def reduction(request):
    assert request.param in EXAMPLES, f"reduction {request.param!r} has no entry in EXAMPLES"
    return make_reduction(request.param, **EXAMPLES[request.param])


def test_equal_losses_reduce_to_themselves(reduction):
    np.testing.assert_allclose(reduction(jnp.full(7, 2.5), jnp.ones(7)), 2.5, rtol=1e-6)
    np.testing.assert_allclose(reduction(jnp.full(7, 2.5)), 2.5, rtol=1e-6)


def test_weights_of_one_equal_no_weights(reduction):
    ones = jnp.ones_like(LOSSES)
    np.testing.assert_allclose(reduction(LOSSES, ones), reduction(LOSSES), rtol=1e-6)


def test_reductions_are_permutation_invariant_and_positively_homogeneous(reduction):
    order = jax.random.permutation(jax.random.key(2), 49)
    value = reduction(LOSSES, WEIGHTS)
    np.testing.assert_allclose(reduction(LOSSES[order], WEIGHTS[order]), value, rtol=1e-5)
    np.testing.assert_allclose(reduction(3.0 * LOSSES, WEIGHTS), 3 * value, rtol=1e-5)


def test_jit_equals_eager_also_as_a_static_argument(reduction):
    static = jax.jit(lambda rule, loss, weight: rule(loss, weight), static_argnums=0)
    np.testing.assert_allclose(
        static(reduction, LOSSES, WEIGHTS), reduction(LOSSES, WEIGHTS), rtol=1e-6
    )
    assert hash(reduction) == hash(type(reduction)(**vars(reduction)))
    assert reduction == type(reduction)(**vars(reduction))


def test_the_gradient_is_that_of_central_differences(reduction):
    gradient = np.asarray(jax.grad(reduction)(LOSSES, WEIGHTS), np.float64)
    for item in (0, int(jnp.argmax(LOSSES))):
        step = 1e-2
        up, down = LOSSES.at[item].add(step), LOSSES.at[item].add(-step)
        slope = (reduction(up, WEIGHTS) - reduction(down, WEIGHTS)) / (2 * step)
        np.testing.assert_allclose(gradient[item], slope, atol=1e-4)
    assert np.any(gradient != 0)


def test_no_gradient_flows_into_weights(reduction):
    gradient = jax.grad(lambda weights: reduction(LOSSES, weights))(WEIGHTS)
    assert (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize("name", [name for name in REDUCTIONS if name != "mean"])
def test_an_item_of_weight_zero_gives_no_value_and_no_gradient(name):
    rule = make_reduction(name, **EXAMPLES[name])
    weights = jnp.array([1.0, 0.0, 2.0])
    for poison in (jnp.nan, jnp.inf, 1e30):
        value, gradient = jax.value_and_grad(rule)(jnp.array([1.0, poison, 2.0]), weights)
        assert value == rule(jnp.array([1.0, 0.0, 2.0]), weights)
        assert gradient[1] == 0


def test_a_nan_loss_that_counts_is_never_hidden(reduction):
    assert jnp.isnan(reduction(LOSSES.at[3].set(jnp.nan)))
    assert jnp.isnan(reduction(LOSSES.at[3].set(jnp.nan), WEIGHTS))


def test_means_by_hand():
    losses, weights = jnp.array([1.0, 2.0, 6.0]), jnp.array([2.0, 1.0, 0.5])
    assert Mean()(losses, weights) == 3.0
    np.testing.assert_allclose(WeightedMean()(losses, weights), 7 / 3, rtol=1e-6)
    np.testing.assert_allclose(SelfNormalisedMean()(losses, weights), 2.0, rtol=1e-6)
    assert SelfNormalisedMean()(losses, jnp.zeros(3)) == 0.0


def test_cvar_by_hand():
    losses = jnp.arange(10.0, 0, -1)
    for alpha, value in ((0.25, 9.2), (0.2, 9.5), (1.0, 5.5), (0.05, 10.0)):
        np.testing.assert_allclose(CVaR(alpha)(losses), value, rtol=1e-6)
    np.testing.assert_allclose(CVaR(0.375)(jnp.array([4.0, 1, 3, 2])), 11 / 3, rtol=1e-6)
    np.testing.assert_allclose(CVaR(0.05, min_k=2)(losses), 9.5, rtol=1e-6)


def test_cvar_is_the_rockafellar_uryasev_minimum():
    losses = np.asarray(LOSSES, np.float64)
    for alpha in (0.1, 0.33, 0.9):
        values = [t + np.maximum(losses - t, 0).mean() / alpha for t in losses]
        np.testing.assert_allclose(CVaR(alpha)(LOSSES), min(values), rtol=1e-5)


def test_cvar_falls_with_alpha():
    values = [float(CVaR(alpha)(LOSSES)) for alpha in (0.05, 0.2, 0.5, 0.8, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] + 0.5


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_cvar_of_everything_is_the_mean_bit_for_bit(wrap):
    for alpha in (1.0, jnp.float32(1.0)):
        rule, mean = CVaR(alpha), Mean()
        value = wrap(jax.value_and_grad(lambda x, rule=rule: rule(x)))(LOSSES)
        expected = wrap(jax.value_and_grad(mean))(LOSSES)
        assert value[0] == expected[0]
        assert (value[1] == expected[1]).all()
        weighted = wrap(lambda x, w, rule=rule: rule(x, w))(LOSSES, WEIGHTS)
        assert weighted == wrap(SelfNormalisedMean())(LOSSES, WEIGHTS)


def test_weighted_mean_of_ones_is_the_mean_bit_for_bit():
    for wrap in (lambda f: f, jax.jit):
        value = wrap(jax.value_and_grad(WeightedMean()))(LOSSES, jnp.ones_like(LOSSES))
        expected = wrap(jax.value_and_grad(Mean()))(LOSSES)
        assert value[0] == expected[0]
        assert (value[1] == expected[1]).all()


def test_cvar_with_integer_weights_is_cvar_of_repeated_rows():
    losses, counts = LOSSES[:8], np.array([1, 2, 3, 1, 0, 1, 4, 2])
    repeated = jnp.asarray(np.repeat(np.asarray(losses), counts))
    weighted = CVaR(0.3)(losses, jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(weighted, CVaR(0.3)(repeated), rtol=1e-5)


def test_cvar_training_reaches_the_closed_form_minimum():
    # A constant c on targets 0 (90 %) and 1 (10 %): the minimum is at min(0.1 / alpha, 0.5).
    targets = jnp.array(9 * [0.0] + [1.0])

    @jax.jit
    def train(alpha):
        slope = jax.grad(lambda c: CVaR(alpha)((c - targets) ** 2))
        descend = lambda i, c: c - 0.5 / (i + 10.0) * slope(c)  # noqa: E731
        return jax.lax.fori_loop(0, 3000, descend, jnp.float32(0.0))

    for alpha, minimum in ((1.0, 0.1), (0.5, 0.2), (0.25, 0.4), (0.2, 0.5)):
        np.testing.assert_allclose(train(jnp.float32(alpha)), minimum, atol=5e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cvr", {}, "Did you mean 'cvar'"),
        ("cvar", {}, r"missing: \['alpha'\]"),
        ("cvar", {"aplha": 0.2}, "Did you mean 'alpha'"),
        ("cvar", {"alpha": 1.2}, r"cvar.alpha must be in \(0, 1\], got 1.2"),
        ("cvar", {"alpha": 0.2, "min_k": 0}, "cvar.min_k must be in"),
    ],
)
def test_a_wrong_option_gets_one_clear_error(name, options, words):
    with pytest.raises(ValueError, match=words):
        make_reduction(name, **options)
