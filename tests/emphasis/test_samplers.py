"""Laws of the samplers: counts, corrections, support, and the arithmetic at a million items."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import (
    SAMPLERS,
    Drop,
    Multinomial,
    Rank,
    Systematic,
    defensive_mixture,
    draw_starts,
    draw_uniform,
    length_base,
    make_sampler,
    tabulate,
    uniform_base,
)
from steelyard.emphasis.samplers import systematic_positions

KEY = jax.random.key(0)
RANKS = Rank(0.7, 0.05)


@eqx.filter_jit
def compiled(sampler, probabilities, base, keys, size):
    return jax.vmap(lambda key: sampler(probabilities, key, size, base))(keys)


def draw_many(sampler, probabilities, base, keys, size):
    """Draw once a key, ``[key, draw]``; one program a class and shape."""
    return compiled(jax.tree.map(jnp.asarray, sampler), probabilities, base, keys, size)


def draw(sampler, probabilities, base=None):
    """Draw 13 of 10 items 4000 times; all tests that can share this one program."""
    return draw_many(sampler, probabilities, base, jax.random.split(KEY, 4000), 13)


def ragged():
    """Ten probabilities with zeros at the start, inside and at the end."""
    p = np.random.default_rng(1).random(10).astype(np.float32)
    p[[0, 4, -1]] = 0
    return jnp.asarray(p / p.sum())


def test_systematic_positions_by_hand():
    total = jnp.uint32(1000)
    positions = systematic_positions(jnp.uint32(125), total, 4)
    cumulative = jnp.array([100, 300, 600, 1000], jnp.uint32)
    assert positions.tolist() == [125, 375, 625, 875]
    assert jnp.searchsorted(cumulative, positions, side="right").tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize("size", [1, 7, 256, 65_535, 65_536, 10**6])
def test_systematic_positions_stay_below_the_total_and_are_evenly_spaced(size):
    total = 2**31 - 12_345
    for offset in (0, total // size - 1):
        given = systematic_positions(jnp.uint32(offset), jnp.uint32(total), size)
        positions = np.asarray(given, np.int64)
        exact = np.arange(size) * total // size + offset
        assert positions.min() >= 0
        assert positions.max() < total
        assert np.abs(positions - exact).max() <= (0 if size < 2**16 else 1)


def test_systematic_draws_each_item_floor_or_ceil_times():
    p = ragged()
    drawn = draw(Systematic(), p)
    counts = np.stack([np.bincount(row, minlength=10) for row in np.asarray(drawn.indices)])
    expected = 13 * np.asarray(p, np.float64)
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.ceil(expected)).all()


def test_systematic_draws_n_of_n_equal_items_each_once():
    items = 8192
    keys = jax.random.split(KEY, 5)
    drawn = draw_many(Systematic(), uniform_base(jnp.ones(items, bool)), None, keys, items)
    assert (np.asarray(drawn.indices) == np.arange(items)).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_item_is_drawn_in_proportion_to_its_probability(name):
    p, draws = ragged(), 4000 * 13
    drawn = draw(make_sampler(name), p)
    share = np.bincount(np.asarray(drawn.indices).ravel(), minlength=10) / draws
    error = np.sqrt(np.asarray(p) * (1 - np.asarray(p)) / draws)
    assert (np.abs(share - np.asarray(p)) <= 4 * error).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_corrected_means_are_unbiased_for_the_base(name):
    scores, values = jnp.arange(10.0), jnp.sin(jnp.arange(10.0))
    base = length_base(jnp.arange(1, 11))
    p = jax.jit(RANKS)(scores, None, base)
    drawn = draw(make_sampler(name), p, base)
    means = np.asarray(jnp.mean(drawn.correction * values[drawn.indices], axis=1))
    error = means.std() / np.sqrt(len(means))
    assert abs(means.mean() - float(jnp.sum(base * values))) <= 4 * error
    biased = np.asarray(jnp.mean(values[drawn.indices], axis=1))
    assert abs(biased.mean() - float(jnp.sum(base * values))) > 10 * error


@pytest.mark.parametrize("name", SAMPLERS)
def test_uniform_probabilities_owe_exactly_one(name):
    valid = np.arange(10) % 4 != 0
    drawn = draw(make_sampler(name), uniform_base(jnp.asarray(valid)))
    assert (np.asarray(drawn.correction) == 1.0).all()
    assert valid[np.asarray(drawn.indices)].all()
    table = make_sampler(name).table(uniform_base(jnp.ones(49, bool)))
    assert (np.asarray(table.correction) == 1.0).all()


def test_the_base_measure_owes_exactly_one_to_itself():
    base = length_base(jnp.array([3, 1, 0, 7, 49, 5, 1, 1, 0, 9]))
    for sampler in (Systematic(), Systematic(exponent=0.4, epsilon=0.3)):
        drawn = draw(sampler, base, base)
        assert (np.asarray(drawn.correction) == 1.0).all()


def test_the_exponent_tempers_the_correction():
    p = ragged()
    full, half, none = (draw(Systematic(k), p).correction for k in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half, np.sqrt(full), rtol=1e-6)
    assert (np.asarray(none) == 1.0).all()
    assert float(np.ptp(full)) > 0.5


def test_corrections_by_hand_and_bounded_by_the_defensive_mixture():
    q = defensive_mixture(
        jnp.array([1.7, 0.7, 0.0, 0.65]) / 3.05, 0.2, uniform_base(jnp.ones(4, bool))
    )
    np.testing.assert_allclose(q, [0.4959, 0.2336, 0.05, 0.2205], atol=5e-5)
    correction = tabulate(q).correction
    np.testing.assert_allclose(correction, [0.5041, 1.0702, 5, 1.1338], atol=5e-5)
    spiky = jnp.zeros(50).at[3].set(1.0)
    bounded = Systematic(epsilon=0.1).table(spiky, uniform_base(jnp.ones(50, bool)))
    assert float(bounded.correction.max()) <= 10 * (1 + 1e-6)


def test_a_defensive_mixture_of_nothing_changes_no_bit():
    p, base = ragged(), uniform_base(ragged() > 0)
    assert (defensive_mixture(p, 0.0, base) == p).all()
    assert (defensive_mixture(base, 0.3, base) == base).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_million_items_never_leave_the_support(name):
    items = 10**6
    p = jax.random.uniform(KEY, (items,)) ** 8
    p = jnp.where(jnp.arange(items) % 7 == 0, 0.0, p).at[-1000:].set(0.0)
    sampler = make_sampler(name)
    table = jax.jit(sampler.table)(p)
    last = int(np.flatnonzero(np.asarray(p))[-1])
    cumulative = np.asarray(table.cumulative, np.int64)
    units = np.diff(cumulative, prepend=0)
    assert ((units > 0) == (np.asarray(p) > 0)).all()
    assert np.abs(units / cumulative[-1] - np.asarray(p / p.sum(), np.float64)).max() < 1e-6
    assert (cumulative[last:] == cumulative[-1]).all()
    drawn = jax.jit(lambda table: sampler.draw(table, KEY, 50_000))(table)
    assert (np.asarray(p)[np.asarray(drawn.indices)] > 0).all()
    # The largest position there is belongs to the last item with mass, not to a trailing zero.
    edge = jnp.searchsorted(table.cumulative, table.cumulative[-1] - 1, side="right")
    assert int(edge) == last


def test_a_probability_too_small_for_float32_sums_can_still_be_drawn():
    p = jnp.array([1.0, 1e-20, 0.0])
    assert np.diff(np.asarray(tabulate(p).cumulative, np.int64)).tolist() == [1, 0]


def test_two_levels_draw_uniformly_over_steps():
    lengths = jnp.array([1, 0, 3, 6])
    keys = jax.random.split(KEY, 3000)

    @jax.jit
    def draw_them(keys):
        base = length_base(lengths)
        return jax.vmap(lambda key: draw_starts(Systematic(), base, lengths, key, 4))(keys)

    drawn = draw_them(keys)
    trajectories, starts = np.asarray(drawn.trajectories), np.asarray(drawn.starts)
    assert (starts >= 0).all()
    assert (starts < np.asarray(lengths)[trajectories]).all()
    assert (np.asarray(drawn.correction) == 1.0).all()
    offsets = np.array([0, 1, 1, 4])
    share = np.bincount((offsets[trajectories] + starts).ravel(), minlength=10) / 12_000
    assert np.abs(share - 0.1).max() < 4 * np.sqrt(0.1 * 0.9 / 12_000)


def test_two_levels_owe_the_ratio_of_their_trajectory():
    lengths = jnp.array([2, 4, 4])
    p = jnp.array([0.5, 0.25, 0.25])
    drawn = draw_starts(Multinomial(), p, lengths, KEY, 64)
    expected = (np.array([0.2, 0.4, 0.4]) / np.asarray(p))[np.asarray(drawn.trajectories)]
    np.testing.assert_allclose(drawn.correction, expected, rtol=1e-6)


def test_the_prefix_of_a_buffer_is_drawn_uniformly_without_touching_its_items():
    draw_prefix = jax.jit(lambda filled, key: draw_uniform(filled, key, 256))
    for filled in (1, 3, 500_000):
        drawn = draw_prefix(jnp.int32(filled), KEY)
        assert int(drawn.indices.min()) >= 0
        assert int(drawn.indices.max()) < filled
        assert (np.asarray(drawn.correction) == 1.0).all()
    assert set(np.asarray(draw_prefix(jnp.int32(3), KEY).indices).tolist()) == {0, 1, 2}
    shapes = jax.make_jaxpr(lambda filled, key: draw_uniform(filled, key, 256))(3, KEY)
    sizes = [v.aval.size for e in shapes.jaxpr.eqns for v in e.outvars]
    assert max(sizes) <= 256


def test_draws_from_a_weighting_that_zeroes_items_never_return_them():
    scores = jnp.arange(-5.0, 5.0)
    drawn = draw(Systematic(), Drop(1.0)(scores))
    assert (np.asarray(scores)[np.asarray(drawn.indices)] >= 0).all()


def test_jit_draws_what_eager_draws_and_keys_differ():
    eager = Systematic()(ragged(), jax.random.split(KEY, 4000)[0], 13)
    traced = draw(Systematic(), ragged())
    assert (eager.indices == traced.indices[0]).all()
    np.testing.assert_allclose(eager.correction, traced.correction[0], rtol=1e-6)
    first, other = np.asarray(draw(Multinomial(), ragged()).indices)[:2]
    assert (first != other).any()


def test_probabilities_without_mass_owe_nan_under_jit():
    drawn = jax.jit(lambda p: Systematic()(p, KEY, 4))(jnp.zeros(3))
    assert jnp.isnan(drawn.correction).all()
    assert (drawn.indices < 3).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_sampler("systematc"), "Did you mean 'systematic'"),
        (lambda: Systematic()(jnp.zeros(3), KEY, 2), "positive finite sum, got the sum 0"),
        (lambda: Systematic()(jnp.array([1.5, -0.5]), KEY, 2), "minimum -0.5"),
        (lambda: Systematic()(ragged(), KEY, 0), "size must be at least 1, got 0"),
        (lambda: draw_uniform(0, KEY, 2), "filled must be at least 1"),
        (lambda: defensive_mixture(ragged(), 1.5), r"epsilon must be in \[0, 1\], got 1.5"),
        (lambda: Systematic(epsilon=-0.1), r"epsilon must be in \[0, 1\], got -0.1"),
        (lambda: Systematic(exponent=1.5), r"exponent must be in \[0, 1\], got 1.5"),
    ],
)
def test_bad_input_gets_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()
