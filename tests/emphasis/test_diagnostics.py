"""By-hand values and limits of the diagnostics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.emphasis import RATIO_EDGES, Proportional, Tail, length_base, uniform_base
from steelyard.emphasis import diagnose as diagnose_eagerly

diagnose = jax.jit(diagnose_eagerly)
SCORES = jnp.array([1.7, 0.7, 0.0, 0.65])


def near(actual, expected, tolerance=1e-4):
    np.testing.assert_allclose(np.asarray(actual), expected, atol=tolerance)


def test_diagnostics_by_hand():
    found = diagnose(Proportional()(SCORES), SCORES)
    near(found["ess"], 2.4464)
    near(found["ess_share"], 2.4464 / 4)
    near(found["perplexity"], 2.6994)
    near(found["max_weight"], 4 * 1.7 / 3.05)
    near(found["touched_share"], 0.75)
    near(found["score_top10_mean"], 1.7)
    near(found["score_bottom10_mean"], 0.0)


def test_no_emphasis_is_all_items_at_weight_one():
    valid = jnp.arange(30) % 4 != 1
    for base in (uniform_base(valid), length_base(jnp.arange(30), valid)):
        found = diagnose(base, jnp.arange(30.0), valid, base)
        count = int(jnp.sum(base > 0))
        near(found["ess"], count, 1e-3)
        near(found["perplexity"], count, 1e-3)
        assert found["max_weight"] == 1.0
        assert found["touched_share"] == 1.0
        assert found["ratio_histogram"][1 + RATIO_EDGES.index(1.0)] == 1.0


def test_a_tail_has_its_share_of_effective_and_touched_items():
    scores = jnp.arange(100.0)
    found = diagnose(Tail(0.2)(scores), scores)
    near(found["ess"], 20, 1e-3)
    near(found["perplexity"], 20, 1e-3)
    near(found["max_weight"], 5)
    near(found["touched_share"], 0.2)
    near(found["score_top10_mean"], np.arange(90, 100).mean())
    near(found["score_bottom10_mean"], np.arange(10).mean())
    near(found["ratio_histogram"][0], 0.8)
    near(found["ratio_histogram"][1 + RATIO_EDGES.index(4.0)], 0.2)


def test_touched_counts_distinct_valid_items_among_the_drawn():
    p = jnp.full(5, 0.2)
    found = diagnose(p, jnp.arange(5.0), indices=jnp.array([1, 1, 3, 1]))
    near(found["touched_share"], 0.4)


def test_masked_items_enter_nothing():
    valid = jnp.array([True, True, False, True, True, False])
    scores = jnp.array([1.7, 0.7, jnp.nan, 0.0, 0.65, jnp.inf])
    masked = diagnose(Proportional()(scores, valid), scores, valid)
    plain = diagnose(Proportional()(SCORES), SCORES)
    for name, value in plain.items():
        near(masked[name], value, 1e-6)


def test_the_histogram_is_a_share_of_items_with_one_bin_an_edge():
    scores = 10.0 ** jnp.linspace(-5, 5, 100)
    histogram = diagnose(Proportional(0.7)(scores), scores)["ratio_histogram"]
    assert histogram.shape == (len(RATIO_EDGES) + 1,)
    near(histogram.sum(), 1, 1e-6)
    assert (histogram > 0).sum() > 10


def test_jit_equals_eager():
    p = Proportional()(SCORES)
    for name, value in diagnose_eagerly(p, SCORES).items():
        near(diagnose(p, SCORES)[name], value, 1e-6)


@pytest.mark.parametrize(("count", "tenth"), [(1, 1), (9, 1), (10, 1), (11, 2)])
def test_a_tenth_is_rounded_up(count, tenth):
    scores = jnp.arange(float(count))
    p = jnp.full(count, 1.0 / count)
    found = diagnose(p, scores)
    assert float(found["score_top10_mean"]) == np.arange(count)[-tenth:].mean()
    assert float(found["score_bottom10_mean"]) == np.arange(count)[:tenth].mean()
