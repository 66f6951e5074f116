"""How programs of tests are compiled, beyond what `conftest.py` sets for all of them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


@contextlib.contextmanager
def _configured(**settings: Any) -> Iterator[None]:
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@contextlib.contextmanager
def as_users_do() -> Iterator[None]:
    """Optimised, with nothing of what was compiled otherwise."""
    with _configured(jax_disable_most_optimizations=False):
        jax.clear_caches()
        yield
    jax.clear_caches()


@contextlib.contextmanager
def equal_programs_once(folder: Path) -> Iterator[dict[str, str]]:
    """Keeps what is compiled in a folder; gives the environment of a child that does so, too."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _configured(**settings):
        compilation_cache.reset_cache()  # whatever was compiled before did without one
        yield os.environ | {name.upper(): str(value) for name, value in settings.items()}
    compilation_cache.reset_cache()
