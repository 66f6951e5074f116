"""Strict mode: a silent broadcast is an error, as is any warning (see pyproject.toml).

Programs of tests are small and many, so they are compiled fast, not well. Results agree with those
of the usual compiler up to rounding; `make test-slow` takes that one.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest
from compiling import as_users_do

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def optimised():
    """Compiles more as users do, for what is promised to the bit."""
    with as_users_do():
        yield


@pytest.fixture(scope="module")
def optimised_throughout():
    """The same for a whole module."""
    with as_users_do():
        yield
