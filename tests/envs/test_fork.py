"""The fork: walls hold, gate A leads on, gate B does not, and its reward says when it is over."""

import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.envs.fork import (
    GATES,
    GOAL,
    GOAL_RADIUS,
    HORIZON,
    POCKET,
    STEP,
    ForkEnv,
    ForkState,
    fork_spec,
    move,
)
from steelyard.envs.registry import make_env


def at(x, y):
    nothing = jnp.zeros((), jnp.int32)
    return ForkState(jnp.array([x, y], jnp.float32), jnp.zeros(2), nothing, nothing, nothing)


def moved(x, y, *action):
    return np.asarray(move(at(x, y), jnp.array(action, jnp.float32))[0].place)


@pytest.mark.parametrize("y", [-0.9, 0.0, 0.1, 0.2, 0.6, 0.9])
def test_the_wall_holds_in_both_directions_where_no_gate_is(y):
    np.testing.assert_allclose(moved(-0.01, y, 1.0, 0.0), [-0.01, y], rtol=1e-6)
    np.testing.assert_allclose(moved(0.01, y, -1.0, 0.0), [0.01, y], rtol=1e-6)


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_lets_through(gate):
    y = sum(GATES[gate]) / 2
    assert moved(-0.01, y, 1.0, 0.0)[0] == pytest.approx(-0.01 + STEP, abs=1e-6)


def test_the_pocket_is_closed_on_its_three_sides():
    depth, (low, high) = POCKET
    middle = (low + high) / 2
    np.testing.assert_allclose(moved(depth - 0.01, middle, 1.0, 0.0), [depth - 0.01, middle])
    np.testing.assert_allclose(moved(0.2, high - 0.01, 0.0, 1.0), [0.2, high - 0.01], rtol=1e-6)
    np.testing.assert_allclose(moved(0.2, low + 0.01, 0.0, -1.0), [0.2, low + 0.01], rtol=1e-6)


def test_a_wall_stops_one_part_of_a_step_and_not_the_other():
    place = moved(-0.01, 0.0, 1.0, 0.5)
    np.testing.assert_allclose(place, [-0.01, STEP / 2], rtol=1e-5)


def test_reward_is_minus_one_a_step_and_nothing_at_the_goal():
    env = ForkEnv("Fork-v0", list(range(16)))
    seen, lengths = env.reset(), np.zeros(16, int)
    open_still, paid = np.ones(16, bool), np.zeros(16)
    for _ in range(HORIZON):
        through = seen[:, 0] > 0.05
        level = np.abs(seen[:, 1] - 0.4) < 0.1
        target = np.where(through[:, None], np.array(GOAL), np.array([0.2, 0.4]))
        target[:, 0] = np.where(through | level, target[:, 0], -0.3)
        step = env.step(np.clip((target - seen[:, :2]) / STEP, -1, 1).astype(np.float32))
        lengths += open_still
        paid += np.where(open_still, step.reward, 0.0)
        np.testing.assert_array_equal(step.reward, np.where(step.terminated, 0.0, -1.0))
        near = np.linalg.norm(step.next_observation[:, :2] - np.array(GOAL), axis=1)
        np.testing.assert_array_equal(step.terminated, near <= GOAL_RADIUS)
        open_still &= ~step.ended
        seen = step.observation
    assert not open_still.any()
    np.testing.assert_allclose(paid, 1 - lengths)
    assert lengths.max() < 45


def test_the_pocket_is_a_dead_end():
    env = ForkEnv("Fork-v0", [3, 4])
    seen = env.reset()
    for _ in range(HORIZON):
        target = np.where(seen[:, :1] > 0.05, np.array([GOAL]), np.array([[0.2, -0.4]]))
        step = env.step(np.clip((target - seen[:, :2]) / STEP, -1, 1).astype(np.float32))
        assert not step.terminated.any()
        seen = step.observation


def test_it_goes_by_its_name():
    assert make_env("sparse/Fork-v0", [0]).spec == fork_spec()
    with pytest.raises(ValueError, match="did you mean 'sparse/Fork-v0'"):
        make_env("sparse/Frok-v0", [0])
