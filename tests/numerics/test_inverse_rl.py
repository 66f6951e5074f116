"""Inverse RL's mathematics: by hand, against exact tabular truth, and by central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from steelyard.emphasis import make_reduction
from steelyard.numerics.inverse_rl import bounded_reward, ipmd_reward_loss, mirror_step_loss

MEAN, WEIGHTED = make_reduction("mean"), make_reduction("weighted_mean")
POLICY, EXPERT = jnp.asarray([[1.0], [3.0]]), jnp.asarray([[4.0], [6.0]])
MIX = jnp.asarray([0.3, 0.9])


def linear_loss(w, policy=POLICY, expert=EXPERT, mix=MIX, reduction=MEAN, **options):
    return ipmd_reward_loss(lambda x: w * x[0], policy, expert, mix, reduction, **options)[0]


@pytest.mark.parametrize(("penalty", "value", "slope"), [(0.0, -1.5, -3.0), (1.0, -1.25, -2.0)])
def test_reward_loss_and_gradient_by_hand(penalty, value, slope):
    found = jax.value_and_grad(linear_loss)(jnp.asarray(0.5), gradient_penalty=penalty)
    np.testing.assert_allclose(found, (value, slope), rtol=1e-6)


def test_the_gradient_penalty_gives_the_linear_loss_a_minimum_at_one_and_a_half():
    slope = jax.grad(linear_loss)
    np.testing.assert_allclose(slope(jnp.asarray(1.5), gradient_penalty=1.0), 0.0, atol=1e-6)
    assert slope(jnp.asarray(1.4), gradient_penalty=1.0) < 0
    assert slope(jnp.asarray(1.6), gradient_penalty=1.0) > 0
    assert slope(jnp.asarray(1e5)) == -3.0  # without it there is none


def test_half_the_mean_square_by_hand():
    with_l2 = linear_loss(jnp.asarray(0.5), l2=2.0)  # 2 · ½ · ((0.25 + 2.25)/2 + (4 + 9)/2)
    np.testing.assert_allclose(with_l2, -1.5 + 7.75, rtol=1e-6)


def test_each_mean_is_over_its_own_rows_so_batch_sizes_do_not_matter():
    expected = jax.value_and_grad(linear_loss)(jnp.asarray(0.5), l2=1.0, gradient_penalty=1.0)
    for repeats in ((3, 3), (1, 4), (5, 1)):
        policy, expert = jnp.tile(POLICY, (repeats[0], 1)), jnp.tile(EXPERT, (repeats[1], 1))
        found = jax.value_and_grad(linear_loss)(
            jnp.asarray(0.5), policy, expert, l2=1.0, gradient_penalty=1.0
        )
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_count_rows_and_a_weight_of_zero_removes_one():
    poisoned = jnp.asarray([[4.0], [6.0], [1e9]])
    weights = jnp.asarray([1.5, 1.5, 0.0])
    found = linear_loss(
        jnp.asarray(0.5), expert=poisoned, expert_weights=weights, reduction=WEIGHTED
    )
    np.testing.assert_allclose(found, -1.5, rtol=1e-6)


def test_a_tail_reduction_emphasises_the_rows_that_lose_most():
    """The policy's highest rewards and the expert's lowest: ½ (3 - 4), not ½ (3 - 6)."""
    tail = make_reduction("cvar", alpha=0.5)
    np.testing.assert_allclose(linear_loss(jnp.asarray(0.5), reduction=tail), -0.5, rtol=1e-6)


def test_interpolated_rows_take_the_share_w_of_the_policys():
    """With r = x³ the slope at x_k = w x^π + (1-w) x^E is 3 x_k²."""
    mix = jnp.asarray([0.25])
    _, parts = ipmd_reward_loss(lambda x: x[0] ** 3, POLICY, EXPERT, mix, MEAN)
    x = 0.25 * 1.0 + 0.75 * 4.0
    np.testing.assert_allclose(parts["loss_reward_gradient_penalty"], (3 * x**2) ** 2, rtol=1e-5)


def test_the_absorbing_state_counts_once_for_each_row_that_ends():
    """Rewards 0.5 x, absorbing state at x = 10: ((1 + 3)/2 + 5)/3, (4 + 6)/2/2."""
    ends = (jnp.asarray([True, False]), jnp.asarray([False, False]))
    found = linear_loss(jnp.asarray(0.5), absorbed=jnp.asarray([10.0]), ends=ends)
    np.testing.assert_allclose(found, (0.5 + 1.5 + 5.0) / 3 - (2.0 + 3.0) / 2, rtol=1e-6)


def test_a_row_of_weight_zero_brings_no_absorbing_state():
    ends = (jnp.asarray([False, False]), jnp.asarray([False, True]))
    found = linear_loss(
        jnp.asarray(0.5),
        expert_weights=jnp.asarray([2.0, 0.0]),
        reduction=WEIGHTED,
        absorbed=jnp.asarray([10.0]),
        ends=ends,
    )
    np.testing.assert_allclose(found, 0.5 * (2.0 - 4.0), rtol=1e-6)


def test_penalty_and_its_gradient_are_finite_where_policy_equals_expert():
    def loss(w):
        reward = lambda x: bounded_reward(jnp.dot(w, x), 1.0)  # noqa: E731
        return ipmd_reward_loss(reward, rows, rows, MIX, MEAN, gradient_penalty=1.0)[0]

    rows = jnp.asarray([[0.0, 0.0], [1.0, -2.0]])
    for w in (jnp.zeros(2), jnp.asarray([0.3, -4.0])):
        value, grad = jax.value_and_grad(loss)(w)
        assert np.isfinite(value)
        assert np.isfinite(grad).all()


@pytest.mark.parametrize("bound", [1.0, 0.25, 7.0])
def test_a_bounded_reward_keeps_its_bound(bound):
    for raw in (-1e6, -1.0, 0.0, 3.0, 1e6, np.inf):
        assert abs(bounded_reward(jnp.asarray(raw, jnp.float32), bound)) <= bound
    np.testing.assert_allclose(bounded_reward(jnp.asarray(0.5), bound), bound * np.tanh(0.5))


MIRROR = {
    0.1: (0.5251, 0.2935, 0.1814),
    1.0: (0.6630, 0.2421, 0.0949),
    np.inf: (0.8668, 0.1173, 0.0159),
}


@pytest.mark.parametrize("step", MIRROR)
def test_the_mirror_steps_minimum_by_hand(step):
    before, q = np.log([0.5, 0.3, 0.2]), jnp.asarray([1.0, 0.0, -1.0])

    def objective(logits):
        log_prob = jax.nn.log_softmax(logits)
        previous = None if np.isinf(step) else jnp.asarray(before, log_prob.dtype)
        per_action = mirror_step_loss(log_prob, q, jnp.asarray(0.5), previous, float(step))
        return jnp.sum(jnp.exp(log_prob) * per_action)

    found = minimize(jax.jit(jax.value_and_grad(objective)), np.zeros(3), jac=True, tol=1e-9).x
    np.testing.assert_allclose(jax.nn.softmax(jnp.asarray(found)), MIRROR[step], atol=2e-4)


def test_a_huge_mirror_step_approaches_the_plain_one_and_a_tiny_one_stays():
    log_prob, q, alpha = jnp.asarray(-0.7), jnp.asarray(2.0), jnp.asarray(0.2)
    plain = mirror_step_loss(log_prob, q, alpha, None, np.inf)
    np.testing.assert_allclose(plain, 0.2 * -0.7 - 2.0)
    huge = mirror_step_loss(log_prob, q, alpha, jnp.asarray(-3.0), 1e9)
    np.testing.assert_allclose(huge, plain, rtol=1e-6)
    tiny = mirror_step_loss(log_prob, q, alpha, jnp.asarray(-3.0), 1e-3)
    np.testing.assert_allclose(tiny, plain + (-0.7 + 3.0) * 1e3, rtol=1e-6)


# Exact inverse RL: five states in a row, left and right, walls; everything in float64.

STATES, GAMMA = 5, 0.9
MOVES = np.zeros((STATES, 2, STATES))
for _state in range(STATES):
    MOVES[_state, 0, max(_state - 1, 0)] = MOVES[_state, 1, min(_state + 1, STATES - 1)] = 1.0


def soft_optimum(reward, alpha, value=None):
    """Policy, normalised occupancy, value of the soft-optimal policy, by soft policy iteration."""
    value = np.zeros(STATES) if value is None else value
    for _ in range(60):
        q = (reward + GAMMA * MOVES @ value) / alpha
        policy = np.exp(q - q.max(1, keepdims=True))
        policy /= policy.sum(1, keepdims=True)
        entropy = -(policy * np.log(policy + 1e-300)).sum(1)
        transition = np.einsum("sa,sat->st", policy, MOVES)
        inverse = np.linalg.inv(np.eye(STATES) - GAMMA * transition)
        before, value = value, inverse @ ((policy * reward).sum(1) + alpha * entropy)
        if np.abs(value - before).max() < 1e-15:
            break
    visits = (1 - GAMMA) * np.full(STATES, 1 / STATES) @ inverse
    return policy, visits[:, None] * policy, value


def true_reward():
    reward = np.zeros((STATES, 2))
    reward[3] = 1.0
    return reward


@functools.cache
def reward_gradient():
    """Gradient of the library's loss in a tabular reward, occupancies as weights."""
    one_hot, items = jnp.eye(2 * STATES), 2 * STATES

    def loss(theta, policy, expert):
        return ipmd_reward_loss(
            lambda x: jnp.dot(theta, x),
            one_hot,
            one_hot,
            jnp.zeros(1),
            WEIGHTED,
            policy_weights=policy * items,
            expert_weights=expert * items,
        )[0]

    return jax.jit(jax.grad(loss))


