"""Pytree operations: averages, choices, parts, optimiser steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import minibatch, polyak_update, select


class Net(eqx.Module):
    weight: jax.Array
    count: jax.Array
    name: str = eqx.field(static=True)
    function: object = jnp.tanh


def net(weight, count=0):
    return Net(jnp.asarray(weight, jnp.float32), jnp.asarray(count), "net")


def test_polyak_moves_the_given_share_of_the_way():
    moved = polyak_update(net([0.0, 10.0], 3), net([4.0, 2.0], 8), 0.25)
    np.testing.assert_allclose(moved.weight, [1.0, 8.0])


def test_polyak_at_rate_zero_keeps_the_target_bit_for_bit_and_at_one_reaches_the_source():
    target, source = net([0.1, -7.3]), net([0.7, 1e-3])
    np.testing.assert_array_equal(polyak_update(target, source, 0.0).weight, target.weight)
    np.testing.assert_allclose(polyak_update(target, source, 1.0).weight, source.weight, atol=1e-6)


def test_polyak_follows_numbers_only_integers_and_static_parts_stay():
    moved = polyak_update(net([0.0], 3), net([4.0], 8), jnp.asarray(0.5))
    assert int(moved.count) == 3
    assert (moved.name, moved.function) == ("net", jnp.tanh)


def test_n_polyak_steps_towards_a_fixed_source_leave_the_share_one_minus_rate_to_the_n():
    target, source = net([1.0]), net([0.0])
    for _ in range(5):
        target = polyak_update(target, source, 0.1)
    np.testing.assert_allclose(target.weight, [0.9**5], rtol=1e-6)


@pytest.mark.parametrize("condition", [True, False])
def test_select_returns_one_of_two_trees_whole(condition):
    first, second = net([1.0, np.nan], 1), net([3.0, 4.0], 2)
    chosen = jax.jit(select)(jnp.asarray(condition), arrays(first), arrays(second))
    expected = first if condition else second
    jax.tree.map(np.testing.assert_array_equal, chosen, arrays(expected))


def test_select_keeps_leaves_that_are_no_arrays():
    assert select(jnp.asarray(False), net([1.0]), net([2.0])).function is jnp.tanh


def arrays(tree):
    return eqx.filter(tree, eqx.is_array)


def test_minibatches_cut_every_source_into_its_own_equal_parts():
    tree = {"long": jnp.arange(7), "short": jnp.arange(4), "absent": None}
    parts = [minibatch(tree, i, 2) for i in range(2)]
    assert [part["long"].tolist() for part in parts] == [[0, 1, 2], [3, 4, 5]]
    assert [part["short"].tolist() for part in parts] == [[0, 1], [2, 3]]


def test_an_optimiser_step_by_hand():
    optimiser = optax.sgd(0.5)
    params, grads = {"w": jnp.asarray([1.0, 2.0])}, {"w": jnp.asarray([2.0, -2.0])}
    moved, _ = optimise(optimiser, params, grads, start_optimiser(optimiser, params))
    np.testing.assert_allclose(moved["w"], [0.0, 3.0])


def test_an_optimiser_step_hands_on_its_state_and_lets_weights_decay():
    optimiser = optax.adamw(0.1, weight_decay=0.5)
    params = {"w": jnp.asarray([2.0])}
    state = start_optimiser(optimiser, params)
    for count in (1, 2):
        before = params["w"]
        params, state = optimise(optimiser, params, {"w": jnp.zeros(1)}, state)
        np.testing.assert_allclose(params["w"], before * 0.95, rtol=1e-6)
        assert int(optax.tree_utils.tree_get(state, "count")) == count
