"""An OpenGL context where there is no screen, or one line that says what is missing."""

import ctypes.util
import os
from typing import Any

BACKENDS = {"egl": ("EGL", "libegl1"), "osmesa": ("OSMesa", "libosmesa6")}
"""What MuJoCo draws with where there is no screen: a library, and Debian's package of it."""


def opengl(width: int, height: int) -> Any:
    """Make an OpenGL context and make it current; MuJoCo cannot draw without one.

    Raises:
        ValueError: There is none; names the backend that was tried and what to install.
    """
    backend = os.environ.setdefault("MUJOCO_GL", _backend())
    try:
        import mujoco

        context = mujoco.GLContext(width, height)
        context.make_current()
    except Exception as error:  # what is raised depends on the backend and on what it misses
        raise ValueError(missing_opengl(backend, f"no OpenGL context: {error}")) from None
    return context


def missing_opengl(backend: str, what: str) -> str:
    """Say in one line what is wrong with drawing, what was tried and what to install."""
    ways = " or ".join(
        f"apt install {package} (MUJOCO_GL={name})" for name, (_, package) in BACKENDS.items()
    )
    return f"{what}; tried MUJOCO_GL={backend}. On Debian: {ways}"


def _backend() -> str:
    """The first that is installed."""
    found = (name for name, (library, _) in BACKENDS.items() if ctypes.util.find_library(library))
    return next(found, "egl")