def inverse_rl(alpha, step, steps, report):
    """Plain gradient descent; occupancy gaps (L1) before the steps named in ``report``."""
    with jax.enable_x64(True):
        expert_policy, expert, _ = soft_optimum(true_reward(), alpha)
        theta, value, gaps = np.zeros((STATES, 2)), None, {}
        gradient = reward_gradient()
        for k in range(steps + 1):
            policy, occupancy, value = soft_optimum(theta, alpha, value)
            if k in report:
                gaps[k] = np.abs(occupancy - expert).sum()
            slope = np.asarray(gradient(theta.ravel(), occupancy.ravel(), expert.ravel()))
            assert slope.dtype == np.float64
            theta = theta - step * slope.reshape(theta.shape)
    return gaps, np.abs(policy - expert_policy).max(), theta


def test_exact_irl_recovers_the_experts_policy_but_not_its_reward():
    gaps, policy_error, theta = inverse_rl(1.0, 0.3, 2000, {0, 100, 2000})
    assert gaps[0] == pytest.approx(0.56, abs=5e-3)
    assert gaps[100] == pytest.approx(2.5e-3, rel=0.1)
    assert gaps[2000] < 1e-12
    assert policy_error < 5e-12
    correlation = np.corrcoef(theta.ravel(), true_reward().ravel())[0, 1]
    assert correlation == pytest.approx(0.58, abs=0.01)


