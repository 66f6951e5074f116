"""Values worked by hand, errors, and float32 at a million items."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from steelyard.emphasis import (
    Balanced,
    Drop,
    Proportional,
    Rank,
    Softmax,
    Tail,
    Uniform,
    Weighting,
    length_base,
    make_weighting,
)
from steelyard.emphasis.measures import water_fill


@eqx.filter_jit
def compiled(weighting, *arguments):
    return weighting.ratio(*arguments)


def ratio_of(weighting, *arguments):
    """Return the ratio from a program that is compiled once a class and shape."""
    return compiled(jax.tree.map(jnp.asarray, weighting), *arguments)


def near(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), expected, atol=tolerance)


def test_proportional_normalises_the_scores():
    scores = jnp.array([1.7, 0.7, 0.0, 0.65])
    near(Proportional()(scores), [0.5574, 0.2295, 0, 0.2131], 5e-5)
    near(Proportional(1.0, 0.2)(scores), [0.4959, 0.2336, 0.05, 0.2205], 5e-5)


def test_proportional_keeps_a_share_below_the_least_float():
    near(Proportional(0.1).ratio(jnp.array([1e-30, 1e30])), [2e-6, 2.0])
    small, large = Proportional(0.1)(jnp.array([1e-30, 1e30]))
    np.testing.assert_allclose(small / large, 1e-6, rtol=1e-5)


def test_ranks_share_the_mean_of_a_tied_block():
    scores = jnp.array([3.0, 1.0, 1.0, 0.0])
    near(ratio_of(Rank(), scores), [1.59599, 0.88409, 0.88409, 0.63582])
    near(Rank()(scores), [0.39900, 0.22102, 0.22102, 0.15896])


def test_ranks_answer_with_the_ratio_to_a_base_measure():
    scores, base = jnp.array([3.0, 1.0, 1.0, 0.0]), length_base(jnp.array([10, 20, 30, 40]))
    near(ratio_of(Rank(), scores, None, base), [1.87226, 1.03314, 1.03314, 0.74051])
    near(Rank()(scores, None, base), [0.18723, 0.20663, 0.30994, 0.29620])


def test_ranks_read_only_the_order():
    near(ratio_of(Rank(), jnp.array([1.0, 0, 0, 0])), [1.59599, 0.80134, 0.80134, 0.80134])


def test_a_valid_item_of_minus_infinity_ranks_before_no_masked_one():
    valid = jnp.array([True, False, True, True])
    ratio = ratio_of(Rank(1.0, 0.0), jnp.array([-jnp.inf, 9.0, 2.0, 1.0]), valid)
    near(ratio, np.array([1 / 3, 0, 1, 1 / 2]) / (11 / 18))


def test_softmax_has_the_temperature_that_was_given():
    scores = jnp.array([-1.0, 0.0, 1.0])
    for temperature, share in ((1.0, 0.6529), (2.0, 0.8644), (4.0, 0.9606)):
        ratio = ratio_of(Softmax(temperature=temperature), scores)
        near(3 / jnp.sum(ratio**2), share, 5e-5)


def test_softmax_finds_the_temperature_of_an_effective_sample_size():
    near(ratio_of(Softmax(ess=0.9), jnp.array([-1.0, 0, 1])), [0.6224, 0.9444, 1.4332], 5e-5)
    scores = jnp.array([0.3, -2.0, 5.0, 1.0, 0.2])
    base = length_base(jnp.array([4, 1, 2, 3, 3]))
    for scale, share in itertools.product((1e-20, 1.0, 1e20), (0.3, 0.99)):
        ratio = ratio_of(Softmax(ess=share), scale * scores, None, base)
        near(1 / jnp.sum(base * ratio**2), share)


def test_softmax_ess_cannot_go_below_the_ties_at_the_top():
    near(ratio_of(Softmax(ess=0.1), jnp.array([2.0, 2.0, 1.0, 0.0])), [2, 2, 0, 0])


def test_tail_carries_the_fractional_item():
    near(Tail(0.25)(jnp.arange(10.0, 0, -1)), [0.4, 0.4, 0.2] + 7 * [0])
    near(Tail(0.375)(jnp.array([4.0, 1, 3, 2])), [2 / 3, 0, 1 / 3, 0])


def test_tail_shares_ties_equally():
    near(Tail(0.5)(jnp.array([3.0, 3, 3, 1])), [1 / 3, 1 / 3, 1 / 3, 0])


def test_tail_counts_items_in_any_arithmetic():
    assert int(jnp.sum(Tail(0.07)(jnp.arange(100.0)) > 0)) == 7
    assert int(jnp.sum(Tail(0.05)(jnp.arange(10.0)) > 0)) == 1
    near(Tail(0.05, min_k=3)(jnp.arange(10.0)), 7 * [0] + 3 * [1 / 3])


def test_tail_is_the_maximum_of_the_linear_program_under_a_base():
    rng = np.random.default_rng(0)
    tail = eqx.filter_jit(lambda a, s, b: Tail(a).ratio(s, None, b))
    for _ in range(20):
        scores, lengths = rng.integers(0, 6, 8).astype(np.float32), rng.integers(1, 9, 8)
        base, alpha = lengths / lengths.sum(), rng.uniform(0.05, 1)
        ratio = tail(jnp.float32(alpha), jnp.asarray(scores), length_base(jnp.asarray(lengths)))
        best = linprog(-base * scores, A_eq=base[None], b_eq=[1], bounds=(0, 1 / alpha))
        near(np.sum(base * np.asarray(ratio) * scores), -best.fun)
        near(np.sum(base * np.asarray(ratio)), 1)
        assert float(ratio.max()) <= 1 / alpha * (1 + 1e-5)


def test_balanced_gives_clusters_equal_mass():
    labels = np.repeat([7, -2, 0, 3], [14, 3, 2, 1])
    first = np.array([0, 14, 17, 19])
    for tau, expected in (
        (0.0, [0.357143, 1.666667, 2.5, 5]),
        (0.5, [0.678, 1.464, 1.793, 2.536]),
        (1.0, [1, 1, 1, 1]),
    ):
        ratio = ratio_of(Balanced(labels, tau), jnp.zeros(20))
        near(ratio[first], expected, 5e-4)
    near(20**2 / jnp.sum(ratio_of(Balanced(labels, 0.0), jnp.zeros(20)) ** 2), 67.2 / 8, 1e-3)


def test_balanced_fills_what_the_cap_cuts_off_into_the_others():
    labels = np.repeat([0, 1, 2], [6, 1, 1])
    # Uncapped 4/9, 8/3, 8/3. At cap 2 the two small ones hold 4 of 8, the six others share 4.
    near(ratio_of(Balanced(labels, cap=2.0), jnp.zeros(8)), 6 * [2 / 3] + [2, 2])
    near(ratio_of(Balanced(labels, cap=1.0), jnp.zeros(8)), 8 * [1])


def test_water_filling_caps_again_what_filling_lifted_over_the_cap():
    # Cutting 4.0 to 1.5 lifts 1.4 to 1.98, which is over the cap as well.
    mass = jnp.array([0.1, 0.3, 0.6])
    ratio = jnp.array([4.0, 1.4, 0.3])
    filled = water_fill(ratio, mass, 1.5)
    near(filled, [1.5, 1.5, (1 - 0.4 * 1.5) / 0.6])


def test_drop_takes_the_lowest_share_of_the_negative_items():
    scores = jnp.array([-3.0, 4, -1, 0, -2, -5])
    near(ratio_of(Drop(0.5), scores), np.array([0, 1, 1, 1, 1, 0]) * 6 / 4)
    near(ratio_of(Drop(0.74), scores), np.array([0, 1, 1, 1, 1, 0]) * 6 / 4)
    near(ratio_of(Drop(1.0), scores), [0, 3, 0, 3, 0, 0])


def test_drop_keeps_ties_and_never_drops_all():
    near(ratio_of(Drop(0.5), jnp.array([-2.0, -2, -1, 1])), [1, 1, 1, 1])
    near(ratio_of(Drop(1.0), jnp.array([-2.0, -1, -1])), [0, 1.5, 1.5])
    assert int(jnp.sum(Drop(0.7)(-jnp.arange(1.0, 11)) == 0)) == 7


def test_drop_counts_the_share_in_base_mass():
    base = length_base(jnp.array([1, 4, 5]))
    near(ratio_of(Drop(0.2), jnp.array([-3.0, -2.0, 1.0]), None, base), np.array([0, 1, 1]) / 0.9)
    near(ratio_of(Drop(0.1), jnp.array([-3.0, -2.0, 1.0]), None, base), [1, 1, 1])


MILLION = {
    "uniform": Uniform(),
    "proportional": Proportional(),
    "rank": Rank(),
    "softmax": Softmax(ess=0.2),
    "tail": Tail(0.2),
    "drop": Drop(0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MILLION)
def test_a_million_items_sum_to_one_within_float32(name):
    values = jnp.abs(jax.random.cauchy(jax.random.key(0), (10**6,)))
    scores = values if name == "proportional" else values - 1
    p = np.asarray(jax.jit(MILLION[name])(scores), np.float64)
    assert abs(p.sum() - 1) < 1e-5
    assert (p >= 0).all()


@pytest.mark.slow
def test_ranks_of_a_million_items_equal_the_sum_in_float64():
    k = np.arange(1, 10**6 + 1, dtype=np.float64) ** -0.7
    expected = 0.05 + 0.95 * k / k.mean()
    ratio = jax.jit(Rank().ratio)(-jnp.arange(10**6, dtype=jnp.float32))
    np.testing.assert_allclose(np.asarray(ratio), expected, rtol=1e-5)


def test_an_annealed_option_compiles_once():
    traces = []

    @jax.jit
    def weigh(alpha, scores):
        traces.append(None)
        return Tail(alpha)(scores)

    for alpha in (1.0, 0.5, 0.2):
        near(weigh(jnp.float32(alpha), jnp.arange(10.0)), Tail(alpha)(jnp.arange(10.0)))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rnak", {}, "Did you mean 'rank'"),
        ("rank", {"pwer": 1.0}, "Did you mean 'power'"),
        ("tail", {}, r"missing: \['alpha'\]"),
        ("tail", {"alpha": 0.0}, r"Tail.alpha must be in \(0, 1\], got 0"),
        ("tail", {"alpha": float("nan")}, r"Tail.alpha must be in \(0, 1\], got nan"),
        ("tail", {"alpha": 0.5, "min_k": 0}, "Tail.min_k must be in"),
        ("rank", {"floor": 1.2}, r"Rank.floor must be in \[0, 1\], got 1.2"),
        ("proportional", {"power": -1}, "Proportional.power must be in"),
        ("drop", {"fraction": 2}, "Drop.fraction must be in"),
        ("softmax", {}, "exactly one of temperature and ess"),
        ("softmax", {"temperature": 1.0, "ess": 0.5}, "exactly one of temperature and ess"),
        ("softmax", {"temperature": 0.0}, r"Softmax.temperature must be in \(0, inf\]"),
        ("balanced", {"labels": np.zeros(3, int), "cap": 0.5}, "Balanced.cap must be in"),
    ],
)
def test_a_wrong_option_gets_one_clear_error(name, options, words):
    with pytest.raises(ValueError, match=words):
        make_weighting(name, **options)


@pytest.mark.parametrize(
    ("weighting", "arguments", "words"),
    [
        (Proportional(), ([1.0, -2.0],), "non-negative on every valid item; 1 of 2.*item 1: -2"),
        (Rank(), ([np.nan, 1.0],), "must be numbers on every valid item"),
        (Rank(), ([1.0, 2.0], [False, False]), "at least one item must be valid, got 0 of 2"),
        (Uniform(), ([1.0, 2.0], None, [0.5, 0.2]), "base must sum to 1 within 1e-4, got 0.7"),
        (Uniform(), ([1.0, 2.0], None, [1.5, -0.5]), "base must be finite and non-negative"),
        (Uniform(), ([1.0, 2.0], [True, False], [0.5, 0.5]), "base must be 0 on masked items"),
        (Uniform(), ([],), "needs at least one item"),
        (Balanced(np.zeros(3, int)), ([1.0, 2.0],), "got 3 labels for 2 items"),
    ],
)
def test_bad_input_gets_one_clear_error(weighting, arguments, words):
    scores, *rest = arguments
    given = [jnp.asarray(scores, jnp.float32)]
    given += [None if x is None else jnp.asarray(x) for x in rest]
    with pytest.raises(ValueError, match=words):
        weighting(*given)


def test_masked_signed_scores_are_accepted():
    p = Proportional()(jnp.array([1.0, -2.0, 3.0]), jnp.array([True, False, True]))
    near(p, [0.25, 0, 0.75])


def test_the_abstract_weighting_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        Weighting()
