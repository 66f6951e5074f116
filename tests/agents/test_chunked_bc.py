"""Behaviour cloning of chunks: losses by hand, masked padding, plans that mind their own row."""

import dataclasses

import agent_laws
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import NORMALISER, SPEC, chunks, close, equal

from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig, chunk_loss
from steelyard.data.chunks import ActionRange
from steelyard.data.normalisation import Normaliser
from steelyard.nets import MLP
from steelyard.nets.flow import VelocityField, flow_errors
from steelyard.training.checkpoint import load_tree, save_tree
from steelyard.types import ActionChunk

KEY = jax.random.key(0)
HEADS = ("flow", "mse")
CHUNK, ACT, OBS = 3, 2, 3
RANGE = ActionRange.of(jnp.asarray([[-0.5, 0.2], [0.1, 0.2]]))
"""The second component was never moved."""


def agent_of(head="flow", key=KEY, **changes):
    sizes = {"hidden": (8,), "batch_size": 5, "chunk": CHUNK, "executed": 2}
    config = ChunkedBCConfig(head=head, **(sizes | changes))
    return ChunkedBC.create(key, SPEC, config, NORMALISER, RANGE, total_steps=100)


def known_regressor(value):
    """A regressor that says `value` [chunk act], whatever it sees."""
    net = MLP(OBS, CHUNK * ACT, (), key=KEY)
    bias = jnp.asarray(np.ravel(value), jnp.float32)
    return eqx.tree_at(
        lambda n: (n.weights[0], n.biases[0]), net, (jnp.zeros_like(net.weights[0]), bias)
    )


# Losses.

PREDICTED = np.array([[0.0, 1.0], [0.5, -1.0], [2.0, 2.0]])
ACTIONS = jnp.asarray([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([True, True, True], ((1 + 0) + (0 + 1) + (4 + 4)) / 6),
        ([True, True, False], ((1 + 0) + (0 + 1)) / 4),
        ([True, False, False], (1 + 0) / 2),
    ],
)
def test_the_squared_error_of_a_chunk_by_hand(mask, expected):
    found = chunk_loss(known_regressor(PREDICTED), jnp.ones(OBS), ACTIONS, jnp.asarray(mask), KEY)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_flow_loss_of_a_chunk_is_the_masked_mean_of_the_velocity_errors():
    net, seen = VelocityField(CHUNK * ACT, OBS, (8,), KEY), jnp.ones(OBS)
    errors = flow_errors(net, ACTIONS.reshape(-1), seen, KEY).reshape(CHUNK, ACT)
    for real in (1, 2, 3):
        found = chunk_loss(net, seen, ACTIONS, jnp.arange(CHUNK) < real, KEY)
        np.testing.assert_allclose(found, np.mean(errors[:real]), rtol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_padding_is_no_target(head):
    """What the network says in places of padding costs nothing and gets no gradient."""
    policy, real = agent_of(head).policy, 2
    mask = jnp.arange(CHUNK) < real
    grads = jax.grad(chunk_loss)(policy, jnp.ones(OBS), ACTIONS, mask, KEY)
    net = grads.net if isinstance(grads, VelocityField) else grads
    last = np.asarray(net.biases[-1]).reshape(CHUNK, ACT)
    assert (last[real:] == 0).all()
    assert (last[:real] != 0).all()


def test_what_stands_in_padding_changes_nothing_for_the_regressor():
    batch, agent = chunks(0, 5, CHUNK), agent_of("mse")
    hidden = jnp.broadcast_to(batch.mask[:, :, None], batch.actions.shape)
    other = dataclasses.replace(batch, actions=jnp.where(hidden, batch.actions, 0.123))
    assert not equal(batch, other)
    assert equal(*(agent_laws.update(agent, b, KEY) for b in (batch, other)))


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_feels_the_loss(head):
    agent, batch = agent_of(head, hidden=(32,)), chunks(0, 64, CHUNK)

    def total(policy):
        return jnp.mean(eqx.tree_at(lambda a: a.average, agent, policy).losses(batch, KEY))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(agent.policy)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def test_losses_are_those_of_the_average_and_the_updates_those_of_the_policy():
    agent, batch = agent_of(), chunks(0, 5, CHUNK)
    moved, first = agent_laws.update(agent, batch, KEY)
    np.testing.assert_allclose(first.items["loss"], agent.losses(batch, KEY), rtol=1e-5)
    _, second = agent_laws.update(moved, batch, KEY)
    assert not np.allclose(second.items["loss"], moved.losses(batch, KEY))
    acting = eqx.tree_at(lambda a: a.average, moved, moved.policy)
    np.testing.assert_allclose(second.items["loss"], acting.losses(batch, KEY), rtol=1e-5)


def test_what_is_kept_is_the_warmed_up_average_of_the_weights():
    """Decay min(0.999, (1 + n)/(10 + n)): the first step moves nine tenths of the way."""
    agent = agent_of()
    first, _ = agent_laws.update(agent, chunks(0, 5, CHUNK), KEY)
    expected = jax.tree.map(lambda a, b: a + 0.9 * (b - a), agent.average, first.policy)
    assert close(first.average, expected, 1e-6)


def test_weights_of_one_under_a_weighted_mean_equal_no_weights_bit_for_bit():
    batch = chunks(0, 5, CHUNK)
    weighting = agent_of(reduction="weighted_mean")
    weighted, _ = agent_laws.update(weighting, batch, KEY, jnp.ones(5))
    plain, _ = agent_laws.update(agent_of(), batch, KEY)
    assert equal(weighted.policy, plain.policy)


def test_integer_weights_equal_repeated_chunks():
    """For the regressor; a repeated chunk of the flow would draw another time and noise."""
    agent, counts = agent_of("mse", reduction="self_normalised_mean"), np.array([0, 3, 1, 2, 1])
    batch = chunks(0, 5, CHUNK)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, counts, axis=0, total_repeat_length=7), batch)
    weighted, _ = agent_laws.update(agent, batch, KEY, jnp.asarray(counts, jnp.float32))
    plain, _ = agent_laws.update(agent, repeated, KEY)
    assert close(weighted.policy, plain.policy, 1e-6)


