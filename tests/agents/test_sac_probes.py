"""SAC on tasks whose solution is known: values, actions, endings, entropy.

Each probe is played once with uniform actions, then learned off-policy; all probes of one config
train together under ``vmap``, so a config compiles once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.sac import SAC, SACConfig
from steelyard.envs.probes import PROBES, ProbeEnv, probe_spec
from steelyard.nets import q_values
from steelyard.types import Transition

GAMMA = 0.9
SOLVED = ("action-reward", "two-step", "observation-reward", "observation-action")
SOLVED += ("truncation", "termination")


def played(name: str, steps: int = 80, envs: int = 5) -> Transition:
    """Transitions of uniform random actions, ``[steps * envs]``."""
    env, rng, rows = ProbeEnv(name, range(envs)), np.random.default_rng(0), []
    observation = env.reset()
    for _ in range(steps):
        action = rng.uniform(-1, 1, (envs, 1)).astype(np.float32)
        step = env.step(action)
        rows.append((observation, action, step.reward, step.terminated, step.next_observation))
        observation = step.observation
    return Transition(*(jnp.asarray(np.concatenate(column)) for column in zip(*rows, strict=True)))


@functools.partial(jax.jit, static_argnums=(0, 3))
def train(config, rows, key, updates):
    """Learners of all probes, from their rows ``[probe, row, ...]``."""

    def one(rows):
        def body(agent, key):
            draw_key, update_key = jax.random.split(key)
            chosen = jax.random.randint(draw_key, (config.batch_size,), 0, rows.reward.shape[0])
            agent, info = agent.update(jax.tree.map(lambda x: x[chosen], rows), update_key)
            return agent, info.metrics["entropy"]

        agent = SAC.create(key, probe_spec("truncation"), config)
        return jax.lax.scan(body, agent, jax.random.split(key, updates))

    return jax.vmap(one)(rows)


def learned(config, names, updates):
    rows = jax.tree.map(lambda *xs: jnp.stack(xs), *map(played, names))
    agents, entropies = train(config, rows, jax.random.key(0), updates)
    return {
        name: (jax.tree.map(lambda x, i=i: x[i], agents), entropies[i])
        for i, name in enumerate(names)
    }


@pytest.fixture(scope="module")
def solved():
    config = SACConfig(
        hidden=(16, 16),
        batch_size=32,
        gamma=GAMMA,
        tau=0.05,
        actor_lr=3e-3,
        critic_lr=5e-3,
        alpha_init=0.01,
        learn_alpha=False,
    )
    return learned(config, SOLVED, 1500)


@pytest.mark.parametrize("name", SOLVED)
def test_the_value_is_the_predicted_one(solved, name):
    agent, predicted = solved[name][0], PROBES[name].predicted
    seen = jnp.asarray(predicted.observations)[:, None]
    action = agent.act(seen, jax.random.key(0), deterministic=True)
    values = jax.vmap(q_values, (None, 0, 0))(agent.critics, seen, action).min(1)
    np.testing.assert_allclose(values, predicted.values(GAMMA), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", [n for n in SOLVED if PROBES[n].predicted.best_actions])
def test_the_policys_mean_is_the_best_action(solved, name):
    agent, predicted = solved[name][0], PROBES[name].predicted
    seen = jnp.asarray(predicted.observations)[:, None]
    action = agent.act(seen, jax.random.key(0), deterministic=True)
    np.testing.assert_allclose(action[:, 0], predicted.best_actions, atol=0.05)


@pytest.fixture(scope="module")
def tuned():
    config = SACConfig(
        hidden=(16, 16),
        batch_size=32,
        tau=0.05,
        actor_lr=3e-3,
        critic_lr=5e-3,
        alpha_lr=1e-2,
        alpha_init=0.1,
        target_entropy=-1.0,
    )
    return learned(config, ("action-cost", "zero-reward"), 1500)


def test_a_tuned_temperature_holds_the_entropy_at_its_target(tuned):
    """r = -a²: then log σ = H̄ - ½ log 2πe and the temperature is 2σ²."""
    agent, entropy = tuned["action-cost"]
    assert np.mean(entropy[-500:]) == pytest.approx(-1.0, abs=0.05)
    mean, log_std = agent.actor(jnp.zeros(1))
    expected = -1.0 - 0.5 * np.log(2 * np.pi * np.e)
    np.testing.assert_allclose(mean, 0.0, atol=0.1)
    np.testing.assert_allclose(log_std, expected, atol=0.25)
    np.testing.assert_allclose(agent.log_alpha, np.log(2) + 2 * expected, atol=0.5)


def test_without_a_reward_entropy_stays_above_its_target_and_the_temperature_vanishes(tuned):
    agent, entropy = tuned["zero-reward"]
    assert np.mean(entropy[-500:]) > -1.0
    assert jnp.exp(agent.log_alpha) < 0.01  # it started at 0.1
