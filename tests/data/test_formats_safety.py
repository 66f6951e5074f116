"""Nothing is pickled, and native files are golden."""

import ast
import hashlib
from pathlib import Path

import numpy as np
import pytest
from demonstrations_examples import SPEC

import steelyard
from steelyard.data.demonstrations import Demonstrations, Provenance
from steelyard.data.episode import Episode

SOURCES = sorted(Path(steelyard.__file__).parent.rglob("*.py"))
PICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"read_pickle", "to_pickle"}


def pickling(tree: ast.AST) -> list[str]:
    """Name everything in a module that pickles, or that opens a pickle."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in {*PICKLERS, "torch"}]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in {*PICKLERS, "torch"}:
                found.append(str(node.module))
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append("allow_pickle")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            named = {keyword.arg for keyword in node.keywords}
            if node.func.attr in FORBIDDEN_CALLS or (owner, node.func.attr) == ("torch", "load"):
                found.append(node.func.attr)
            if owner in ("np", "numpy") and node.func.attr in ("load", "save"):
                found += [] if "allow_pickle" in named else [f"np.{node.func.attr} by default"]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_module_pickles_or_opens_a_pickle(path):
    assert pickling(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.hashing",
        "import torch",
        "torch.load('x')",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=flag)",
        "np.save('x', y)",
        "pandas.read_pickle('x')",
    ],
)
def test_the_scan_for_pickles_finds_each_way(code):
    assert pickling(ast.parse(code))


def golden_demonstrations() -> Demonstrations:
    def ramp(*shape):
        return (np.arange(np.prod(shape)).reshape(shape) / 16).astype(np.float32)

    episodes = [Episode(ramp(n + 1, 3), ramp(n, 2), ramp(n), n == 2, n != 2, n) for n in (2, 1)]
    return Demonstrations.from_episodes(episodes, SPEC, Provenance(SPEC.id, "ramp", 0))


def test_native_files_are_golden(tmp_path):
    # Regenerate: raise the number in SCHEMA of formats/native.py, run this test, copy what it got.
    demonstrations = golden_demonstrations()
    path = demonstrations.save(tmp_path / "golden")
    buffer = hashlib.sha256((path / "expert_buffer.safetensors").read_bytes()).hexdigest()
    assert (demonstrations.sha256[:16], buffer[:16]) == ("8235ae71d14e2576", "4858f6f18447e07e")
