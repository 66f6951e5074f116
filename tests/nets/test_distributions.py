"""The tanh-squashed Gaussian: densities by hand, bounds, and what a draw returns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.nets import TanhGaussian, sample_tanh_normal, tanh_normal_log_prob


def vector(*values):
    return jnp.asarray(values, jnp.float32)


@pytest.mark.parametrize(
    ("mean", "log_std", "pre_tanh", "expected"),
    [
        (0.0, 0.0, 0.0, -0.9189),
        (0.0, 0.0, 0.5, -0.8037),
        (0.0, 0.0, 10.0, -32.3052),
        (0.0, 0.0, -10.0, -32.3052),
        (0.2, -1.0, 1.0, -1.4159),
    ],
)
def test_log_density_by_hand(mean, log_std, pre_tanh, expected):
    value = tanh_normal_log_prob(vector(pre_tanh), vector(mean), vector(log_std))
    np.testing.assert_allclose(value, expected, atol=6e-5)


def test_a_naive_squash_would_give_another_density_far_out():
    naive = -0.5 * 10.0**2 - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(10.0) ** 2 + 1e-6)
    assert naive == pytest.approx(-37.10, abs=0.02)
    stable = tanh_normal_log_prob(vector(10.0), vector(0.0), vector(0.0))
    assert float(stable) - naive > 4


def test_log_density_integrates_to_one_over_normalised_actions():
    action = np.linspace(-1, 1, 20_001)[1:-1]
    pre_tanh = jnp.asarray(np.arctanh(action), jnp.float32)[:, None]
    density = jax.vmap(tanh_normal_log_prob, (0, None, None))(pre_tanh, vector(0.3), vector(-0.5))
    assert np.trapezoid(np.exp(density), action) == pytest.approx(1.0, abs=1e-3)


def test_log_density_adds_over_action_components():
    mean, log_std, pre_tanh = vector(0.1, -2.0), vector(0.3, -1.0), vector(0.7, -1.5)
    each = [
        tanh_normal_log_prob(pre_tanh[i, None], mean[i, None], log_std[i, None]) for i in (0, 1)
    ]
    np.testing.assert_allclose(tanh_normal_log_prob(pre_tanh, mean, log_std), sum(each), rtol=1e-6)


def test_a_draw_returns_its_own_density():
    mean, log_std, noise = vector(0.4, -1.0), vector(-0.7, 0.5), vector(1.3, -0.2)
    action, log_prob = sample_tanh_normal(mean, log_std, noise)
    pre_tanh = mean + jnp.exp(log_std) * noise
    np.testing.assert_allclose(action, np.tanh(pre_tanh), rtol=1e-6)
    np.testing.assert_allclose(log_prob, tanh_normal_log_prob(pre_tanh, mean, log_std), rtol=1e-5)


@pytest.mark.parametrize("pre_tanh", [-1e4, -40.0, 40.0, 1e4])
def test_density_and_gradient_stay_finite_far_outside(pre_tanh):
    value, grads = jax.value_and_grad(tanh_normal_log_prob, (0, 1, 2))(
        vector(pre_tanh), vector(0.0), vector(0.0)
    )
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in grads)


def test_log_std_stays_in_its_range_and_keeps_a_gradient_inside():
    head = TanhGaussian(2, 1, (), jax.random.key(0))
    for scale, bound in ((1e6, 2.0), (-1e6, -5.0)):
        bias = jnp.asarray([0.0, scale], jnp.float32)
        _, log_std = with_bias(head, bias)(vector(0.0, 0.0))
        np.testing.assert_allclose(log_std, [bound], rtol=1e-6)
    slope = jax.grad(lambda b: with_bias(head, vector(0.0, b))(vector(0.0, 0.0))[1][0])(0.5)
    assert slope > 1.0


def with_bias(head, bias):
    return eqx.tree_at(lambda h: h.net.biases[-1], head, bias)