def test_exact_irl_still_converges_at_a_low_temperature_with_a_small_step():
    gaps, *_ = inverse_rl(0.1, 0.3, 2000, {2000})
    assert gaps[2000] == pytest.approx(3e-4, rel=0.1)


def test_a_reward_step_that_is_large_against_the_temperature_gets_stuck():
    gaps, *_ = inverse_rl(0.1, 1.0, 400, {100, 200, 400})
    for gap in gaps.values():
        assert gap == pytest.approx(0.83, abs=0.01)


def test_danskin_the_duals_slope_is_the_difference_of_occupancies():
    alpha, h = 0.5, 1e-5
    theta = np.random.default_rng(0).normal(size=(STATES, 2))
    _, expert, _ = soft_optimum(true_reward(), alpha)

    def dual(theta):
        _, _, value = soft_optimum(theta, alpha)
        return (1 - GAMMA) * value.mean() - (expert * theta).sum()

    with jax.enable_x64(True):
        _, occupancy, _ = soft_optimum(theta, alpha)
        slope = reward_gradient()(theta.ravel(), occupancy.ravel(), expert.ravel())
    np.testing.assert_allclose(slope, (occupancy - expert).ravel(), atol=1e-15)
    differences = [
        (dual(theta + h * unit) - dual(theta - h * unit)) / (2 * h)
        for unit in np.eye(2 * STATES).reshape(-1, STATES, 2)
    ]
    np.testing.assert_allclose(slope, differences, atol=3e-11)
