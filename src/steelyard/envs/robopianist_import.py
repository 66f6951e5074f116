"""Imports RoboPianist without what its own imports name and nothing here needs.

note_seq, which reads its songs, imports packages for plots, notebooks and loudspeakers. While it is
imported they are answered with empty modules, which are removed afterwards.
"""

import contextlib
import ctypes.util
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from steelyard.envs.extras import require_fitting_mujoco

INSTALL = "scripts/install_piano.sh"
UNUSED = ("librosa", "pydub", "bokeh", "IPython", "pandas", "pyaudio", "soundfile", "resampy")
PACKAGES = (
    "robopianist",
    "dm_control",
    "dm_env_wrappers",
    "mujoco_utils",
    "note_seq",
    "pretty_midi",
    "dm_env",
    "tree",
    "lxml",
    "mido",
    "importlib_resources",
)
BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"}
"""What draws without a screen, and the system library of each."""


@functools.cache
def import_robopianist() -> Any:
    """Return the module ``robopianist.suite``.

    Raises:
        ImportError: A package is missing or mujoco does not fit; names it, and the line that
            installs it.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"RoboPianist needs {package}, which is not installed: run {INSTALL} (pip install "
                "'steelyard[piano]', then with --no-deps robopianist, dm-control, "
                "dm-env-wrappers, mujoco-utils, note-seq and pretty-midi)"
            )
    require_fitting_mujoco("robopianist", "piano")
    with _empty_modules(UNUSED), _drawn_by(_backend()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a dozen packages, none about what is done here
        return importlib.import_module("robopianist.suite")


def require_drawing() -> None:
    """Refuse to draw where nothing that draws is installed.

    Raises:
        ImportError: So it is; names what was tried and what to install.
    """
    render = importlib.import_module("dm_control._render")
    if getattr(render, "BACKEND", None) not in ("glfw", "egl", "osmesa"):
        tried = os.environ.get("MUJOCO_GL", " and ".join(BACKENDS))
        raise ImportError(
            f"pictures need EGL or OSMesa, and {tried} cannot be used here: apt-get install "
            "libegl1 (or libosmesa6), then start again; MUJOCO_GL=egl or osmesa chooses"
        )


def _backend() -> str:
    """What dm_control shall draw with: as ``MUJOCO_GL`` says, else what is there, else nothing."""
    if "MUJOCO_GL" in os.environ:
        return os.environ["MUJOCO_GL"]
    found = (name for name, library in BACKENDS.items() if ctypes.util.find_library(library))
    return next(found, "off")


@contextlib.contextmanager
def _drawn_by(backend: str) -> Iterator[None]:
    """Set ``MUJOCO_GL``, which dm_control reads as it is imported, for the time being."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = before


@contextlib.contextmanager
def _empty_modules(names: Sequence[str]) -> Iterator[None]:
    """Answer imports of packages, and of all within them, with empty modules for the time being.

    Those that are imported already stay what they are.
    """
    finder = _EmptyFinder([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if finder.answers(name)]:
            del sys.modules[name]


class _EmptyFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules under some names."""

    def __init__(self, names: Sequence[str]):
        self._names = frozenset(names)

    def answers(self, name: str) -> bool:
        """Whether a module is one of ours."""
        return name.split(".")[0] in self._names

    def find_spec(
        self, fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec of an empty package."""
        if not self.answers(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module."""
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave it empty."""
