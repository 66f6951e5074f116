"""What a camera sees: tasks that are played again and drawn, one episode after the other.

Used in a process of its own only, see :mod:`steelyard.evaluation.camera`: EnvPool ends its process
where it draws without a current OpenGL context.

=====================================  =========================================================
``dense/``, ``sparse/``, ``assembly/``  MetaWorld's, drawn by EnvPool with a camera of ours
``RoboPianist-...``                    drawn by themselves, with the notes that were played
others of EnvPool                      drawn by EnvPool, from where it likes
=====================================  =========================================================
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from steelyard.envs.base import VectorEnv
from steelyard.evaluation.opengl import opengl

TABLE_TASKS = ("dense/", "sparse/", "assembly/")
PIANO = "RoboPianist-"

_DRAWS_ITSELF = ("Pendulum-v1",)
_CORNER = 2
_CORNER_TAG = re.compile(r'<camera name="corner2"[^>]*/>')
# From the right of the robot, a little behind its hand: objects face it, and it hides none of them.
_OUR_CORNER = (
    '<camera name="corner2" fovy="32" mode="fixed" pos="1 -0.15 0.85" '
    'xyaxes="0.6387 0.7695 0 -0.3846 0.3192 0.8661"/>'
)
_PENDULUM_PART, _PIANO_PART = 0.75, 0.8
"""Share of a picture's width and height in which something happens."""
_PIANO_MOST = (640, 480)
_LIGHTER = np.round(255 * (np.arange(256) / 255) ** 0.6).astype(np.uint8)
"""By brightness: RoboPianist's hands are black, in a dark room."""


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
        if width > _PIANO_MOST[0] or height > _PIANO_MOST[1]:
            most = f"{_PIANO_MOST[0]} x {_PIANO_MOST[1]}"
            raise ValueError(f"RoboPianist draws at most {most} pixels, got {width} x {height}")
        opengl(width, height).free()  # dm_control makes its own; a missing library is said here

    def begin(self, seed: int, steps: int) -> VectorEnv:
        """See :class:`Scene`."""
        from steelyard.envs.registry import make_env

        self._env: Any = make_env(self._name, [seed], **self._options)
        return self._env

    def draw(self) -> np.ndarray:
        """See :class:`Scene`."""
        width, height = self._size
        part = max(_PIANO_PART, width / _PIANO_MOST[0], height / _PIANO_MOST[1])
        return _LIGHTER[_middle(self._env.draw(*_larger(self._size, part)), width, height)]

    def follow(self, action: np.ndarray) -> None:
        """See :class:`Scene`."""

    def notes(self) -> list[tuple[float, int, float, int]]:
        """See :class:`Scene`."""
        played = self._env.played_notes("key_speed")
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
            width, height = _larger(self._size, _PENDULUM_PART)
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
        return _middle(np.asarray(self._pool.render())[0], *self._size)

    def follow(self, action: np.ndarray) -> None:
        """See :class:`Scene`."""
        self._pool.step(action[None].astype(self._dtype))

    def notes(self) -> list[tuple[float, int, float, int]]:
        """See :class:`Scene`."""
        return []


def _larger(size: tuple[int, int], part: float) -> tuple[int, int]:
    """Size of a picture of which ``size`` is that part."""
    return round(size[0] / part), round(size[1] / part)


def _middle(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Cut out the middle."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


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
