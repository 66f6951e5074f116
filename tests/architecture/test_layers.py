"""The import contracts hold, and each of them rejects a planted violation."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLANTED = {
    "a lower layer imports a higher one": ("numerics/planted.py", "import steelyard.agents.sac"),
    "data imports the heart above it": ("data/planted.py", "import steelyard.emphasis"),
    "an agent imports another agent": ("agents/bc.py", "import steelyard.agents.sac"),
    "reports import an agent": ("reports/planted.py", "import steelyard.agents.sac"),
    "reports import an environment": ("reports/planted.py", "import steelyard.envs.registry"),
    "the labelling app imports a learner": ("labelling/planted.py", "import steelyard.agents.sac"),
    "a module imports pickle": ("data/planted.py", "import pickle"),
    "a package without a place appears": ("planted/__init__.py", ""),
}


def lint(tree: Path) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_of_the_tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_contract_holds(tmp_path):
    done = lint(copy_of_the_tree(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_breaks_a_contract(name, tmp_path):
    tree = copy_of_the_tree(tmp_path)
    place, line = PLANTED[name]
    file = tree / "src" / "steelyard" / place
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else '"""Planted."""\n'
    file.write_text(f"{before}\n{line}\n")
    done = lint(tree)
    assert done.returncode != 0, f"{name} went unnoticed"


def test_no_source_file_is_longer_than_400_lines():
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / "src").rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_a_machine_s_paths_are_nowhere_in_the_project():
    listed = subprocess.run(
        ["git", "grep", "-nIE", r"(^|[^A-Za-z.])/(home|root|work)/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [x for x in listed.stdout.splitlines() if "test_layers.py" not in x]
    assert not lines
