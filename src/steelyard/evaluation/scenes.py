"""What a camera sees: tasks that are played again and drawn, one episode after the other.

Used in a process of its own only, see :mod:`steelyard.evaluation.camera`: EnvPool ends its process
where it draws without a current OpenGL context.

=====================================  =========================================================
``dense/``, ``sparse/``, ``assembly/``  MetaWorld's, drawn by EnvPool with a camera of ours
``RoboPianist-...``                    drawn by themselves, with the notes that were played
others of EnvPool                      drawn by EnvPool, from where it likes
=====================================  =========================================================
"""

import contextlib
import ctypes.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from steelyard.envs.base import VectorEnv

TABLE_TASKS = ("dense/", "sparse/", "assembly/")
PIANO = "RoboPianist-"
BACKENDS = {"egl": ("EGL", "libegl1"), "osmesa": ("OSMesa", "libosmesa6")}
"""What MuJoCo draws with where there is no screen: a library, and Debian's package of it."""

_DRAWS_ITSELF = ("Pendulum-v1",)
_CORNER = 2
_CORNER_TAG = re.compile(r'<camera name="corner2"[^>]*/>')
# From the right of the robot, a little behind its hand: objects face it, and it hides none of them.
_OUR_CORNER = (
    '<camera name="corner2" fovy="32" mode="fixed" pos="1 -0.15 0.85" '
    'xyaxes="0.6387 0.7695 0 -0.3846 0.3192 0.8661"/>'
)
_PENDULUM_PART = 0.75
"""Share of the height of EnvPool's picture that the pendulum needs."""


@runtime_checkable
class Scene(Protocol):
    """A task that can be played again and drawn."""

    def begin(self, seed: int, steps: int) -> VectorEnv:
        """Make what is played, one environment of that seed, for at most ``steps`` steps."""
        ...

    def draw(self) -> np.ndarray:
        """Return a picture of the present moment, uint8 ``[height, width, 3]``."""
        ...

    def follow(self, action: np.ndarray) -> None:
        """Do what the environment was just made to do, ``[act]`` in environment units."""
        ...

    def notes(self) -> list[tuple[float, int, float, int]]:
        """Fields of the notes that were played so far; none where the task has no sound."""
        ...


def open_scene(env: str, options: dict[str, Any], width: int, height: int) -> Scene:
    """Prepare to draw a task.

    Args:
        env: Name of the task, as ``make_env`` knows it.
        options: What it is built with.
        width: Of the pictures, pixels.
        height: Of the pictures, pixels.

    Raises:
        ValueError: The task cannot be drawn, or there is no OpenGL; says what is missing.
        ImportError: The task's own package is missing.
    """
    if env.startswith(PIANO):
        return PianoScene(env, options, width, height)
    return PoolScene(env, options, width, height)


class PianoScene:
    """RoboPianist: draws itself, and knows what was played."""

    def __init__(self, env: str, options: dict[str, Any], width: int, height: int):
        self._name, self._options, self._size = env, options, (width, height)
        opengl(width, height).free()  # dm_control makes its own; a missing library is said here

    def begin(self, seed: int, steps: int) -> VectorEnv:
        """See :class:`Scene`."""
        from steelyard.envs.registry import make_env

        self._env: Any = make_env(self._name, [seed], **self._options)
        return self._env

    def draw(self) -> np.ndarray:
        """See :class:`Scene`."""
        width, height = self._size
        return self._env.render(0, height=height, width=width)

    def follow(self, action: np.ndarray) -> None:
        """See :class:`Scene`."""

    def notes(self) -> list[tuple[float, int, float, int]]:
        """See :class:`Scene`."""
        from steelyard.evaluation.music import played_notes

        played = played_notes(self._env.performance(0))
        return [(note.onset_s, note.key, note.offset_s, note.velocity) for note in played]


