"""The built wheel works by itself: what a user installs is what is tested."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel({target!r}))"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel, built from a copy of the sources and unpacked."""
    place = tmp_path_factory.mktemp("wheel")
    source, target = place / "source", place / "dist"
    target.mkdir()
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = BUILD.format(target=str(target))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = target.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    return place / "site"


def test_the_wheel_lists_its_studies_and_presets(unpacked, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "steelyard.cli", "study", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--preset quick" in done.stdout


def test_the_wheel_brings_its_types_and_templates(unpacked):
    assert (unpacked / "steelyard" / "py.typed").exists()
    assert (unpacked / "steelyard" / "reports" / "templates" / "report.css").exists()
    page = unpacked / "steelyard" / "labelling" / "static"
    assert {"index.html", "app.js", "style.css"} <= {path.name for path in page.iterdir()}


def test_the_wheel_brings_no_tests_and_no_results(unpacked):
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"steelyard"}
