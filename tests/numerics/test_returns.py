"""Returns against hand-worked values and against sums written out by definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steelyard.numerics.returns import (
    discounted_returns,
    generalised_advantage_estimation,
    n_step_returns,
)

TIME, ENVS = 7, 2
numbers = hnp.arrays(np.float32, (TIME, ENVS), elements=st.integers(-8, 8).map(float))
flags = hnp.arrays(np.bool_, (TIME, ENVS), elements=st.sampled_from([False, False, True]))
discounts = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])


@st.composite
def rollouts(draw):
    terminated, truncated = draw(flags), draw(flags)
    valid = draw(st.one_of(st.none(), flags.map(np.logical_not)))
    return {
        "rewards": draw(numbers),
        "next_values": draw(numbers),
        "terminated": terminated,
        "truncated": truncated,
        "valid": valid,
    }


gae = jax.jit(generalised_advantage_estimation)
discounted = jax.jit(discounted_returns)
n_step = jax.jit(n_step_returns, static_argnames="n")


def on_device(rollout):
    return {k: jnp.asarray(counted(rollout) if k == "valid" else v) for k, v in rollout.items()}


def counted(rollout):
    return np.ones((TIME, ENVS), bool) if rollout["valid"] is None else rollout["valid"]


def brute_force(r, gamma, most):
    """Sum rewards from each row on, at most `most`, in float64, by walking forward."""
    valid, out = counted(r), np.zeros((TIME, ENVS))
    for t, e in np.ndindex(TIME, ENVS):
        if not valid[t, e]:
            continue
        for k in range(most):
            u = t + k
            out[t, e] += gamma**k * float(r["rewards"][u, e])
            if r["terminated"][u, e]:
                break
            cut = r["truncated"][u, e] or u == TIME - 1 or not valid[u + 1, e] or k == most - 1
            if cut:
                out[t, e] += gamma ** (k + 1) * float(r["next_values"][u, e])
                break
    return out


def brute_force_gae(r, values, gamma, lam):
    """Sum temporal differences from each row on, in float64, by walking forward."""
    valid, out = counted(r), np.zeros((TIME, ENVS))
    for t, e in np.ndindex(TIME, ENVS):
        for k in range(TIME - t):
            u = t + k
            if not valid[u, e]:
                break
            future = 0.0 if r["terminated"][u, e] else float(r["next_values"][u, e])
            delta = float(r["rewards"][u, e]) + gamma * future - float(values[u, e])
            out[t, e] += (gamma * lam) ** k * delta
            if r["terminated"][u, e] or r["truncated"][u, e]:
                break
    return out


@settings(max_examples=60, deadline=None)
@given(rollouts(), discounts)
def test_discounted_returns_equal_the_sum_written_out(rollout, gamma):
    got = discounted(**on_device(rollout), gamma=gamma)
    np.testing.assert_allclose(got, brute_force(rollout, gamma, TIME), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(rollouts(), discounts, st.integers(1, TIME + 1))
def test_n_step_returns_equal_the_sum_written_out(rollout, gamma, n):
    got = n_step(**on_device(rollout), gamma=gamma, n=n)
    np.testing.assert_allclose(got, brute_force(rollout, gamma, n), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(rollouts(), numbers, discounts, discounts)
def test_advantages_equal_the_sum_of_temporal_differences_written_out(rollout, values, gamma, lam):
    got, targets = gae(**on_device(rollout), values=values, gamma=gamma, lam=lam)
    expected = brute_force_gae(rollout, values, gamma, lam)
    np.testing.assert_allclose(got, expected, atol=2e-4)
    expected = np.where(counted(rollout), expected + values, 0)
    np.testing.assert_allclose(targets, expected, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(rollouts(), numbers, discounts, discounts)
def test_advantages_are_the_exponential_mixture_of_n_step_advantages(rollout, values, gamma, lam):
    # The identity of the paper (eq. 16) holds where the next row starts where this one led.
    values[1:] = rollout["next_values"][:-1]
    got, _ = gae(**on_device(rollout), values=values, gamma=gamma, lam=lam)
    by_length = [brute_force(rollout, gamma, n) - values for n in range(1, TIME + 1)]
    mixed = sum((1 - lam) * lam ** (n - 1) * by_length[n - 1] for n in range(1, TIME))
    # From TIME steps on every sum has been cut, so all longer ones are equal.
    mixed = mixed + lam ** (TIME - 1) * by_length[-1]
    np.testing.assert_allclose(got, np.where(counted(rollout), mixed, 0), atol=2e-4)


def column(*numbers, dtype=jnp.float32):
    return jnp.asarray(numbers, dtype)[:, None]


def no(length):
    return jnp.zeros((length, 1), bool)


def test_advantages_by_hand():
    # γ = λ = 0.5. Row 1 ends at the time limit, row 2 by termination, row 3 with the rollout.
    advantages, targets = generalised_advantage_estimation(
        rewards=column(1, 2, 3, 4),
        values=column(10, 20, 30, 40),
        next_values=column(20, 8, 99, 6),
        terminated=column(False, False, True, False, dtype=bool),
        truncated=column(False, True, False, False, dtype=bool),
        gamma=0.5,
        lam=0.5,
    )
    # δ = (1 + 10 - 10, 2 + 4 - 20, 3 - 30, 4 + 3 - 40) = (1, -14, -27, -33)
    np.testing.assert_allclose(advantages[:, 0], [1 - 14 / 4, -14, -27, -33])
    np.testing.assert_allclose(targets[:, 0], [7.5, 6, 3, 7])


def test_returns_by_hand():
    rewards, zeros = column(1, 1, 1), jnp.zeros((3, 1))
    last = column(False, False, True, dtype=bool)
    plain = discounted_returns(rewards, zeros, last, no(3), 0.5)
    np.testing.assert_allclose(plain[:, 0], [1.75, 1.5, 1])
    # A constant reward of 1 under a time limit is worth 1/(1-γ) in each row, cut or not.
    endless = discounted_returns(rewards, 2 + zeros, no(3), last, 0.5)
    np.testing.assert_allclose(endless[:, 0], [2, 2, 2])
    two = n_step_returns(rewards, column(8, 16, 32), no(3), no(3), 0.5, 2)
    np.testing.assert_allclose(two[:, 0], [1 + 0.5 + 4, 1 + 0.5 + 8, 1 + 16])


def test_a_masked_row_may_hold_anything_and_gets_zero():
    poison = column(1, jnp.nan, 1)
    valid = column(True, False, True, dtype=bool)
    given = {"terminated": no(3), "truncated": no(3), "gamma": 0.5, "valid": valid}
    advantages, targets = generalised_advantage_estimation(poison, poison, poison, lam=0.5, **given)
    np.testing.assert_allclose(advantages[:, 0], [0.5, 0, 0.5])
    np.testing.assert_allclose(targets[:, 0], [1.5, 0, 1.5])
    np.testing.assert_allclose(discounted_returns(poison, poison, **given)[:, 0], [1.5, 0, 1.5])
    np.testing.assert_allclose(n_step_returns(poison, poison, n=3, **given)[:, 0], [1.5, 0, 1.5])


def test_fewer_than_one_step_is_refused():
    with pytest.raises(ValueError, match="n is at least 1: got 0"):
        n_step_returns(column(1), column(1), no(1), no(1), 0.5, 0)
