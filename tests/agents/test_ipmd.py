"""IPMD: what each step sees and moves, absorbing states, average reward, equality with SAC."""

import dataclasses
import math

import agent_laws
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import ACT, OBS, SPEC, assert_only_moved, close, equal, transitions

from steelyard.agents.ipmd import IPMD, IPMDConfig, parse_policy_rows
from steelyard.agents.sac import SAC, SACConfig
from steelyard.nets import sample_tanh_normal, tanh_normal_log_prob
from steelyard.types import EnvSpec, ImitationBatch, RewardFreeTransition, Transition

KEY = jax.random.key(0)
ENDLESS = dataclasses.replace(SPEC, can_terminate=False)
SMALL = {"hidden": (8,), "reward_num_cells": (6,), "batch_size": 5, "expert_batch_size": 5}


def agent_of(spec=ENDLESS, **changes):
    return IPMD.create(KEY, spec, IPMDConfig(**(SMALL | changes)))


def batch_of(policy=0, demonstration=1, rows=5):
    return ImitationBatch(
        transitions(policy, rows, RewardFreeTransition),
        transitions(demonstration, rows, RewardFreeTransition),
    )


# What is refused.


@pytest.mark.parametrize("changes", [{"gamma": 1.0}, {"absorbing": False}])
def test_a_terminating_task_needs_a_discount_and_an_absorbing_state(changes):
    with pytest.raises(ValueError, match="example can terminate, and a reward of one sign"):
        agent_of(SPEC, **changes)
    agent_of(ENDLESS, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": 1.0, "absorbing": True}, "gamma=1 .* has no absorbing state"),
        ({"use_estimated_rewards_for_sac": False}, "always true.*steelyard train sac"),
        ({"mirror_step": 0.0}, "mirror_step is positive, or inf; got 0.0"),
        ({"demonstration_share": 1.5}, r"demonstration_share is in \[0, 1\]; got 1.5"),
        ({"batch_size": 64, "expert_batch_size": 8}, "takes 16 demonstration rows.* is 8"),
        ({"policy_rows": "latest"}, "'recent:N' with N ≥ 1.*got 'latest'"),
        ({"policy_rows": "resampled", "reward_input": "oao"}, "did not lead to.*got 'oao'"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        IPMDConfig(**changes)


@pytest.mark.parametrize(
    ("value", "expected"), [("replay", None), ("resampled", None), ("recent:2000", 2000)]
)
def test_policy_rows_parse(value, expected):
    assert parse_policy_rows(value) == expected


@pytest.mark.parametrize("value", ["", "recent", "recent:", "recent:0", "recent:-1", "recent:2.5"])
def test_malformed_policy_rows_are_refused_by_name(value):
    with pytest.raises(ValueError, match=rf"policy_rows is .*; got {value!r}"):
        parse_policy_rows(value)


# What the reward sees, and its bound.


@pytest.mark.parametrize("reward_max", [1.0, 4.0])
def test_the_reward_keeps_its_bound_at_huge_inputs(reward_max):
    agent = agent_of(reward_max=reward_max)
    for value in (-1e6, 1e6):
        assert abs(agent.reward_of(jnp.full(OBS + ACT, value))) <= reward_max
    np.testing.assert_allclose(jnp.exp(agent.log_alpha), 0.1 * reward_max, rtol=1e-6)


@pytest.mark.parametrize("kind", ["oa", "oao", "o", "next_o"])
def test_the_reward_depends_on_its_inputs_and_on_nothing_else(kind):
    agent = agent_of(reward_input=kind, demonstration_share=0.0)
    rows = transitions(0, 5, RewardFreeTransition)
    sees = {
        "observation": kind != "next_o",
        "action": kind in ("oa", "oao"),
        "next_observation": kind in ("oao", "next_o"),
    }
    for name, seen in sees.items():
        other = dataclasses.replace(rows, **{name: getattr(rows, name) * 0.5})
        assert equal(agent.estimated_rewards(rows), agent.estimated_rewards(other)) != seen, name


def test_policy_rows_carry_the_learned_reward_and_a_share_of_demonstrations():
    agent, batch = agent_of(demonstration_share=0.4), batch_of()
    rows = agent.rewarded_rows(batch)
    assert equal(rows.action[:2], batch.demonstration.action[:2])
    assert equal(rows.action[2:], batch.policy.action[:3])
    expected = jnp.concatenate(
        [
            agent.estimated_rewards(batch.demonstration)[:2],
            agent.estimated_rewards(batch.policy)[:3],
        ]
    )
    np.testing.assert_allclose(rows.reward, expected, rtol=1e-6)


def test_without_a_share_no_demonstration_reaches_the_critic():
    agent = agent_of(demonstration_share=0.0)
    rows, other = (agent.rewarded_rows(batch_of(0, seed)) for seed in (1, 2))
    assert equal(rows, other)


def test_a_mixed_reward_adds_the_tasks_to_policy_rows_only():
    plain, mixed = (
        agent_of(demonstration_share=0.4, env_reward_weight=weight) for weight in (0.0, 2.0)
    )
    batch = eqx.tree_at(lambda b: b.policy, batch_of(), transitions(0, 5))
    added = mixed.rewarded_rows(batch).reward - plain.rewarded_rows(batch).reward
    expected = 2.0 * jnp.pad(batch.policy.reward[:3], (2, 0))
    np.testing.assert_allclose(added, expected, atol=1e-6)


def test_fresh_rows_stand_for_the_policy_in_the_rewards_loss_only():
    agent, batch = agent_of(demonstration_share=0.0), batch_of()
    fresh = transitions(7, 5, RewardFreeTransition)
    _, parts, _ = agent._reward_step(dataclasses.replace(batch, fresh=fresh), KEY, None)
    expected = jnp.mean(agent.estimated_rewards(fresh))
    np.testing.assert_allclose(parts["estimated_reward_mean"], expected, rtol=1e-5)
    assert equal(
        agent.rewarded_rows(dataclasses.replace(batch, fresh=fresh)).action, batch.policy.action
    )


def test_resampled_policy_rows_ignore_the_actions_that_are_kept():
    batch = batch_of()
    other = eqx.tree_at(lambda b: b.policy.action, batch, -batch.policy.action)
    for rows, same in (("resampled", True), ("replay", False)):
        means = [
            agent_of(policy_rows=rows)._reward_step(b, KEY, None)[1]["estimated_reward_mean"]
            for b in (batch, other)
        ]
        assert equal(*means) == same, rows


# Absorbing states.


def constant_reward(agent, value):
    """Replace the learned reward by ``value`` everywhere."""
    zero = jax.tree.map(jnp.zeros_like, agent.reward)
    raw = jnp.arctanh(jnp.asarray([value / agent.config.reward_max], jnp.float32))
    return eqx.tree_at(lambda a: a.reward, agent, eqx.tree_at(lambda n: n.biases[-1], zero, raw))


def test_the_value_after_termination_is_the_absorbing_reward_for_ever():
    """r = 1, gamma = 0.9, r_abs = 0.5: 1 + 0.9 · 0.5/(1 - 0.9) = 5.5."""
    agent = constant_reward(agent_of(SPEC, gamma=0.9), 0.5)
    rows = agent.normalised(transitions(0, 5, RewardFreeTransition))
    ended = Transition(
        rows.observation[0],
        rows.action[0],
        jnp.asarray(1.0),
        jnp.asarray(True),
        rows.next_observation[0],
    )
    for noise in (jnp.zeros(ACT), jnp.ones(ACT)):
        np.testing.assert_allclose(agent._target(ended, noise), 5.5, rtol=1e-5)
    going_on = dataclasses.replace(ended, terminated=jnp.asarray(False))
    assert abs(agent._target(going_on, jnp.zeros(ACT)) - 5.5) > 1e-2


def test_what_follows_a_termination_is_the_absorbing_state():
    rows = transitions(0, 5, RewardFreeTransition)
    assert rows.terminated.any()
    assert not rows.terminated.all()
    seen = agent_of(SPEC).normalised(rows)
    assert seen.observation.shape == (5, OBS + 1)
    assert (seen.observation[:, -1] == 0).all()
    np.testing.assert_array_equal(seen.next_observation[:, -1], rows.terminated)
    ends = seen.next_observation[rows.terminated]
    assert (ends[:, :-1] == 0).all()
    np.testing.assert_allclose(
        seen.next_observation[~rows.terminated][:, :-1], rows.next_observation[~rows.terminated]
    )


def test_a_task_that_cannot_terminate_has_no_absorbing_bit():
    assert agent_of(ENDLESS).normalised(
        transitions(0, 5, RewardFreeTransition)
    ).observation.shape == (5, OBS)


# What each step moves.


def test_the_critics_loss_has_exactly_no_gradient_in_the_reward_network():
    agent, batch = agent_of(), batch_of()

    def critic_loss(parts):
        reward, critics = parts
        changed = eqx.tree_at(lambda a: (a.reward, a.critics), agent, (reward, critics))
        return changed._critic_step(changed.rewarded_rows(batch), KEY)[1]["loss_qvalue"]

    reward, critics = jax.grad(critic_loss)((agent.reward, agent.critics))
    assert all((g == 0).all() for g in agent_laws.leaves(reward))
    assert all((g != 0).any() for g in agent_laws.leaves(critics))


def test_each_step_moves_its_own_part_only():
    agent, batch = agent_of(learn_alpha=True, mirror_step=1.0), batch_of()
    rows = agent.rewarded_rows(batch)
    after, *_ = agent._reward_step(batch, KEY, None)
    assert_only_moved(agent, after, {"reward", "reward_state", "step"})
    after, *_ = agent._critic_step(rows, KEY)
    assert_only_moved(agent, after, {"critics", "target_critics", "critic_state"})
    after, *_ = agent._actor_step(rows.observation, batch.demonstration, KEY)
    moved = {"actor", "mirror_actor", "actor_state", "log_alpha", "alpha_state"}
    assert_only_moved(agent, after, moved)


TERMS = {"reward_loss_coeff": 0.0, "reward_gradient_penalty": 0.0, "reward_l2_coeff": 0.0}


@pytest.mark.parametrize("term", [None, *TERMS])
def test_each_term_of_the_rewards_loss_has_a_gradient_of_its_own(term):
    agent = agent_of(**(TERMS | ({term: 1.0} if term else {})))
    after, parts, _ = agent._reward_step(batch_of(), KEY, None)
    assert (parts["reward_gradient_norm"] > 0) == (term is not None)
    assert equal(after.reward, agent.reward) == (term is None)


def test_the_rewards_loss_is_finite_where_policy_and_expert_rows_are_equal():
    after, parts, _ = agent_of()._reward_step(batch_of(0, 0), KEY, None)
    assert all(np.isfinite(x).all() for x in agent_laws.leaves((after, parts)))


def test_a_reward_step_of_zero_never_trains_it():
    agent = agent_of(reward_lr=0.0)
    after, *_ = agent._reward_step(batch_of(), KEY, None)
    assert equal(after.reward, agent.reward)


def test_the_reward_learns_at_every_nth_critic_step():
    agent, moved = agent_of(reward_update_interval=3), []
    for _ in range(5):
        after, *_ = agent._reward_step(batch_of(), KEY, None)
        moved.append(not equal(after.reward, agent.reward))
        agent = after
    assert moved == [True, False, False, True, False]


def test_a_cloning_step_approaches_the_demonstrated_actions():
    agent, rows = agent_of(actor_lr=1e-2), transitions(1, 5, RewardFreeTransition)

    def error(agent):
        return jnp.mean((agent.act(rows.observation, KEY, deterministic=True) - rows.action) ** 2)

    after = agent
    for _ in range(3):
        after = after.clone_step(rows)
    assert error(after) < error(agent)
    assert_only_moved(agent, after, {"actor", "actor_state"})


# The actor's loss.


@pytest.mark.parametrize("step", [math.inf, 0.5])
def test_the_actors_loss_is_the_mirror_steps(step):
    """(alpha + 1/eta) log pi - (1/eta) log pi_k - min Q, from the networks' own outputs."""
    agent, rows = agent_of(mirror_step=step), transitions(0, 5, RewardFreeTransition)
    other = agent_of().clone_step(rows).actor
    if agent.mirror_actor is not None:
        agent = eqx.tree_at(lambda a: a.mirror_actor, agent, other)
    _, info = agent._actor_step(rows.observation, rows, KEY)
    losses = []
    for o, e in zip(rows.observation, jax.random.normal(KEY, (5, ACT)), strict=True):
        mean, log_std = agent.actor(o)
        action, log_prob = sample_tanh_normal(mean, log_std, e)
        q = min(net(jnp.concatenate([o, action]))[0] for net in unstack(agent.critics))
        before = tanh_normal_log_prob(mean + jnp.exp(log_std) * e, *other(o))
        losses.append((0.1 + 1 / step) * log_prob - before / step - q)
    np.testing.assert_allclose(info["loss_actor"], np.mean(losses), rtol=1e-5)


def unstack(nets):
    return [jax.tree.map(lambda x, i=i: x[i], nets) for i in range(2)]


def test_the_mirror_policy_follows_the_actor_slowly():
    agent, rows = agent_of(mirror_step=1.0, tau=0.25), transitions(0, 5, RewardFreeTransition)
    after, _ = agent._actor_step(rows.observation, rows, KEY)
    expected = jax.tree.map(lambda t, s: 0.75 * t + 0.25 * s, agent.mirror_actor, after.actor)
    assert close(after.mirror_actor, expected, 1e-6)


def test_the_cloning_term_adds_the_demonstrations_squared_error():
    rows, losses = transitions(1, 5, RewardFreeTransition), []
    for coefficient in (0.0, 3.0):
        agent = agent_of(bc_coef=coefficient)
        losses.append(agent._actor_step(rows.observation, rows, KEY)[1]["loss_actor"])
    error = (agent.act(rows.observation, KEY, deterministic=True) - rows.action) ** 2
    np.testing.assert_allclose(losses[1] - losses[0], 3.0 * np.mean(error), rtol=1e-4)


# Against SAC, and against tabular truth.


@pytest.mark.parametrize("learn_alpha", [True, False])
def test_with_the_true_reward_the_policys_update_equals_sacs_bit_for_bit(learn_alpha):
    shared = {"hidden": (8,), "batch_size": 5, "learn_alpha": learn_alpha, "alpha_init": 0.1}
    sac = SAC.create(KEY, ENDLESS, SACConfig(**shared))
    ipmd = IPMD.create(KEY, ENDLESS, IPMDConfig(**(SMALL | shared | {"demonstration_share": 0.0})))
    names = [f.name for f in dataclasses.fields(sac) if f.name not in ("config", "normaliser")]
    ipmd = dataclasses.replace(ipmd, **{name: getattr(sac, name) for name in names})

    sac_critic, sac_actor = jax.jit(SAC._critic_step), jax.jit(SAC._actor_step)
    ipmd_critic, ipmd_actor = jax.jit(IPMD._critic_step), jax.jit(IPMD._actor_step)
    unused = transitions(9, 5, RewardFreeTransition)
    for i in range(3):
        rows, (one, two) = transitions(i, 5), jax.random.split(jax.random.key(i))
        sac, _ = sac_critic(sac, rows, one, None)
        ipmd, *_ = ipmd_critic(ipmd, rows, one)
        sac, sac_info = sac_actor(sac, rows.observation, two, None)
        ipmd, ipmd_info = ipmd_actor(ipmd, rows.observation, unused, two)
        assert equal(sac_info, ipmd_info)
        for name in names:
            assert equal(getattr(sac, name), getattr(ipmd, name)), (i, name)


@pytest.fixture(scope="module")
def two_state_cycle():
    """Average-reward critics, tabular, on 0 → 1 → 0 with rewards (0, 1) + shift; alpha = 0."""
    spec = EnvSpec("cycle", 2, (-1.0,), (1.0,), 50, can_terminate=False)
    config = IPMDConfig(
        hidden=(), gamma=1.0, tau=1.0, alpha_init=1e-12, critic_lr=1e-2, average_reward_lr=1e-2
    )
    blank = IPMD.create(KEY, spec, config)
    blank = eqx.tree_at(
        lambda a: (a.critics, a.target_critics),
        blank,
        replace_fn=lambda t: jax.tree.map(jnp.zeros_like, t),
    )
    state = jnp.eye(2)

    @jax.jit
    def solve(rewards):
        none = jnp.zeros(2, bool)
        rows = Transition(state, jnp.zeros((2, 1)), rewards, none, state[::-1])

        def body(agent, key):
            agent, _, error = agent._critic_step(rows, key)
            return agent, error

        agent, errors = jax.lax.scan(body, blank, jax.random.split(KEY, 8000))
        return agent.average_reward, agent.critics.weights[0][0, :2, 0], errors[-1]

    return {shift: solve(jnp.asarray([0.0, 1.0]) + shift) for shift in (0.0, 7.0)}


def test_average_reward_of_a_two_state_cycle(two_state_cycle):
    average, q, error = two_state_cycle[0.0]
    np.testing.assert_allclose(average, 0.5, atol=2e-3)
    np.testing.assert_allclose(q[0] - q[1], -0.5, atol=4e-3)
    np.testing.assert_allclose(error, 0.0, atol=4e-3)


def test_a_constant_on_every_reward_moves_the_average_and_no_difference_of_values(two_state_cycle):
    (average, q, _), (shifted_average, shifted_q, _) = two_state_cycle.values()
    np.testing.assert_allclose(shifted_average - average, 7.0, atol=5e-3)
    np.testing.assert_allclose(shifted_q[0] - shifted_q[1], q[0] - q[1], atol=5e-3)


def test_centring_follows_the_mean_reward_and_takes_it_off_every_target():
    rows = transitions(3, 5)
    agent = agent_of(reward_centering=True, average_reward_lr=0.25)
    moved, metrics, _ = agent._critic_step(rows, KEY)
    expected = 0.25 * jnp.mean(rows.reward)
    np.testing.assert_allclose(metrics["average_reward"], expected, rtol=1e-5)
    item, noise = jax.tree.map(lambda x: x[0], rows), jnp.zeros(ACT)
    level = 0.3
    raised = eqx.tree_at(lambda a: a.average_reward, moved, jnp.asarray(level))
    neutral = eqx.tree_at(lambda a: a.average_reward, moved, jnp.asarray(0.0))
    difference = neutral._target(item, noise) - raised._target(item, noise)
    np.testing.assert_allclose(difference, level, rtol=1e-4)


def test_centring_treats_the_absorbing_state_like_any_other():
    agent = agent_of(SPEC, reward_centering=True)
    item = jax.tree.map(lambda x: x[0], transitions(3, 5))
    item = eqx.tree_at(lambda t: t.terminated, item, jnp.asarray(True))
    item = eqx.tree_at(
        lambda t: (t.observation, t.next_observation),
        item,
        (jnp.zeros(OBS + 1), jnp.zeros(OBS + 1)),
    )
    level, gamma = 0.3, agent.config.gamma
    raised = eqx.tree_at(lambda a: a.average_reward, agent, jnp.asarray(level))
    difference = agent._target(item, jnp.zeros(ACT)) - raised._target(item, jnp.zeros(ACT))
    np.testing.assert_allclose(difference, level / (1.0 - gamma), rtol=1e-4)
