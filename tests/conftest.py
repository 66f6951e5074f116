"""Strict mode: a silent broadcast is an error, as is any warning (see pyproject.toml).

Programs of tests are small and many, so they are compiled fast, not well. Results agree with those
of the usual compiler up to rounding; `make test-slow` takes that one.
"""

import contextlib
import os
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@contextlib.contextmanager
def _optimised() -> Iterator[None]:
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture
def optimised():
    """Compiles more as users do, for what is promised to the bit."""
    with _optimised():
        yield


@pytest.fixture(scope="module")
def optimised_throughout():
    """The same for a whole module."""
    with _optimised():
        yield
