"""Random streams by name: a number of a report depends on nothing but what it is about."""

import zlib

import numpy as np


def named_rng(*names: str) -> np.random.Generator:
    """Make the generator of one quantity: fixed by its name, whatever else is in the report."""
    return np.random.default_rng(zlib.crc32("/".join(names).encode()))