class PoolScene:
    """A task of EnvPool: its environment is played, and a twin of it does the same and is drawn."""

    def __init__(self, env: str, options: dict[str, Any], width: int, height: int):
        import envpool

        self._name, self._options, self._size = env, options, (width, height)
        prefix = next((p for p in (*TABLE_TASKS, "MetaWorld/") if env.startswith(p)), "")
        self._on_table = bool(prefix)
        self._pool_name = "MetaWorld/" + env.removeprefix(prefix) if prefix else env
        if self._pool_name not in envpool.list_all_envs():
            raise ValueError(
                f"tasks of EnvPool can, those of {', '.join(TABLE_TASKS)} that are MetaWorld's, "
                f"and {PIANO}..."
            )
        self._draws_itself = env in _DRAWS_ITSELF
        self._context = None if self._draws_itself else opengl(width, height)
        self._assets: Any = tempfile.TemporaryDirectory() if self._on_table else None
        if self._assets is not None:
            copy_assets(Path(self._assets.name))

    def begin(self, seed: int, steps: int) -> VectorEnv:
        """See :class:`Scene`."""
        import envpool

        from steelyard.envs.registry import make_env
        from steelyard.envs.spaces import without_precision_remarks

        env = make_env(self._name, [seed], **self._options)
        width, height = self._size
        settings: dict[str, Any] = {"partially_observable": False}
        if self._assets is not None:
            settings["base_path"] = self._assets.name
        else:
            ours = ("max_episode_steps", "can_terminate", "num_threads")
            settings = {name: value for name, value in self._options.items() if name not in ours}
        if self._draws_itself:
            width, height = round(width / _PENDULUM_PART), round(height / _PENDULUM_PART)
        with without_precision_remarks():
            self._pool: Any = envpool.make(
                self._pool_name,
                env_type="gymnasium",
                num_envs=1,
                seed=[seed],
                max_episode_steps=steps + 1,  # no step is spent on a reset
                render_mode="rgb_array",
                render_width=width,
                render_height=height,
                **settings,
            )
            self._dtype = self._pool.action_space.dtype
        self._pool.reset()
        return env

    def draw(self) -> np.ndarray:
        """See :class:`Scene`."""
        if self._on_table:
            return np.asarray(self._pool.render(camera_id=_CORNER))[0]
        picture = np.asarray(self._pool.render())[0]
        width, height = self._size
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        return picture[top : top + height, left : left + width]

    def follow(self, action: np.ndarray) -> None:
        """See :class:`Scene`."""
        self._pool.step(action[None].astype(self._dtype))

    def notes(self) -> list[tuple[float, int, float, int]]:
        """See :class:`Scene`."""
        return []


def copy_assets(folder: Path) -> None:
    """Copy what MetaWorld's scenes consist of, so that they are quick to draw and well seen.

    Shadows and reflections cost ten times what the rest does where there is no graphics card.
    Nothing that moves is changed.

    Args:
        folder: Where to; EnvPool's ``base_path`` then.

    Raises:
        ValueError: This version of EnvPool keeps its scenes in another way.
    """
    from envpool.registration import base_path

    source = Path(base_path) / "mujoco" / "metaworld"
    target = folder / "mujoco" / "metaworld"
    if source.is_dir():
        shutil.copytree(source, target)
    cameras = 0
    for path in target.rglob("*.xml"):
        text = path.read_text()
        cameras += len(_CORNER_TAG.findall(text))
        text = _CORNER_TAG.sub(_OUR_CORNER, text)
        text = re.sub(r'reflectance\s*=\s*"[^"]*"', 'reflectance="0"', text)
        text = re.sub(r'castshadow\s*=\s*"[^"]*"', "", text)
        path.write_text(re.sub(r"<light\b", '<light castshadow="false"', text))
    if cameras != 1:
        raise ValueError(
            f"MetaWorld's scenes have one camera `corner2`, got {cameras} in {source}: film with "
            "the version of EnvPool that constraints.txt names"
        )


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


@contextlib.contextmanager
def refusals_as_last_line() -> Iterator[None]:
    """End the process with a refusal's message as the only line."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise SystemExit(" ".join(str(error).split())) from None
