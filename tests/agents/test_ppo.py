"""Residual PPO: its parts by hand, what it leaves alone, and that each term has a gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import ACT, OBS, SPEC, equal, rollout_items

from steelyard.agents.ppo import (
    PPO,
    PPOConfig,
    log_ratio,
    policy_terms,
    value_losses,
)
from steelyard.numerics import gaussian
from steelyard.types import RolloutBatch

CONFIG = PPOConfig(hidden=(8, 8), n_iterations_train_only_value=0)
INPUTS = OBS + ACT


def create(seed=0, **changes):
    return PPO.create(jax.random.key(seed), SPEC, dataclasses.replace(CONFIG, **changes), None, 100)


def trained(agent, updates=5):
    batch = RolloutBatch(rollout_items(3, 16, INPUTS))
    for _ in range(updates):
        agent, _ = agent.update(batch, jax.random.key(0))
    return agent


OBSERVATION = jnp.asarray(np.random.default_rng(1).normal(size=(6, OBS)), jnp.float32)
BASE = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (6, ACT)), jnp.float32)
BOTH = jnp.concatenate([OBSERVATION, BASE], axis=1)


def test_an_untrained_policy_executes_the_base_exactly():
    np.testing.assert_array_equal(create().act(BOTH, jax.random.key(1), True), BASE)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_scale_of_zero_executes_the_base_exactly_whatever_was_learned(deterministic):
    agent = trained(create(action_scale=0.0))
    np.testing.assert_array_equal(agent.act(BOTH, jax.random.key(1), deterministic), BASE)


def test_exploration_has_the_size_that_scale_and_deviation_say():
    agent, many = create(action_scale=0.1), jnp.zeros((20_000, INPUTS))
    action = np.asarray(agent.act(many, jax.random.key(1), False))
    np.testing.assert_allclose(action.std(0), 0.1 * np.exp(-1.0), rtol=0.02)


def test_the_residual_is_scaled_by_the_bases_own_range():
    half = jnp.array([0.5, 0.01])
    agent = PPO.create(jax.random.key(0), SPEC, CONFIG, None, 1, (jnp.zeros(ACT), half))
    action = np.asarray(agent.act(jnp.zeros((20_000, INPUTS)), jax.random.key(1), False))
    np.testing.assert_allclose(action.std(0), 0.3 * np.exp(-1.0) * half, rtol=0.02)


def test_what_is_executed_stays_in_bounds_and_the_log_probability_is_of_what_was_drawn():
    agent = create(action_scale=10.0)
    features = agent.features(OBSERVATION, BASE)
    decision = agent.decide(features, BASE, jax.random.key(0), deterministic=False)
    assert float(jnp.max(jnp.abs(decision.action))) == 1.0
    expected = gaussian.log_prob(decision.residual, jnp.zeros((6, ACT)), jnp.full(ACT, -1.0))
    np.testing.assert_allclose(agent.log_prob(features, decision.residual), expected, rtol=1e-6)


def test_the_clipped_objective_by_hand():
    items = rollout_items(0, 4, INPUTS)
    agent = create()
    at = gaussian.log_prob(items.action, jnp.zeros((4, ACT)), agent.actor.log_std)
    ratio = jnp.array([1.5, 1.5, 0.5, 0.5])
    items = dataclasses.replace(
        items, log_prob=at - jnp.log(ratio), advantage=jnp.array([2.0, -2.0, 2.0, -2.0])
    )
    losses = policy_terms(agent.actor, items, agent.config).policy
    np.testing.assert_allclose(losses, [-2.4, 3.0, -1.0, 1.6], rtol=1e-5)
    far = dataclasses.replace(items, log_prob=jnp.full(4, -1e6))
    assert float(jnp.max(log_ratio(agent.actor, far))) == 20.0


def test_the_value_loss_by_hand_with_and_without_clipping():
    items = dataclasses.replace(
        rollout_items(0, 2, INPUTS),
        value=jnp.array([0.0, 0.0]),
        value_target=jnp.array([1.0, -1.0]),
    )
    agent = create()
    critic = dataclasses.replace(
        agent.critic, head=jnp.zeros(8), bias=jnp.asarray(0.5, jnp.float32)
    )
    plain = value_losses(critic, items, agent.config)
    np.testing.assert_allclose(plain, [0.125, 1.125], rtol=1e-6)
    clipped = value_losses(critic, items, dataclasses.replace(CONFIG, clip_vloss=True))
    np.testing.assert_allclose(clipped, [0.32, 1.125], rtol=1e-6)  # moved by 0.2 only


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({}, "actor"),
        ({}, "critic"),
        ({"residual_l1": 1.0, "zero": True}, "actor"),
        ({"residual_l2": 1.0, "zero": True}, "actor"),
        ({"ent_coef": 1.0, "learn_std": True, "zero": True}, "log_std"),
        ({"learn_std": True}, "log_std"),
    ],
)
def test_every_loss_term_has_a_gradient(settings, part):
    settings = dict(settings)
    items = rollout_items(3, 16, INPUTS)
    if settings.pop("zero", False):
        items = dataclasses.replace(items, advantage=jnp.zeros(16))
    agent = create(**settings)
    # Off its start, where the mean is 0 and with it the gradient of its size.
    agent = dataclasses.replace(
        agent, actor=dataclasses.replace(agent.actor, head=jnp.full((8, ACT), 0.1))
    )
    after, _ = agent.update(RolloutBatch(items), jax.random.key(0))
    moved = {
        "actor": not equal(after.actor.torso, agent.actor.torso),
        "critic": not equal(after.critic, agent.critic),
        "log_std": not equal(after.actor.log_std, agent.actor.log_std),
    }
    assert moved[part]
    assert moved["log_std"] == bool(settings.get("learn_std"))


def test_a_critics_gradient_a_thousand_times_larger_leaves_the_actors_step_as_it_is():
    batch = RolloutBatch(rollout_items(3, 16, INPUTS))
    one, large = (create(vf_coef=x).update(batch, jax.random.key(0))[0] for x in (1.0, 1e3))
    assert equal(one.actor, large.actor)
    assert not equal(one.critic, large.critic)


def test_the_first_iterations_train_the_critic_only():
    agent = trained(create(n_iterations_train_only_value=2))
    assert equal(agent.actor, create().actor)
    assert not equal(agent.critic, create().critic)
    later = dataclasses.replace(agent, iteration=jnp.asarray(2, jnp.int32))
    assert not equal(trained(later).actor, agent.actor)


def test_actor_and_critic_may_learn_from_draws_of_their_own():
    mine, theirs = rollout_items(3, 16, INPUTS), rollout_items(4, 8, INPUTS)
    shared, _ = create().update(RolloutBatch(mine), jax.random.key(0))
    own, _ = create().update(RolloutBatch(mine, theirs, jnp.ones(8)), jax.random.key(0))
    assert equal(shared.actor, own.actor)
    assert not equal(shared.critic, own.critic)
    alone, _ = create().update(RolloutBatch(theirs), jax.random.key(0))
    assert equal(own.critic, alone.critic)


def test_steps_follow_the_iteration_a_rise_for_the_actor_then_cosines():
    def at(iteration):
        return dataclasses.replace(create(), iteration=jnp.asarray(iteration, jnp.int32))

    assert float(at(0).learning_rate_actor()) == pytest.approx(3e-4 / 5)
    assert float(at(50).learning_rate_actor()) == pytest.approx(1.5e-4)
    assert float(at(0).learning_rate_critic()) == pytest.approx(1e-3)
    assert float(at(100).learning_rate_critic()) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.1}, r"discount must be in \[0, 1\], got 1.1"),
        ({"clip_coef": 0.0}, "clip_coef must be above 0"),
        ({"action_scale": -1.0}, "action_scale must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)
