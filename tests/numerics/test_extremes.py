"""Extremes: values as NumPy has them, slopes by hand.

That no compilation makes a slope NaN is seen where it was found: SAC in the grid's battery
(tests/emphasis/test_grid.py).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steelyard.numerics.extremes import higher, highest, lowest


@pytest.mark.parametrize(("ours", "numpy"), [(lowest, np.min), (highest, np.max)])
def test_the_value_is_numpys(ours, numpy):
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=9), [1.0, -np.inf, 2.0], [np.inf, 1.0], [-0.5], [2.0, np.nan]):
        values = np.asarray(values, np.float32)
        np.testing.assert_array_equal(ours(jnp.asarray(values)), numpy(values))


def test_the_slope_is_that_of_one_entry():
    values = jnp.asarray([3.0, 1.0, 4.0, 1.0, 4.0])
    assert jax.grad(lowest)(values).tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert jax.grad(highest)(values).tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    infinite = jnp.asarray([jnp.inf, 1.0])
    assert jax.grad(lowest)(infinite).tolist() == [0.0, 1.0]


def test_of_two_the_greater_one_has_the_slope_and_of_two_alike_the_first():
    one, other = jnp.asarray([1.0, 2.0, 5.0]), jnp.asarray([3.0, 2.0, 4.0])
    assert higher(one, other).tolist() == [3.0, 2.0, 5.0]
    slopes = jax.grad(lambda a, b: jnp.sum(higher(a, b)), (0, 1))(one, other)
    assert [x.tolist() for x in slopes] == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
