"""Judging scores and draws: what the measures say where the answer is known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.ppo import PPO, PPOConfig
from steelyard.emphasis.on_policy import CupidConfig
from steelyard.emphasis.samplers import Systematic
from steelyard.envs.pegplane import peg_plane_spec
from steelyard.training.cupid import Felt, feel, uniform
from steelyard.training.cupid_scorer import Scorer
from steelyard.training.histograms import BINS, histogram
from steelyard.training.on_policy_checks import concentrated, not_finite, remarks
from steelyard.training.rollout_items import CHUNK, Rollout, in_chunks, prepare
from steelyard.training.score_judging import (
    actor_gradient,
    agreement,
    felt_gradient,
    flips_found,
    gradient_spread,
    update_score,
    with_flips,
)

TIME, ENVS = 24, 8
KEY = jax.random.key(0)
AGENT = PPOConfig(
    hidden=(8,), n_iterations_train_only_value=0, learning_rate_actor=1e-3,
    actor_warmup_iterations=0,
)  # fmt: skip
IIF = CupidConfig(
    True, "influence", cupid_weighting="drop", cupid_through="losses",
    cupid_hessian="identity", cupid_target="advantage",
)  # fmt: skip


@pytest.fixture(scope="module")
def judged(compiler):
    """An agent whose mean is not zero, and items of made-up rollouts."""
    agent = PPO.create(KEY, peg_plane_spec(), AGENT, None, 10)
    head = 0.1 * jax.random.normal(KEY, agent.actor.head.shape)
    agent = eqx.tree_at(lambda a: a.actor.head, agent, head)
    keys = jax.random.split(KEY, 6)

    def normal(key, *shape):
        return jax.random.normal(key, (TIME, ENVS, *shape))

    observation = normal(keys[0], 8)
    ended = jax.random.bernoulli(keys[4], 0.15, (TIME, ENVS))
    success = ended & jax.random.bernoulli(keys[5], 0.5, (TIME, ENVS))
    none = jnp.zeros_like(ended)
    rollout = Rollout(
        observation, normal(keys[1], 3), normal(keys[2], 3), observation, normal(keys[1], 3),
        success.astype(jnp.float32), success, ended & ~success, success, ~none,
    )  # fmt: skip
    return agent, jax.jit(prepare)(agent, rollout)


def test_uniform_draws_are_unbiased_and_half_the_items_vary_more_than_three_quarters(judged):
    agent, items = judged
    felt = uniform(items.valid)
    count = TIME * ENVS
    small, large = (
        gradient_spread(agent, items, felt, count, size, 200, KEY)
        for size in (count // 4, count // 2)
    )
    assert small.bias < 3
    assert large.bias < 3
    assert small.variance > 1.5 * large.variance
    whole = gradient_spread(agent, items, felt, count, count, 10, KEY)
    assert whole.variance < 1e-6 * small.variance


def test_an_uncorrected_draw_is_biased_and_gradient_norms_are_not(judged):
    agent, items = judged
    none = Scorer.none(agent)
    reference = CupidConfig(
        True, cupid_value_error="identity", cupid_correction=0.0, cupid_floor=0.0
    )
    by_norm = CupidConfig(True, "gradnorm")
    found = {}
    for name, cupid in (("heuristic", reference), ("gradnorm", by_norm)):
        felt, _, _ = feel(cupid, agent, items, none, KEY, True)
        found[name] = gradient_spread(agent, items, felt, TIME * ENVS, 48, 400, KEY)
    plain = gradient_spread(agent, items, uniform(items.valid), TIME * ENVS, 48, 400, KEY)
    assert found["heuristic"].bias > 4
    assert found["gradnorm"].bias < 3
    assert found["gradnorm"].variance < plain.variance


def test_the_mean_gradient_of_corrected_draws_is_that_of_all_items(judged):
    agent, items = judged
    weights = items.valid.astype(jnp.float32)
    felt, _, _ = feel(CupidConfig(True), agent, items, Scorer.none(agent), KEY, True)
    whole = actor_gradient(agent, items.items, weights)
    np.testing.assert_allclose(felt_gradient(agent, items, felt), whole, rtol=1e-3, atol=1e-6)
    assert agreement(whole, 2.0 * whole) == pytest.approx(1.0, abs=1e-5)
    assert agreement(whole, -whole) == pytest.approx(-1.0, abs=1e-5)


def test_a_flip_turns_the_advantage_alone(judged):
    _, items = judged
    flipped = jnp.zeros_like(items.valid).at[3].set(True)
    spoilt = with_flips(items, flipped)
    sign = np.where(np.asarray(flipped), -1.0, 1.0)
    np.testing.assert_array_equal(spoilt.items.advantage, items.items.advantage * sign)
    np.testing.assert_array_equal(spoilt.items.features, items.items.features)


def test_flips_are_found_where_every_item_pulls_the_same_way_and_not_by_size(judged):
    agent, items = judged
    # Every action lies on the same side of the mean and pays the same: all gradients agree.
    same = dataclasses.replace(
        items,
        items=eqx.tree_at(
            lambda i: (i.action, i.advantage),
            items.items,
            (jnp.ones_like(items.items.action), jnp.ones_like(items.items.advantage)),
        ),
    )
    assert flips_found(IIF, agent, same, 0.1, KEY) > 0.75
    assert flips_found(CupidConfig(True), agent, same, 0.1, KEY) == pytest.approx(0.5, abs=0.2)


def test_influence_predicts_what_a_real_step_does(judged):
    agent, items = judged
    assert update_score(IIF, agent, items, 64, KEY) > 0.3


# -- what stands beside an update ------------------------------------------------------------


def test_a_histogram_counts_valid_values_between_their_ends():
    values, valid = jnp.array([0.0, 1.0, 1.0, 99.0]), jnp.array([True, True, True, False])
    found = histogram(values, valid)
    assert (float(found.low), float(found.high)) == (0.0, 1.0)
    assert found.counts.tolist() == [1.0, *[0.0] * (BINS - 2), 2.0]
    same = histogram(jnp.full(4, 2.0), jnp.ones(4, bool))
    assert float(same.counts.sum()) == 4.0


def test_the_first_number_that_is_none_is_named_by_time_and_environment(judged):
    _, items = judged
    felt = uniform(items.valid)
    stacked = jax.tree.map(lambda x: x[None], (items, felt))
    assert not_finite(*stacked) == [""]
    spoilt = eqx.tree_at(
        lambda p: p.items.advantage, items, items.items.advantage.at[ENVS + 2].set(jnp.nan)
    )
    stacked = jax.tree.map(lambda x: x[None], (spoilt, felt))
    assert not_finite(*stacked) == ["advantage of (1, 2) is nan"]


def test_weight_on_few_items_is_told_with_the_heaviest(judged):
    _, items = judged
    p = jnp.full(TIME * ENVS, 1e-9).at[2 * ENVS + 5].set(1.0)
    felt = Felt(Systematic().table(p / p.sum()), uniform(items.valid).critic, jnp.ones(TIME * ENVS))
    stacked = jax.tree.map(lambda x: x[None], (items, felt))
    (text,) = concentrated(*stacked, np.array([1 / (TIME * ENVS)]))
    assert "leave 0.52% of the items effective" in text
    assert "(time, env): (2, 5)," in text
    assert concentrated(*stacked, np.array([0.5])) == [""]


def test_settings_that_say_the_same_twice_are_remarked_on():
    identity = CupidConfig(True, cupid_value_error="identity")
    assert "so the advantage counts 0.7" in remarks(PPOConfig(), identity)[0]
    assert "at gae_lambda = 1" in remarks(PPOConfig(gae_lambda=1.0), CupidConfig(True))[0]
    assert remarks(PPOConfig(), CupidConfig(True)) == []
    assert remarks(PPOConfig(), CupidConfig()) == []


def test_chunks_change_nothing_but_the_memory(monkeypatch, judged):
    agent, items = judged
    from steelyard.training import rollout_items

    def objective(actor):
        return jnp.sum(
            in_chunks(lambda part: jax.vmap(actor)(part.features).sum(1) ** 2, items.items)
        )

    whole = jax.grad(objective)(agent.actor)
    monkeypatch.setattr(rollout_items, "CHUNK", 50)
    assert CHUNK > TIME * ENVS > 50
    parts = jax.grad(objective)(agent.actor)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
