"""Behaviour cloning: losses by hand, weights as repeated rows, recovery of a known expert."""

import dataclasses

import agent_laws
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import SPEC, close, equal, transitions

from steelyard.agents.bc import BC, BCConfig, cloning_loss
from steelyard.data.demonstrations import Demonstrations, Provenance
from steelyard.data.episode import Episode
from steelyard.data.normalisation import Normaliser
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.nets import TanhGaussian
from steelyard.training.demonstrations import put_on_device
from steelyard.types import EnvSpec, RewardFreeTransition

KEY = jax.random.key(0)


def agent_of(**changes):
    config = BCConfig(**({"hidden": (8,), "batch_size": 5} | changes))
    return BC.create(KEY, SPEC, config, Normaliser.identity(3), total_steps=100)


# Losses.

MEAN, LOG_STD = np.array([0.3, -1.0]), np.array([-0.5, 0.7])
ACTION = np.array([1.0, -0.2])
ERROR, STD = ACTION - np.tanh(MEAN), np.exp(LOG_STD)
NLL = 0.5 * (ERROR / STD) ** 2 + LOG_STD + 0.5 * np.log(2 * np.pi)


def known_actor():
    """Mean and log standard deviation above, whatever the observation."""
    actor = TanhGaussian(3, 2, (), KEY)
    bias = jnp.asarray(np.concatenate([MEAN, np.arctanh((LOG_STD + 5) / 3.5 - 1)]), jnp.float32)
    return eqx.tree_at(
        lambda a: (a.net.weights[0], a.net.biases[0]), actor, (jnp.zeros((3, 4)), bias)
    )


@pytest.mark.parametrize(
    ("loss", "beta", "expected"),
    [
        ("mse", 0.5, np.mean(ERROR**2)),
        ("nll", 0.5, np.sum(NLL)),
        ("beta_nll", 0.5, np.sum(STD * NLL)),
        ("beta_nll", 0.0, np.sum(NLL)),
        ("beta_nll", 1.0, np.sum(STD**2 * NLL)),
    ],
)
def test_the_loss_of_a_row_by_hand(loss, beta, expected):
    config = BCConfig(loss=loss, beta=beta)
    found = cloning_loss(known_actor(), jnp.ones(3), jnp.asarray(ACTION, jnp.float32), config)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("beta", "factor"), [(0.5, STD), (1.0, STD**2)])
def test_beta_nll_scales_the_gradient_and_the_scale_has_none(beta, factor):
    """d/d mean_d of nll is -(error_d/σ_d²)(1 - tanh²), times σ_d^(2 beta)."""
    config = BCConfig(loss="beta_nll", beta=beta)
    grads = jax.grad(cloning_loss)(
        known_actor(), jnp.ones(3), jnp.asarray(ACTION, jnp.float32), config
    )
    mean = -ERROR / STD**2 * (1 - np.tanh(MEAN) ** 2) * factor
    raw = (1 - (ERROR / STD) ** 2) * factor * 3.5 * (1 - ((LOG_STD + 5) / 3.5 - 1) ** 2)
    np.testing.assert_allclose(grads.net.biases[0], [*mean, *raw], rtol=1e-4)


def test_squared_error_leaves_the_standard_deviation_alone():
    config = BCConfig(loss="mse")
    grads = jax.grad(cloning_loss)(
        known_actor(), jnp.ones(3), jnp.asarray(ACTION, jnp.float32), config
    )
    assert (grads.net.biases[0][:2] != 0).all()
    assert (grads.net.biases[0][2:] == 0).all()


@pytest.mark.parametrize("loss", ["mse", "nll", "beta_nll"])
def test_actions_at_the_bounds_have_a_finite_loss_and_gradient(loss):
    value, grads = jax.value_and_grad(cloning_loss)(
        known_actor(), jnp.ones(3), jnp.asarray([1.0, -1.0]), BCConfig(loss=loss)
    )
    assert all(np.isfinite(x).all() for x in agent_laws.leaves((value, grads)))


# Weights.


def test_integer_weights_equal_repeated_rows():
    agent, counts = agent_of(reduction="self_normalised_mean"), np.array([0, 3, 1, 2, 1])
    rows = transitions(0, 5, RewardFreeTransition)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, counts, axis=0, total_repeat_length=7), rows)
    weighted, _ = agent_laws.update(agent, rows, KEY, jnp.asarray(counts, jnp.float32))
    plain, _ = agent_laws.update(agent, repeated, KEY)
    assert close(weighted.actor, plain.actor, 1e-6)
    assert not close(weighted.actor, agent_laws.update(agent, rows, KEY)[0].actor, 1e-6)


def test_weights_of_one_under_a_weighted_mean_equal_no_weights_bit_for_bit():
    rows = transitions(0, 5, RewardFreeTransition)
    weighted, _ = agent_of(reduction="weighted_mean").update(rows, KEY, jnp.ones(5))
    plain, _ = agent_of().update(rows, KEY)
    assert equal(weighted.actor, plain.actor)


FLAT = {
    "proportional": {"score": "episode_return", "power": 0.0, "floor": 0.1},
    "rank": {"score": "episode_return", "power": 0.0, "floor": 0.1},
    "softmax": {"score": "episode_return", "temperature": float("inf")},
    "tail": {"score": "episode_return", "alpha": 1.0},
    "drop": {"score": "episode_return", "fraction": 0.0},
    "balanced": {"score": "cluster", "clusters": 2, "tau": 1.0},
}


