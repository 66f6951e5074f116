"""SAC's targets, temperature and slow copies, by hand."""

import agent_laws
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agent_laws import SPEC, assert_only_moved, close, transitions

from steelyard.agents.sac import SAC, SACConfig, alpha_loss, soft_target
from steelyard.envs.probes import ProbeEnv, probe_spec
from steelyard.types import Transition

KEY = jax.random.key(0)


@pytest.mark.parametrize(("terminated", "expected"), [(False, 3.277), (True, 1.0)])
def test_soft_target_by_hand(terminated, expected):
    value = 2.0 - 0.2 * -1.5
    found = soft_target(jnp.asarray(1.0), jnp.asarray(terminated), jnp.asarray(value), 0.99)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def known_sac() -> SAC:
    """Critics that answer 2 and 3 everywhere; log pi = -1.5 where the noise is 0."""
    agent = SAC.create(KEY, probe_spec("truncation"), SACConfig(hidden=(), alpha_init=0.2))
    log_std = 1.5 - 0.5 * np.log(2 * np.pi)
    raw = np.arctanh((log_std + 5.0) / 3.5 - 1.0)
    zeros = [jnp.zeros_like(x) for x in (*agent.target_critics.weights, *agent.actor.net.weights)]
    return eqx.tree_at(
        lambda a: (
            *a.target_critics.weights,
            *a.actor.net.weights,
            a.target_critics.biases[0],
            a.actor.net.biases[0],
        ),
        agent,
        (*zeros, jnp.asarray([[2.0], [3.0]]), jnp.asarray([0.0, raw], jnp.float32)),
    )


@pytest.mark.parametrize(
    ("probe", "expected"),
    [("truncation", 3.277), ("termination", 1.0)],
)
def test_a_time_limit_bootstraps_and_a_termination_does_not(probe, expected):
    """The last step of an episode, reward 1, as the environment reports it."""
    env = ProbeEnv(probe, [0])
    observation = env.reset()
    for _ in range(5):
        before, step = observation, env.step(np.zeros((1, 1), np.float32))
        observation = step.observation
    assert step.ended.all()
    row = Transition(
        *(jnp.asarray(x[0]) for x in (before, np.zeros((1, 1), np.float32))),
        *(jnp.asarray(x[0]) for x in (step.reward, step.terminated, step.next_observation)),
    )
    np.testing.assert_allclose(known_sac()._target(row, jnp.zeros(1)), expected, rtol=1e-5)


def test_temperature_gradient_by_hand():
    loss = lambda x: alpha_loss(x, jnp.asarray([-0.5]), -1.0)[0]  # noqa: E731
    np.testing.assert_allclose(jax.grad(loss)(jnp.log(jnp.asarray(0.2))), 0.3, rtol=1e-6)


def test_the_temperature_falls_while_entropy_exceeds_its_target_and_rises_below():
    slope = jax.grad(lambda x, log_prob: alpha_loss(x, log_prob, -2.0)[0])
    assert slope(jnp.asarray(-1.0), jnp.asarray([1.0])) > 0  # entropy -1, above -2
    assert slope(jnp.asarray(-1.0), jnp.asarray([3.0])) < 0  # entropy -3, below -2


def example():
    config = SACConfig(hidden=(8,), batch_size=5, tau=0.25)
    return SAC.create(KEY, SPEC, config), transitions(0, 5)


def test_a_critic_step_moves_critics_and_their_slow_copies_only():
    agent, batch = example()
    after, _ = agent._critic_step(batch, KEY, None)
    moved = {"critics", "target_critics", "critic_state"}
    assert_only_moved(agent, after, moved)
    expected = jax.tree.map(lambda t, s: 0.75 * t + 0.25 * s, agent.target_critics, after.critics)
    assert close(after.target_critics, expected, 1e-6)


def test_an_actor_step_moves_actor_and_temperature_only():
    agent, batch = example()
    after, info = agent._actor_step(batch.observation, KEY, None)
    assert_only_moved(agent, after, {"actor", "actor_state", "log_alpha", "alpha_state"})
    assert info["entropy"] > -2.0  # the target, so the temperature falls
    assert after.log_alpha < agent.log_alpha


