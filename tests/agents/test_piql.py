"""A reward from comparisons and IQL on it: by hand, on a chain, and on separable judgements."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.agents.piql import (
    PIQL,
    PIQLConfig,
    PreferenceReward,
    RewardConfig,
    expectile_loss,
)
from steelyard.data.normalisation import Normaliser
from steelyard.types import EnvSpec, PreferenceBatch, Segment, Transition

STATES = 8
SPEC = EnvSpec("chain", STATES, (-1.0,), (1.0,), 20, can_terminate=True)


def chain(states: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Where a step to the left or right leads; the right end is the goal."""
    return np.clip(states + moves, 0, STATES - 1)


def one_hot(states: np.ndarray) -> jax.Array:
    return jnp.asarray(np.eye(STATES, dtype=np.float32)[states])


@functools.cache
def played() -> tuple[np.ndarray, np.ndarray]:
    """Random walks of 6 steps: states and moves."""
    random = np.random.default_rng(0)
    states = np.zeros((200, 7), int)
    states[:, 0] = random.integers(0, STATES, 200)
    moves = random.choice([-1, 1], (200, 6))
    for step in range(6):
        states[:, step + 1] = chain(states[:, step], moves[:, step])
    return states, moves


@functools.cache
def learned_reward() -> PreferenceReward:
    """Taught by a judge who likes to be at the right end."""
    states, moves = played()
    worth = (states[:, 1:] == STATES - 1).sum(1)
    segments = Segment(
        one_hot(states[:, :-1]),
        jnp.asarray(moves[..., None], jnp.float32),
        jnp.ones(moves.shape, bool),
        jnp.zeros(moves.shape),
    )
    first, second = np.arange(0, 200, 2), np.arange(1, 200, 2)
    better = worth[first] >= worth[second]
    batch = PreferenceBatch(
        segments,
        jnp.asarray(np.where(better, first, second)),
        jnp.asarray(np.where(better, second, first)),
        jnp.asarray(np.where(worth[first] == worth[second], 0.5, 1.0), jnp.float32),
        jnp.ones(200),
    )
    config = RewardConfig(hidden=(32,), learning_rate=3e-3, members=2)
    reward = PreferenceReward.create(jax.random.key(0), SPEC, config, Normaliser.identity(STATES))
    update = jax.jit(PreferenceReward.update)
    _, before = update(reward, batch, jax.random.key(0))
    for step in range(300):
        reward, info = update(reward, batch, jax.random.key(step))
    assert float(info.metrics["train/reward_loss"]) < float(before.metrics["train/reward_loss"]) / 2
    assert float(info.metrics["train/reward_accuracy"]) > 0.95
    return reward


def test_expectile_by_hand():
    found = expectile_loss(jnp.array([2.0, -2.0]), 0.7)
    assert [float(x) for x in found] == pytest.approx([0.7 * 4, 0.3 * 4])


def test_the_order_of_rewards_is_recovered():
    reward = learned_reward()
    at = np.arange(1, STATES)
    right = jnp.ones((len(at), 1))
    found = np.asarray(jnp.mean(reward.reward(one_hot(at), right), axis=1))
    assert found[-2:].min() > found[:-2].max()  # the two states from which a step ends at the goal


def test_the_greedy_policy_on_the_learned_reward_is_optimal():
    states, moves = played()
    before, move, after = states[:, :-1].ravel(), moves.ravel(), states[:, 1:].ravel()
    action = jnp.asarray(move[:, None], jnp.float32)
    rewards = jnp.mean(learned_reward().reward(one_hot(before), action), axis=1)
    rewards = (rewards - rewards.mean()) / rewards.std()
    rows = Transition(one_hot(before), action, rewards, jnp.zeros(len(move), bool), one_hot(after))
    config = PIQLConfig(hidden=(32,), learning_rate=3e-3, gamma=0.9, tau=0.05, expectile=0.9)
    agent = PIQL.create(jax.random.key(1), SPEC, config, Normaliser.identity(STATES))
    update = jax.jit(PIQL.update)
    for step in range(500):
        agent, _ = update(agent, rows, jax.random.key(step))
    chosen = np.asarray(agent.act(one_hot(np.arange(STATES - 1)), jax.random.key(0), True))[:, 0]
    assert (chosen > 0).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [({"expectile": 1.0}, "expectile lies in"), ({"beta": 0.0}, "beta is above")],
)
def test_settings_that_cannot_work_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        PIQLConfig(**change)
