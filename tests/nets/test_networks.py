"""Multi-layer perceptrons and stacked ensembles of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from steelyard.nets import MLP, apply_ensemble, make_ensemble, q_values

KEY = jax.random.key(3)


def create(key):
    return MLP(3, 1, (4,), key=key)


def test_an_mlp_without_hidden_layers_is_affine():
    net = MLP(2, 3, (), key=KEY)
    x = jnp.asarray([0.5, -2.0])
    np.testing.assert_allclose(net(x), x @ net.weights[0] + net.biases[0], rtol=1e-6)


def test_an_mlp_applies_its_layers_by_hand():
    net = MLP(1, 1, (2,), key=KEY)
    net = eqx.tree_at(
        lambda n: (*n.weights, *n.biases),
        net,
        (
            jnp.asarray([[1.0, -1.0]]),
            jnp.asarray([[2.0], [5.0]]),
            jnp.asarray([0.5, 0.0]),
            jnp.asarray([-1.0]),
        ),
    )
    np.testing.assert_allclose(net(jnp.asarray([2.0])), [4.0])  # 2 relu(2.5) + 5 relu(-2) - 1
    np.testing.assert_allclose(net(jnp.asarray([-2.0])), [9.0])  # 2 relu(-1.5) + 5 relu(2) - 1


def test_initial_weights_lie_within_one_over_root_fan_in_and_biases_are_zero():
    net = MLP(16, 2, (64,), key=KEY)
    for weight, fan_in in zip(net.weights, (16, 64), strict=True):
        assert np.abs(weight).max() <= fan_in**-0.5
        assert np.abs(weight).max() > 0.9 * fan_in**-0.5
    assert all((np.asarray(bias) == 0).all() for bias in net.biases)


def test_a_last_scale_of_zero_gives_exactly_zero():
    net = MLP(3, 2, (8,), key=KEY, last_scale=0.0)
    assert (np.asarray(net(jnp.asarray([1.0, -4.0, 9.0]))) == 0).all()


def test_a_networks_static_part_is_hashable_and_its_leaves_are_arrays():
    net = create(KEY)
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(net))
    assert hash(jax.tree.structure(net)) == hash(jax.tree.structure(create(jax.random.key(9))))


def test_an_ensemble_holds_independent_networks_and_applies_each():
    keys, x = jax.random.split(KEY, 2), jnp.asarray([0.3, -1.0, 2.0])
    nets = make_ensemble(create, 2, KEY)
    expected = jnp.stack([create(key)(x) for key in keys])
    np.testing.assert_allclose(apply_ensemble(nets, x), expected, rtol=1e-6)
    assert not np.allclose(expected[0], expected[1])


def test_q_values_see_observation_then_action_one_number_a_critic():
    nets = make_ensemble(create, 2, KEY)
    observation, action = jnp.asarray([0.3, -1.0]), jnp.asarray([2.0])
    both = apply_ensemble(nets, jnp.asarray([0.3, -1.0, 2.0]))
    np.testing.assert_array_equal(q_values(nets, observation, action), both[:, 0])


def test_layer_normalisation_makes_a_hidden_layer_blind_to_the_scale_of_its_input():
    plain = MLP(3, 2, (16,), key=jax.random.key(0))
    normed = MLP(3, 2, (16,), key=jax.random.key(0), layer_norm=True)
    x = jnp.array([1.0, -2.0, 0.5])
    assert jnp.allclose(normed(1e3 * x), normed(1e5 * x), atol=1e-5)
    assert not jnp.allclose(plain(1e3 * x), plain(1e5 * x), rtol=0.5)
    hidden = plain.activation(x @ plain.weights[0] - jnp.mean(x @ plain.weights[0]))
    std = jnp.std(x @ plain.weights[0])
    assert jnp.allclose(normed(x), hidden / std @ plain.weights[1], rtol=1e-3)


def test_equal_keys_drop_equal_units_and_no_key_drops_none() -> None:
    net = MLP(3, 2, (64,), key=jax.random.key(0))
    x = jnp.array([0.3, -0.2, 0.9])
    assert jnp.array_equal(net(x), net(x, dropout=0.5))
    first, again = (net(x, dropout=0.5, key=jax.random.key(1)) for _ in range(2))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, net(x, dropout=0.5, key=jax.random.key(2)))
    keys = jax.random.split(jax.random.key(3), 4_000)
    linear = MLP(3, 2, (64,), key=jax.random.key(0), activation=lambda v: v)
    mean = jnp.mean(jax.vmap(lambda key: linear(x, dropout=0.5, key=key))(keys), axis=0)
    assert jnp.allclose(mean, linear(x), atol=0.02)  # what is dropped is made up for