def test_a_fixed_temperature_stays():
    config = SACConfig(hidden=(8,), batch_size=5, learn_alpha=False, alpha_init=0.3)
    agent = SAC.create(KEY, SPEC, config)
    after, info = agent._actor_step(transitions(0, 5).observation, KEY, None)
    assert after.log_alpha == agent.log_alpha
    np.testing.assert_allclose(info["alpha"], 0.3, rtol=1e-6)


def test_an_update_takes_policy_delay_minibatches():
    """The reported errors are those of the second half of the rows, after the first half."""
    config = SACConfig(hidden=(8,), batch_size=5, policy_delay=2)
    agent, rows = SAC.create(KEY, SPEC, config), transitions(0, 10)
    keys = jax.random.split(KEY, (2, 2))[0]
    step, _ = agent._critic_step(jax.tree.map(lambda x: x[:5], rows), keys[0], None)
    _, info = step._critic_step(jax.tree.map(lambda x: x[5:], rows), keys[1], None)
    _, found = agent_laws.update(agent, rows, KEY)
    np.testing.assert_allclose(found.items["td_error"], info["td_error"], rtol=1e-5)


def test_the_actor_climbs_the_lower_critic_or_the_mean_of_both():
    """Critics answer 2 and 3 everywhere; without temperature the loss is minus their value."""
    for actor_q, value in (("min", 2.0), ("mean", 2.5)):
        config = SACConfig(hidden=(), alpha_init=1e-30, actor_q=actor_q)
        agent = SAC.create(KEY, SPEC, config)
        weights = [jnp.zeros_like(w) for w in agent.critics.weights]
        answers = jnp.array([[2.0], [3.0]])
        where = lambda a: (*a.critics.weights, a.critics.biases[-1])  # noqa: E731
        agent = eqx.tree_at(where, agent, (*weights, answers))
        _, info = agent._actor_step(transitions(0, 5).observation, KEY, None)
        np.testing.assert_allclose(info["loss_actor"], -value, rtol=1e-6)


def test_dropout_is_drawn_per_item_and_critic_in_training_and_absent_where_it_acts():
    config = SACConfig(hidden=(64,), critic_dropout=0.5)
    agent, row = SAC.create(KEY, SPEC, config), transitions(0, 1)
    observation, action = row.observation[0], row.action[0]
    keys = agent._dropout_keys(KEY, (2, 3))
    drawn = [agent._q(agent.critics, observation, action, key) for part in keys for key in part]
    assert len({float(q[0]) for q in drawn}) == len({float(q[1]) for q in drawn}) == 6
    many = jax.vmap(agent._q, (None, None, None, 0))(
        agent.critics, observation, action, jax.random.split(KEY, 4_000)
    )
    spread = np.std(np.asarray(many - jnp.mean(many, axis=0)[None]), axis=0)
    alike = np.corrcoef(np.asarray(many).T)[0, 1]
    assert (spread > 0.01).all()
    assert abs(alike) < 0.1  # each critic has units of its own left out
    first, second = (agent.act(row.observation, jax.random.key(i), True) for i in range(2))
    assert jnp.array_equal(first, second)


def test_the_pianists_options_change_networks_as_they_say():
    config = SACConfig(hidden=(8,), activation="gelu", critic_layer_norm=True)
    agent = SAC.create(KEY, SPEC, config)
    plain = SAC.create(KEY, SPEC, SACConfig(hidden=(8,)))
    assert agent.actor.net.activation is jax.nn.gelu
    assert agent.critics.activation is jax.nn.gelu
    assert agent.critics.scales is not None
    assert agent.actor.net.scales is None
    assert plain.critics.scales is None
    assert jnp.array_equal(agent.actor.net.weights[0], plain.actor.net.weights[0])


def test_a_share_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"critic_dropout lies in \[0, 1\): got 1.0"):
        SACConfig(critic_dropout=1.0)
