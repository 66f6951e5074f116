"""Equal programs are compiled once for these tests."""

import os
from pathlib import Path

import jax
import pytest
import small_study
import toy_runs
from compiling import equal_programs_once

from steelyard import studies
from steelyard.cli import main


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
def finished(tmp_path_factory, compiler):
    """Folder of a toy study that was left alone until its end."""
    root = tmp_path_factory.mktemp("finished")
    toy_runs.run(root)
    return root


@pytest.fixture(scope="package")
def study(tmp_path_factory, compiler):
    """A finished imitation study: its folders, cells and records."""
    return small_study.Finished(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, compiler):
    """Runs the smoke preset of a study in this process; takes its name, returns its runs."""

    def run(name):
        root = tmp_path_factory.mktemp(name)
        arguments = ["study", "run", name, "--preset", "smoke", "--runs", str(root)]
        main([*arguments, "--executor", "inline"])
        return root

    return run


@pytest.fixture
def children(tmp_path, monkeypatch):
    """Lets child processes know the toy study, as an installed study would be known."""
    site = tmp_path / "site"
    site.mkdir()
    hook = "import steelyard.studies; steelyard.studies.STUDIES['toy'] = 'toy_study'\n"
    (site / "sitecustomize.py").write_text(hook)
    here = str(Path(__file__).parent)
    path = os.pathsep.join([str(site), here, *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setitem(studies.STUDIES, "toy", "toy_study")