@pytest.fixture(scope="module")
def demonstrations():
    """Six episodes of different lengths; returns are positive and all differ."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.normal(size=(n + 1, 3)).astype(np.float32),
            actions=rng.uniform(-1, 1, (n, 2)).astype(np.float32),
            rewards=rng.uniform(0.1, 1, n).astype(np.float32),
            terminated=False,
            truncated=True,
            start_seed=n,
        )
        for n in (3, 7, 4, 5, 6, 8)
    ]
    provenance = Provenance(
        SPEC.id, "sac", 0, 1000, True, "ab" * 32, {"jax": "0.10"}, ("made for a test",)
    )
    return Demonstrations.from_episodes(episodes, SPEC, provenance)


@pytest.mark.parametrize("through", ["batches", "losses"])
@pytest.mark.parametrize("weighting", FLAT)
def test_a_weighting_at_zero_sharpness_equals_uniform_bit_for_bit(
    demonstrations, weighting, through
):
    """Equal rows, tables, weights and batches: whatever is trained on them is equal too."""
    uniform = put_on_device([demonstrations], EmphasisConfig(through=through))
    flat = EmphasisConfig(weighting=weighting, through=through, **FLAT[weighting])
    data = put_on_device([demonstrations], flat)
    assert equal(data, uniform)
    assert equal(*(jax.tree.map(lambda x: x[0], d).draw(KEY, 16) for d in (data, uniform)))


def test_a_weighting_with_sharpness_differs_from_uniform(demonstrations):
    uniform = put_on_device([demonstrations])
    sharp = EmphasisConfig(score="episode_return", weighting="rank", power=1.0, floor=0.1)
    assert not equal(put_on_device([demonstrations], sharp), uniform)


# Learning.

LINEAR = EnvSpec("linear", 4, (-1.0,) * 2, (1.0,) * 2, 100, can_terminate=False)


@jax.jit
def clone(key, rows):
    """600 batches of 128 on all rows."""
    config = BCConfig(hidden=(), lr=0.05, weight_decay=0.0, average_decay=0.9)
    agent = BC.create(key, LINEAR, config, Normaliser.identity(4), total_steps=600)

    def body(agent, key):
        draw_key, update_key = jax.random.split(key)
        chosen = jax.random.randint(draw_key, (128,), 0, rows.action.shape[0])
        return agent.update(jax.tree.map(lambda x: x[chosen], rows), update_key)[0], None

    return jax.lax.scan(body, agent, jax.random.split(key, 600))[0]


@pytest.fixture(scope="module")
def linear_expert():
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.5, (4, 2)).astype(np.float32)
    observation = rng.normal(size=(2000, 4)).astype(np.float32)
    rows = RewardFreeTransition(
        observation=jnp.asarray(observation),
        action=jnp.tanh(jnp.asarray(observation) @ weight),
        terminated=jnp.zeros(2000, bool),
        next_observation=jnp.asarray(observation),
    )
    return weight, rows


def test_cloning_recovers_a_linear_expert(linear_expert):
    weight, rows = linear_expert
    agent = clone(KEY, rows)
    np.testing.assert_allclose(agent.average.net.weights[0][:, :2], weight, atol=1e-2)
    assert jnp.mean(agent.losses(rows)) < 1e-5
    action = agent.act(rows.observation, KEY, deterministic=True)
    np.testing.assert_allclose(action, rows.action, atol=2e-2)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(linear_expert):
    _, rows = linear_expert
    first, again, other = clone(KEY, rows), clone(KEY, rows), clone(jax.random.key(1), rows)
    assert [x.tobytes() for x in agent_laws.leaves(first)] == [
        x.tobytes() for x in agent_laws.leaves(again)
    ]
    assert not equal(first.actor, other.actor)


# The schedule and the average.


def test_the_learning_rate_falls_to_zero_along_a_cosine():
    agent, rows, moves = agent_of(weight_decay=0.0), transitions(0, 5, RewardFreeTransition), []
    agent = dataclasses.replace(agent, total_steps=4)
    for _ in range(5):
        after, _ = agent_laws.update(agent, rows, KEY)
        moves.append(
            max(
                np.abs(a - b).max()
                for a, b in zip(*map(agent_laws.leaves, (after.actor, agent.actor)), strict=True)
            )
        )
        agent = after
    assert moves[0] == pytest.approx(1e-3, rel=1e-2)
    assert moves[1] > moves[2] > moves[3]
    assert moves[4] == 0.0


def test_what_is_kept_is_the_warmed_up_average_of_the_weights():
    """Decay min(0.999, (1 + n)/(10 + n)): the first step moves nine tenths of the way."""
    agent, rows = agent_of(), transitions(0, 5, RewardFreeTransition)
    first, _ = agent_laws.update(agent, rows, KEY)
    expected = jax.tree.map(lambda a, b: a + 0.9 * (b - a), agent.average, first.actor)
    assert close(first.average, expected, 1e-6)
    assert equal(
        first.act(rows.observation, KEY, deterministic=True),
        jnp.tanh(jax.vmap(first.average)(rows.observation)[0]),
    )


def test_input_noise_uses_the_key_and_none_does_not():
    rows = transitions(0, 5, RewardFreeTransition)
    for noise, same in ((0.0, True), (0.5, False)):
        agent = agent_of(input_noise=noise)
        one, two = (agent_laws.update(agent, rows, jax.random.key(i))[0] for i in (0, 1))
        assert equal(one, two) == same