# Plans.


def observations(rows, seed=3):
    return jax.random.normal(jax.random.key(seed), (rows, OBS))


@pytest.mark.parametrize("head", HEADS)
def test_a_plan_lies_in_the_demonstrated_range_and_a_component_that_never_moved_in_bounds(head):
    agent = agent_of(head)
    agent = eqx.tree_at(lambda a: a.average, agent, jax.tree.map(lambda x: 50 * x, agent.average))
    plan = np.asarray(agent.plan(observations(200), jax.random.split(KEY, 200)))
    assert plan.shape == (200, CHUNK, ACT)
    np.testing.assert_allclose([plan[..., 0].min(), plan[..., 0].max()], [-0.5, 0.1], atol=1e-6)
    assert (np.abs(plan[..., 1]) <= 1).all()


PLAN = jax.jit(lambda agent, observation, keys: agent.plan(observation, keys))


@pytest.mark.parametrize("rows", [1, 3, 16, 64])
def test_a_rows_plan_does_not_depend_on_the_rows_beside_it(rows):
    """Bit for bit among batches of one size, whatever the others hold.

    Between sizes only to rounding: XLA sums a matrix product in an order of its own for each.
    """
    agent, keys = agent_of(hidden=(64, 64)), jax.random.split(KEY, rows)
    seen = observations(rows)
    others = jnp.concatenate([seen[:1], 100 * observations(rows - 1, seed=4)])
    other_keys = jnp.concatenate([keys[:1], jax.random.split(jax.random.key(9), rows - 1)])
    beside = PLAN(agent, seen, keys)[0]
    np.testing.assert_array_equal(PLAN(agent, others, other_keys)[0], beside)
    np.testing.assert_allclose(PLAN(agent, seen[:1], keys[:1])[0], beside, atol=1e-6)


