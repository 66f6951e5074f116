"""The running tail: a threshold tracked across batches."""

import jax
import jax.numpy as jnp
import numpy as np
from loss_emphasis_arms import near, reduce, steady
from scipy.stats import norm

from steelyard.emphasis import LossEmphasis, Tail


def running(**settings):
    return steady(Tail(0.25), estimator="running", **settings)


def test_the_first_batch_is_weighted_as_a_batch_and_sets_the_threshold():
    value, _, state, info = reduce(running(), np.arange(8.0, 0, -1))
    near(value, 7.5)
    near(info.weights, [4, 4] + 6 * [0])
    near(state.threshold, 7)


def test_later_batches_are_weighted_by_the_threshold_and_move_it_by_hand():
    state = reduce(running(), np.arange(8.0, 0, -1))[2]
    losses = np.array([9.0, 7.5, 7.2, 7, 3, 2, 1, 0])
    value, slope, after, info = reduce(running(), losses, None, state)
    # Three of eight are above 7, the share wanted is 0.25.
    near(info.weights, 3 * [4] + 5 * [0])
    near(value, (9 + 7.5 + 7.2) * 4 / 8)
    near(slope, np.asarray(info.weights) / 8)
    spread = (0.99 * 2 + np.abs(losses - losses.mean()).mean()) / 1.99
    near(after.threshold, 7 + 0.2 * spread * (3 / 8 - 0.25))


def test_nothing_above_the_threshold_gives_no_loss_and_lowers_it():
    state = reduce(running(), np.arange(8.0, 0, -1))[2]
    value, slope, after, info = reduce(running(), np.ones(8), None, state)
    assert value == 0
    assert (slope == 0).all()
    assert (info.k_used, info.ess) == (0, 0)
    assert after.threshold < 7


def test_the_mean_weight_is_capped():
    # All of the batch above the threshold: 1/alpha = 20 would be the mean weight.
    arm = steady(Tail(0.05), estimator="running")
    state = reduce(arm, np.linspace(0, 1, 8))[2]
    info = reduce(arm, np.full(8, 3.0), None, state)[-1]
    near(info.weights, 5.0)
    near(
        reduce(steady(Tail(0.05), estimator="running", cap=9.0), np.full(8, 3.0), None, state)[0],
        27,
    )


def test_the_threshold_reaches_the_quantile_and_the_tail_loses_its_bias():
    # Lognormal, sigma 1, alpha 0.2, batches of 16: the batch's own tail is 4.6 % too low.
    arm = steady(Tail(0.2), estimator="running")
    losses = jnp.exp(jax.random.normal(jax.random.key(0), (8, 4000, 16)))

    @jax.jit
    @jax.vmap
    def run(losses):
        def step(state, batch):
            _, state, info = arm(batch, None, state, 1.0)
            return state, (state.threshold, info.emphasised, jnp.mean(info.weights))

        return jax.lax.scan(step, arm.start(), losses)[1]

    threshold, value, mean = (np.asarray(x)[:, 500:].mean() for x in run(losses))
    truth = np.exp(0.5) * norm.cdf(1 - norm.isf(0.2)) / 0.2
    near(threshold, np.exp(norm.isf(0.2)), 0.06)
    near(mean, 1.0, 0.01)
    near(value / truth, 1.0, 0.02)


def test_without_emphasis_it_is_the_plain_mean_bit_for_bit_at_any_time():
    arm, state = LossEmphasis(Tail(0.2), estimator="running"), None
    rng = np.random.default_rng(0)
    for progress in (0.0, 0.1, 0.2):
        losses = rng.lognormal(size=21).astype(np.float32)
        value, slope, state, info = reduce(arm, losses, None, state, progress, padded=False)
        assert value == jax.jit(jnp.mean)(losses)
        assert (info.weights == 1).all()
        near(state.threshold, losses.min())
    # The annealing then starts from a threshold below everything.
    assert float(reduce(arm, losses, None, state, 0.3)[-1].k_used) == 20


def test_groups_are_tracked_by_their_means():
    arm = steady(Tail(0.5), estimator="running", group="trajectory", num_groups=7)
    _, _, state, _ = reduce(arm, [1.0, 3, 4, 6], [0, 0, 1, 1])
    near(state.threshold, 5)
    near(reduce(arm, [9.0, 3, 4, 6], [0, 0, 1, 1], state)[-1].weights, [2, 2, 0, 0])
