"""Statistics merge like sets of rows; the normaliser is their clipped standardisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.data.normalisation import CLIP, MIN_STD, Normaliser, Statistics

ROWS = np.random.default_rng(0).normal([3.0, -50.0], [0.2, 20.0], (37, 2)).astype(np.float32)


def assert_same(left, right, rtol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4), left, right)


def of(rows):
    return Statistics.of(jnp.asarray(rows))


@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(1, len(ROWS) - 1), min_size=1, max_size=3, unique=True))
def test_merged_statistics_are_those_of_the_union(cuts):
    merged = Statistics.empty(2)
    for part in np.split(ROWS, sorted(cuts)):
        merged = merged.merge(of(part))
    assert_same(merged, of(ROWS))


def test_merging_is_symmetric_and_empty_is_neutral():
    first, second = of(ROWS[:5]), of(ROWS[5:] + 9.0)
    assert_same(first.merge(second), second.merge(first))
    for merged in (first.merge(Statistics.empty(2)), Statistics.empty(2).merge(first)):
        assert_same(merged, first, rtol=1e-6)


def test_statistics_equal_numpys():
    statistics = of(ROWS)
    np.testing.assert_allclose(statistics.mean, ROWS.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.normaliser().std, ROWS.std(0), rtol=1e-4)
    assert float(statistics.count) == len(ROWS)


def test_many_small_merges_do_not_lose_precision():
    rows = np.random.default_rng(1).normal(5.0, 2.0, (4000, 4, 2)).astype(np.float32)
    merge = lambda total, part: (total.merge(Statistics.of(part)), None)  # noqa: E731
    merged, _ = jax.jit(lambda x: jax.lax.scan(merge, Statistics.empty(2), x))(jnp.asarray(rows))
    flat = rows.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(merged.mean, flat.mean(0), rtol=1e-4)
    np.testing.assert_allclose(merged.normaliser().std, flat.std(0), rtol=1e-3)


def test_a_normaliser_standardises_what_it_was_made_from():
    normal = jax.vmap(of(ROWS).normaliser())(jnp.asarray(ROWS))
    np.testing.assert_allclose(normal.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(normal.std(0), 1.0, rtol=1e-4)


def test_statistics_of_no_rows_normalise_nothing():
    observation = jnp.asarray([3.0, -4.0])
    np.testing.assert_array_equal(Statistics.empty(2).normaliser()(observation), observation)
    np.testing.assert_array_equal(Normaliser.identity(2)(observation), observation)


def test_a_constant_component_is_divided_by_the_least_deviation():
    normaliser = of(np.full((4, 1), 7.0, np.float32)).normaliser()
    np.testing.assert_allclose(normaliser(jnp.asarray([7.0 + MIN_STD])), [1.0], rtol=1e-3)


@pytest.mark.parametrize("value", [1e6, 3e38, np.inf])
def test_normalised_observations_are_clipped(value):
    clipped = of(ROWS).normaliser()(jnp.asarray([value, -value], jnp.float32))
    np.testing.assert_array_equal(clipped, [CLIP, -CLIP])


def test_a_fixed_normaliser_multiplies_each_component():
    normal = Normaliser.fixed((1.0, 1.0, 0.125))(jnp.asarray([0.5, -1.0, 8.0]))
    np.testing.assert_allclose(normal, [0.5, -1.0, 1.0])


@pytest.mark.parametrize("scale", [0.0, -1.0, 101.0, np.nan])
def test_a_fixed_scale_that_could_not_be_honoured_is_refused(scale):
    with pytest.raises(ValueError, match=r"\(0, 100\].*component 1"):
        Normaliser.fixed((1.0, scale))
