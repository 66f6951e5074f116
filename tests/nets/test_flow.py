"""Flow matching: the straight path, its loss, and Euler's rule, by hand and by law."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from steelyard.nets.flow import (
    VelocityField,
    flow_errors,
    flow_loss,
    integrate,
    straight_path,
    time_features,
)

KEY = jax.random.key(5)
SIZE, COND = 3, 2
NOISE = jnp.asarray([1.0, -2.0, 0.5])
TARGET = jnp.asarray([3.0, 2.0, 0.5])
CONDITION = jnp.asarray([0.3, -0.7])


def field(key=KEY, **options):
    return VelocityField(SIZE, COND, (8,), key, **options)


# The path and its loss.


def test_the_straight_path_by_hand():
    point, velocity = straight_path(NOISE, TARGET, jnp.asarray(0.25))
    np.testing.assert_allclose(point, [1.5, -1.0, 0.5])
    np.testing.assert_allclose(velocity, [2.0, 4.0, 0.0])


def test_the_straight_path_begins_at_noise_ends_at_data_and_its_velocity_is_its_slope():
    ends = [straight_path(NOISE, TARGET, jnp.asarray(t))[0] for t in (0.0, 1.0)]
    np.testing.assert_array_equal(ends, [NOISE, TARGET])
    path = lambda t: straight_path(NOISE, TARGET, t)[0]  # noqa: E731
    for t in (0.0, 0.3, 0.9):
        _, slope = jax.jvp(path, (jnp.asarray(t),), (jnp.asarray(1.0),))
        np.testing.assert_allclose(slope, TARGET - NOISE, rtol=1e-6)


def test_the_loss_by_hand_for_a_field_that_says_its_input():
    """v(x, t, c) = x + t + c_1: the error at the drawn time and noise, component by component."""
    time_key, noise_key = jax.random.split(KEY)
    t, x0 = jax.random.uniform(time_key), jax.random.normal(noise_key, (SIZE,))
    expected = ((1 - t) * x0 + t * TARGET + t + CONDITION[0] - (TARGET - x0)) ** 2
    plain = lambda x, time, condition: x + time + condition[0]  # noqa: E731
    errors = flow_errors(plain, TARGET, CONDITION, KEY)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)
    loss = flow_loss(plain, TARGET, CONDITION, KEY)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_the_least_loss_is_the_variance_of_the_velocity_given_the_point():
    """One-point data: the best field, (x_1 - x)/(1 - t), knows the noise and has no error."""
    best = lambda x, time, condition: (TARGET - x) / (1 - time)  # noqa: E731
    keys = jax.random.split(KEY, 200)
    losses = jax.vmap(lambda key: flow_loss(best, TARGET, CONDITION, key))(keys)
    np.testing.assert_allclose(losses, 0.0, atol=1e-4)


def test_items_of_one_key_share_time_and_noise():
    """A field of zero errs by (x_1 - x_0)²: the noise can be read off."""
    zero = lambda x, time, condition: jnp.zeros_like(x)  # noqa: E731
    one, two = (flow_errors(zero, target, CONDITION, KEY) for target in (TARGET, TARGET + 100.0))
    noise = jax.random.normal(jax.random.split(KEY)[1], (SIZE,))
    np.testing.assert_allclose(one, (TARGET - noise) ** 2, rtol=1e-5)
    np.testing.assert_allclose(two, (TARGET + 100.0 - noise) ** 2, rtol=1e-5)


@pytest.mark.parametrize("frequencies", [0, 3])
def test_every_parameter_feels_the_loss(frequencies):
    def total(net):
        keys = jax.random.split(KEY, 16)
        return jnp.mean(jax.vmap(lambda key: flow_loss(net, TARGET, CONDITION, key))(keys))

    net = VelocityField(SIZE, COND, (32,), KEY, time_frequencies=frequencies)
    grads = jax.jit(jax.grad(total))(net)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0
    # Each input has a row of weights, and none of the rows is without gradient.
    assert (np.abs(grads.net.weights[0]).max(axis=1) > 0).all()


# The field.


def test_a_field_sees_point_then_time_then_condition():
    net, time = field(), jnp.asarray(0.4)
    inputs = jnp.concatenate([NOISE, time[None], CONDITION])
    np.testing.assert_array_equal(net(NOISE, time, CONDITION), net.net(inputs))


def test_time_features_by_hand_and_time_alone_is_the_default():
    np.testing.assert_array_equal(time_features(jnp.asarray(0.3), 0), np.float32([0.3]))
    np.testing.assert_allclose(
        time_features(jnp.asarray(0.5), 2), [0.5, 0.0, -1.0, 1.0, 0.0], atol=1e-6
    )
    assert field().net.weights[0].shape == (SIZE + 1 + COND, 8)
    assert field(time_frequencies=2).net.weights[0].shape == (SIZE + 5 + COND, 8)


def test_a_negative_number_of_frequencies_is_refused():
    with pytest.raises(ValueError, match="time_frequencies must be at least 0, got -1"):
        field(time_frequencies=-1)


def test_a_field_without_condition_is_a_flow_too():
    net = VelocityField(SIZE, 0, (8,), KEY)
    assert integrate(net, NOISE, jnp.zeros(0), 4).shape == (SIZE,)


def test_batched_and_compiled_agree_with_one_item_at_a_time():
    net, keys = field(), jax.random.split(KEY, 6)
    noise, condition = jax.random.normal(KEY, (6, SIZE)), jax.random.normal(KEY, (6, COND))

    @jax.jit
    def both(net, noise, condition, keys):
        drawn = jax.vmap(lambda n, c: integrate(net, n, c, 4))(noise, condition)
        return drawn, jax.vmap(lambda t, c, k: flow_loss(net, t, c, k))(noise, condition, keys)

    drawn, losses = both(net, noise, condition, keys)
    assert drawn.shape == (6, SIZE)
    assert losses.shape == (6,)
    for i in range(6):
        alone = integrate(net, noise[i], condition[i], 4)
        np.testing.assert_allclose(drawn[i], alone, rtol=1e-5, atol=1e-6)
        loss = flow_loss(net, noise[i], condition[i], keys[i])
        np.testing.assert_allclose(losses[i], loss, rtol=1e-5)


# Integration.


def test_one_step_adds_the_velocity_at_time_zero_and_two_steps_by_hand():
    """v = x + 4 t: from 1, one step gives 2; two steps give 1.5, then 1.5 + (1.5 + 2)/2 = 3.25."""
    plain = lambda x, time, condition: x + 4.0 * time  # noqa: E731
    start = jnp.asarray([1.0])
    np.testing.assert_allclose(integrate(plain, start, CONDITION, 1), [2.0])
    np.testing.assert_allclose(integrate(plain, start, CONDITION, 2), [3.25])


def test_a_constant_velocity_is_integrated_exactly_by_any_number_of_steps():
    constant = lambda x, time, condition: TARGET - NOISE  # noqa: E731
    for steps in (1, 3, 10):
        np.testing.assert_allclose(integrate(constant, NOISE, CONDITION, steps), TARGET, rtol=1e-6)


def test_fewer_than_one_step_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        integrate(field(), NOISE, CONDITION, 0)


def gaussian_flow(mean: float, std: float):
    """Exact field of N(0, 1) → N(mean, std²) along straight paths; it carries x to mean + std x."""

    def velocity(x, time, condition):
        variance = (1 - time) ** 2 + (time * std) ** 2
        return mean + (time * std**2 - (1 - time)) / variance * (x - time * mean)

    return velocity


@pytest.mark.parametrize(("mean", "std"), [(2.0, 0.5), (-1.0, 3.0)])
def test_eulers_rule_converges_at_first_order_on_a_gaussian_flow(mean, std):
    start = jnp.asarray([-1.5, 0.3, 2.0])

    def error(steps):
        end = integrate(gaussian_flow(mean, std), start, CONDITION, steps)
        return np.abs(end - (mean + std * start)).max()

    errors = np.array([error(steps) for steps in (16, 32, 64, 128)])
    orders = np.log2(errors[:-1] / errors[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.1)


# Learning.


def test_a_flow_recovers_both_modes_of_a_conditional_distribution():
    """x_1 = c ± 1, each with probability one half and standard deviation 0.05."""
    net = VelocityField(1, 1, (64, 64), KEY)
    optimiser = optax.adam(optax.cosine_decay_schedule(5e-3, 1_500))

    def data(key, rows):
        keys = jax.random.split(key, 3)
        condition = jax.random.uniform(keys[0], (rows, 1), minval=-1.0, maxval=1.0)
        sign = jax.random.rademacher(keys[1], (rows, 1), jnp.float32)
        return condition, condition + sign + 0.05 * jax.random.normal(keys[2], (rows, 1))

    @jax.jit
    def train(net):
        def body(carry, key):
            net, state = carry
            data_key, loss_key = jax.random.split(key)
            condition, target = data(data_key, 256)
            keys = jax.random.split(loss_key, 256)

            def loss(net):
                return jnp.mean(jax.vmap(flow_loss, (None, 0, 0, 0))(net, target, condition, keys))

            updates, state = optimiser.update(jax.grad(loss)(net), state)
            return (eqx.apply_updates(net, updates), state), None

        keys = jax.random.split(KEY, 1_500)
        return jax.lax.scan(body, (net, optimiser.init(net)), keys)[0][0]

    trained = train(net)
    noise = jax.random.normal(jax.random.key(6), (1_000, 1))
    for centre in (-0.8, 0.0, 0.8):
        condition = jnp.full((1_000, 1), centre)
        draws = jax.vmap(lambda n, c: integrate(trained, n, c, 16))(noise, condition)[:, 0] - centre
        upper = np.mean(np.abs(draws - 1) < 0.2)
        lower = np.mean(np.abs(draws + 1) < 0.2)
        assert upper + lower > 0.93
        assert abs(upper - lower) < 0.12
