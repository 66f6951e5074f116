"""The plane with a hole: its rules by hand, and a base policy whose success is predicted."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.envs.pegplane import (
    BASE_SUCCESS,
    DEPTH_M,
    HORIZON,
    PLAY_M,
    PegPlaneEnv,
    PegState,
    begin,
    move,
    reading_policy,
)

begin, move = jax.jit(begin), jax.jit(move)

DOWN = jnp.array([0.0, -1.0, 0.0])


def state(x, z, angle, velocity=(0.0, 0.0, 0.0)):
    pose, zero = jnp.array([x, z, angle], jnp.float32), jnp.zeros((), jnp.int32)
    return PegState(pose, jnp.array(velocity, jnp.float32), jnp.zeros(()), zero, zero, zero)


def after(start, action, steps):
    for _ in range(steps):
        start, success, late = move(start, action)
    return start, bool(success), bool(late)


def played(policy, envs):
    """Success and length of the first episode of each environment."""
    env = PegPlaneEnv("PegPlane-v0", range(envs))
    observation = env.reset()
    success, length = np.zeros(envs, bool), np.full(envs, HORIZON)
    open_ = np.ones(envs, bool)
    for t in range(HORIZON):
        step = env.step(policy(observation))
        success |= open_ & step.terminated
        length[open_ & step.ended] = t + 1
        open_ &= ~step.ended
        observation = step.observation
    assert not open_.any()
    return success, length


def test_the_prediction_is_the_share_of_readings_within_the_play():
    assert pytest.approx(math.erf(2 / (4 * math.sqrt(2))), abs=1e-6) == BASE_SUCCESS


def test_the_base_succeeds_as_predicted():
    success, _ = played(reading_policy, 10_000)
    error = math.sqrt(BASE_SUCCESS * (1 - BASE_SUCCESS) / 10_000)
    assert abs(success.mean() - BASE_SUCCESS) < 3 * error


def test_one_that_sees_the_hole_always_succeeds():
    def exact(observation):
        return reading_policy(np.concatenate([observation[:, :1], observation[:, :1],
                                              observation[:, 2:]], axis=1))  # fmt: skip

    success, length = played(exact, 500)
    assert success.all()
    assert length.max() <= 40


def test_the_floor_stops_a_peg_beside_the_hole_and_one_that_is_tilted():
    for x, angle in ((PLAY_M + 1e-4, 0.0), (0.0, 0.031), (-0.01, 0.0)):
        end, success, _ = after(state(x, 0.02, angle), DOWN, 30)
        assert float(end.pose[1]) == 0.0
        assert not success
    end, success, _ = after(state(PLAY_M - 1e-4, 0.02, 0.029), DOWN, 30)
    assert success
    assert float(end.pose[1]) <= -DEPTH_M


def test_in_the_hole_the_walls_hold_the_peg():
    end, _, _ = after(state(0.0, -0.01, 0.0), jnp.array([1.0, 0.0, 1.0]), 10)
    np.testing.assert_allclose(end.pose, [PLAY_M, -0.01, 0.03], atol=1e-7)


def test_the_tip_follows_its_command_with_a_lag():
    one, _, _ = move(state(0.05, 0.05, 0.0), jnp.array([1.0, 0.0, 0.0]))
    two, _, _ = move(one, jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose([one.velocity[0], two.velocity[0]], [0.003, 0.0045], rtol=1e-4)


def test_what_an_episode_draws_follows_from_seed_and_number_alone():
    a, b = begin(jnp.asarray(3), jnp.asarray(2)), begin(jnp.asarray(3), jnp.asarray(2))
    np.testing.assert_array_equal(a.pose, b.pose)
    others = [begin(jnp.asarray(s), jnp.asarray(e)).pose for s, e in ((3, 1), (4, 2))]
    assert all(not np.array_equal(a.pose, other) for other in others)
    envs = [PegPlaneEnv("PegPlane-v0", [5, 6]) for _ in range(2)]
    [env.reset() for env in envs]
    rng = np.random.default_rng(0)
    seen = []
    for env in envs:  # other actions, the same starts
        steps = [env.step(rng.uniform(-1, 1, (2, 3)).astype(np.float32)) for _ in range(HORIZON)]
        seen.append(steps[-1].observation)
    np.testing.assert_array_equal(seen[0][:, 4:], seen[1][:, 4:])


def test_nothing_but_ending_at_success_is_offered():
    with pytest.raises(ValueError, match="on_success is 'terminate', got 'continue'"):
        PegPlaneEnv("PegPlane-v0", [0], on_success="continue")
