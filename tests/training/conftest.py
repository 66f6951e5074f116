"""Runs that many tests look at, made once; equal programs are compiled once."""

import jax
import pytest
from compiling import equal_programs_once
from tiny_runs import BC_RUN, IPMD_RUN, SAC_RUN, demonstrations, group, silent

from steelyard.training.recipes import train_bc, train_ipmd, train_sac


@pytest.fixture(scope="package", autouse=True)
def compiler(tmp_path_factory):
    """Settings of the compiler, as a child process needs them."""
    with equal_programs_once(tmp_path_factory.mktemp("compiled")) as environment:
        yield environment


@pytest.fixture(scope="module", autouse=True)
def few_programs_in_memory(compiler):
    """Lets go of what a module has compiled: hundreds of loaded programs fill gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="package")
def sac_root(tmp_path_factory, compiler):
    """Two SAC runs, trained together and left alone."""
    root = tmp_path_factory.mktemp("sac")
    train_sac(SAC_RUN, group(root), silent)
    return root


@pytest.fixture(scope="package")
def ipmd_root(tmp_path_factory, compiler):
    """Two IPMD runs, trained together and left alone."""
    root = tmp_path_factory.mktemp("ipmd")
    train_ipmd(IPMD_RUN, group(root), [demonstrations(seed=s) for s in (0, 1)], silent)
    return root


@pytest.fixture(scope="package")
def bc_root(tmp_path_factory, compiler):
    """Two runs of behaviour cloning, trained together and left alone."""
    root = tmp_path_factory.mktemp("bc")
    train_bc(BC_RUN, group(root), [demonstrations(50, s) for s in (0, 1)], silent)
    return root
