"""Flow Q-learning over chunks: targets by hand, what reaches what, and a chain that is solved."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import KEY, SPEC, chunk_transitions, update

from steelyard.agents.acfql import ACFQL, ACFQLConfig
from steelyard.numerics.chunk_returns import chunk_return
from steelyard.types import ChunkBatch, ChunkTransition, EnvSpec

SETTINGS = {"hidden": (8,), "horizon_length": 3, "num_qs": 2, "flow_steps": 2}


def made(**changes):
    return ACFQL.create(KEY, SPEC, ACFQLConfig(**SETTINGS | changes))


def moved(agent, batch, key=KEY, weights=None):
    return update(agent, batch, key, weights)


def differ(left, right):
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


def test_one_to_ten_by_hand_stays_half_a_deviation_below_its_mean():
    q = jnp.arange(1.0, 11.0)
    found = {agg: float(made(q_agg=agg)._aggregate(q)) for agg in ("mean", "min", "lcb")}
    assert found["mean"] == 5.5
    assert found["min"] == 1.0
    assert found["lcb"] == pytest.approx(4.0639, abs=5e-5)


def test_a_target_is_the_return_and_the_value_where_the_chunk_led():
    agent, part = made(q_agg="mean"), chunk_transitions(0, 6, 3)
    target = agent._target(part, KEY)
    ended = np.asarray(part.discount) == 0
    assert ended.any()
    assert not ended.all()
    np.testing.assert_array_equal(target[ended], part.reward[ended])
    value = (target - part.reward)[~ended] / part.discount[~ended]
    chunk = jax.vmap(lambda o, k: agent._decide(agent.target_critics, o, k, False))(
        part.next_observation, jax.random.split(KEY, 6)
    )
    inputs = jnp.concatenate([part.next_observation, chunk], 1)
    q = jax.vmap(lambda x: jnp.mean(eqx.filter_vmap(lambda c: c(x))(agent.target_critics)))(inputs)
    np.testing.assert_allclose(value, q[~ended], rtol=1e-4, atol=1e-5)


def test_the_data_s_next_chunk_has_its_share_where_it_is_known():
    part = chunk_transitions(0, 6, 3)
    whole = chunk_transitions(2, 6, 3).actions
    known = jnp.array([True, False] * 3)
    part = dataclasses.replace(
        part, next_actions=whole, next_known=known, discount=jnp.full(6, 0.9)
    )
    plain = made(q_agg="mean")._target(part, KEY)
    mixed = {
        beta: made(q_agg="mean", use_weighted_target=True, beta=beta)._target(part, KEY)
        for beta in (1.0, 0.0, 0.5)
    }
    np.testing.assert_allclose(mixed[1.0], plain, rtol=1e-5)
    np.testing.assert_allclose(mixed[0.0][1::2], plain[1::2], rtol=1e-5)  # not known
    assert not np.allclose(mixed[0.0][::2], plain[::2])
    np.testing.assert_allclose(mixed[0.5], (mixed[0.0] + plain) / 2, rtol=1e-4, atol=1e-5)
    bare = dataclasses.replace(part, next_actions=None)
    with pytest.raises(ValueError, match="needs next_actions and next_known"):
        made(use_weighted_target=True)._target(bare, KEY)


@pytest.mark.parametrize("tail", ["batch", "zero", "repeat"])
def test_a_slot_that_was_not_played_holds_what_the_setting_says(tail):
    part = chunk_transitions(0, 6, 3)
    found = np.asarray(made(tail_actions=tail)._filled(part)).reshape(6, 3, -1)
    actions, mask = np.asarray(part.actions), np.asarray(part.mask)
    np.testing.assert_array_equal(found[mask], actions[mask])
    for row, slot in np.argwhere(~mask):
        expected = {
            "batch": actions[(row - 3) % 6, slot],
            "zero": np.zeros(2),
            "repeat": actions[row, mask[row].sum() - 1],
        }[tail]
        np.testing.assert_array_equal(found[row, slot], expected)


def test_what_was_not_played_reaches_neither_cloning_nor_return():
    agent, part = made(tail_actions="zero"), chunk_transitions(0, 6, 3)
    spoilt = dataclasses.replace(part, actions=jnp.where(part.mask[..., None], part.actions, 9.0))
    flow = (agent.flow, agent.policy)
    one, other = (agent._actor_terms(flow, p, KEY)["bc_flow_loss"] for p in (part, spoilt))
    ended = ~np.asarray(part.mask).all(1)
    # The flow's noisy input still holds the slots: rows without padding agree exactly.
    np.testing.assert_array_equal(one[~ended], other[~ended])
    np.testing.assert_array_equal(agent._filled(part), agent._filled(spoilt))


def test_each_term_reaches_its_own_network_and_no_other():
    agent, part = made(), chunk_transitions(0, 6, 3)

    def gradient(name):
        def term(actor):
            return jnp.mean(agent._actor_terms(actor, part, KEY)[name])

        flow, policy = jax.grad(term)((agent.flow, agent.policy))
        return tuple(any(np.any(x) for x in jax.tree.leaves(g)) for g in (flow, policy))

    assert gradient("bc_flow_loss") == (True, False)
    assert gradient("distill_loss") == (False, True)
    assert gradient("q_loss") == (False, True)


def test_critic_and_actor_may_draw_apart():
    agent, one, other = made(), chunk_transitions(0, 6, 3), chunk_transitions(1, 4, 3)
    shared, _ = moved(agent, ChunkBatch(one))
    apart, info = moved(agent, ChunkBatch(one, other))
    assert not differ(shared.critics, apart.critics)
    assert differ(shared.flow, apart.flow)
    assert info.items["td_error"].shape == (6,)
    assert info.items["actor_loss"].shape == (4,)


def test_the_error_of_each_chunk_is_that_of_the_update():
    agent, part = made(), chunk_transitions(0, 6, 3)
    _, info = moved(agent, ChunkBatch(part))
    target_key, _ = jax.random.split(KEY)
    np.testing.assert_allclose(agent.td_errors(part, target_key), info.items["td_error"], rtol=1e-5)


def test_the_q_loss_has_the_size_of_one_where_it_is_normalised():
    agent, part = made(normalize_q_loss=True), chunk_transitions(0, 6, 3)
    terms = agent._actor_terms((agent.flow, agent.policy), part, KEY)
    assert float(jnp.mean(jnp.abs(terms["q_loss"]))) == pytest.approx(1.0, rel=0.3)


def test_the_best_of_one_is_a_draw_from_the_flow():
    agent = made(actor_type="best-of-n", actor_num_samples=1)
    seen = chunk_transitions(0, 4, 3).observation
    plan = agent.plan(seen, KEY)
    keys = jax.random.split(KEY, 4)
    expected = [
        agent._flowed(agent.flow, jax.random.normal(k, (1, 6))[0], o)
        for k, o in zip(keys, seen, strict=True)
    ]
    np.testing.assert_allclose(plan.reshape(4, -1), jnp.stack(expected), rtol=1e-5, atol=1e-6)


def test_the_best_of_many_is_the_one_that_the_critics_prefer():
    seen = chunk_transitions(0, 4, 3).observation
    one = made(actor_type="best-of-n", actor_num_samples=1)
    many = dataclasses.replace(one, config=dataclasses.replace(one.config, actor_num_samples=16))

    def value(agent):
        chunk = agent.plan(seen, KEY).reshape(4, -1)
        inputs = jnp.concatenate([seen, chunk], 1)
        return jax.vmap(lambda x: jnp.mean(eqx.filter_vmap(lambda c: c(x))(agent.critics)))(inputs)

    assert (value(many) >= value(one) - 0.2).all()
    assert float(value(many).mean()) > float(value(one).mean())


def test_without_chunking_a_decision_is_one_action():
    agent, part = made(action_chunking=False), chunk_transitions(0, 6, 3)
    assert agent.plan(part.observation, KEY).shape == (6, 1, 2)
    after, _ = moved(agent, ChunkBatch(part))
    assert differ(after.flow, agent.flow)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon_length": 0}, "horizon_length must be at least 1, got 0"),
        ({"beta": 1.5}, r"beta must be in \[0, 1\], got 1.5"),
        ({"alpha": -1.0}, "alpha and rho must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ACFQLConfig(**settings)


def chain(length, chunk, gamma):
    """Every start of a deterministic chain of -1 a step, 0 in the last, which ends the task."""
    rewards = np.full(length + chunk, -1.0, np.float32)
    rewards[length - 1] = 0.0
    ends = np.arange(length + chunk) == length - 1
    rows = np.arange(length)[:, None] + np.arange(chunk)
    steps = jnp.asarray(length - np.arange(length))
    found = chunk_return(jnp.asarray(rewards[rows]), jnp.asarray(ends[rows]), steps, gamma)
    place = np.arange(length)
    after = np.minimum(place + chunk, length)
    seen = np.stack([place, after]) / length * 2 - 1
    return found, ChunkTransition(
        observation=jnp.asarray(seen[0], jnp.float32)[:, None],
        actions=jnp.zeros((length, chunk, 1)),
        mask=found.played,
        reward=found.reward,
        discount=found.discount,
        next_observation=jnp.asarray(seen[1], jnp.float32)[:, None],
    )


@pytest.mark.slow
def test_the_values_of_a_chain_are_right_at_all_starts_the_last_included():
    length, chunk, gamma = 20, 5, 0.99
    found, batch = chain(length, chunk, gamma)
    assert bool(found.trains_critic.all())
    config = ACFQLConfig(
        hidden=(64, 64), num_qs=2, q_agg="mean", lr=1e-3, tau=0.02, discount=gamma, flow_steps=2,
        alpha=10.0, tail_actions="zero",
    )  # fmt: skip
    agent = ACFQL.create(KEY, EnvSpec("chain", 1, (-1.0,), (1.0,), length, True), config)

    @jax.jit
    def train(agent):
        def step(agent, key):
            return agent.update(ChunkBatch(batch), key)[0], None

        return jax.lax.scan(step, agent, jax.random.split(KEY, 4_000))[0]

    agent = train(agent)
    inputs = jnp.concatenate([batch.observation, jnp.zeros((length, chunk))], 1)
    q = jax.vmap(lambda x: jnp.mean(eqx.filter_vmap(lambda c: c(x))(agent.critics)))(inputs)
    left = length - 1 - np.arange(length)
    true = -(1 - gamma**left) / (1 - gamma)
    np.testing.assert_allclose(q, true, atol=0.1)