def test_rows_of_one_observation_differ_by_their_keys_alone():
    agent, same = agent_of(), jnp.ones((2, OBS))
    one, two = agent.plan(same, jax.random.split(KEY, 2))
    assert np.abs(one - two).max() > 1e-3
    one, two = agent.plan(same, jnp.stack([KEY, KEY]))
    np.testing.assert_array_equal(one, two)


def test_an_action_is_the_first_of_a_plan():
    agent, seen = agent_of(), observations(7)
    action = agent.act(seen, KEY, deterministic=False)
    plan = agent.plan(seen, jax.random.split(KEY, 7))
    np.testing.assert_array_equal(action, plan[:, 0])


def test_a_regressor_has_one_plan_whatever_the_key():
    agent, seen = agent_of("mse"), observations(7)
    plans = [agent.plan(seen, jax.random.split(jax.random.key(i), 7)) for i in (0, 1)]
    np.testing.assert_array_equal(*plans)
    for deterministic in (True, False):
        np.testing.assert_array_equal(agent.act(seen, KEY, deterministic), plans[0][:, 0])


def test_a_component_that_was_never_moved_is_planned_where_it_stood():
    """Its target is 0 around its one value; a regressor that says 0 says 0.2."""
    agent = eqx.tree_at(lambda a: a.average, agent_of("mse"), known_regressor(np.zeros((3, 2))))
    plan = agent.plan(observations(4), jax.random.split(KEY, 4))
    np.testing.assert_allclose(plan[..., 1], 0.2, rtol=1e-6)
    np.testing.assert_allclose(plan[..., 0], -0.2, rtol=1e-6)


# Files and bad input.


@pytest.mark.parametrize("head", HEADS)
def test_a_policy_comes_back_from_its_file_bit_for_bit(head, tmp_path):
    agent, _ = agent_laws.update(agent_of(head), chunks(0, 5, CHUNK), KEY)
    save_tree(tmp_path / "base.safetensors", agent)
    back = load_tree(tmp_path / "base.safetensors", agent_of(head, jax.random.key(1)))
    assert equal(agent, back)


@pytest.mark.parametrize("executed", [0, 9])
def test_more_executed_actions_than_a_chunk_has_are_refused(executed):
    with pytest.raises(ValueError, match=f"executed = {executed}, chunk = 8"):
        ChunkedBCConfig(executed=executed)


def test_a_flow_without_steps_is_refused():
    with pytest.raises(ValueError, match="flow_steps must be at least 1, got 0"):
        ChunkedBCConfig(flow_steps=0)


# Learning.


def test_a_flow_keeps_two_ways_apart_where_a_regressor_drives_between_them():
    """Half of the chunks go left all the way, half go right, from one observation.

    Euler's error counts here: 4 steps leave 9 % of the plans between the two, 16 leave 2 %.
    """
    rng = np.random.default_rng(0)
    side = np.where(rng.random((256, 1, 1)) < 0.5, -1.0, 1.0)
    batch = ActionChunk(
        jnp.zeros((256, OBS)),
        jnp.asarray(side * np.ones((256, CHUNK, ACT)), jnp.float32),
        jnp.ones((256, CHUNK), bool),
    )

    @jax.jit
    def train(agent):
        body = lambda a, k: (a.update(batch, k)[0], None)  # noqa: E731
        return jax.lax.scan(body, agent, jax.random.split(KEY, 1_000))[0]

    sizes = {"hidden": (64, 64), "chunk": CHUNK, "executed": 1, "lr": 5e-3, "flow_steps": 16}
    identity, plans = (Normaliser.identity(OBS), ActionRange.identity(ACT)), {}
    for head in HEADS:
        config = ChunkedBCConfig(head=head, **sizes)
        agent = train(ChunkedBC.create(KEY, SPEC, config, *identity, total_steps=1_000))
        plans[head] = agent.plan(jnp.zeros((200, OBS)), jax.random.split(KEY, 200))
    whole = np.abs(np.mean(plans["flow"], axis=(1, 2)))
    assert np.mean(whole > 0.8) > 0.95
    assert 0.35 < np.mean(plans["flow"][:, 0, 0] > 0) < 0.65
    assert np.abs(plans["mse"]).max() < 0.2
