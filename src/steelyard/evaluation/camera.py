"""The process behind :mod:`steelyard.evaluation.video`: replays actions and draws each step."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (320, 240)
_CORNER = 2  # MetaWorld's camera that sees the table from the right, head down
_TABLE = (140, 150, 460, 390)  # left, top, right, bottom, in a picture of twice the size


def main(env_id: str, seed: str, actions: str, path: str, frames_per_s: str) -> None:
    """Replay and draw; see ``film_episode``."""
    import envpool
    from PIL import Image

    from steelyard.envs.spaces import without_precision_remarks

    context = _opengl() if env_id != "Pendulum-v1" else None  # Pendulum draws itself
    name = env_id.replace("assembly/", "MetaWorld/").replace("sparse/", "MetaWorld/")
    on_table = name.startswith("MetaWorld/")
    recorded = np.load(actions, allow_pickle=False)
    with without_precision_remarks():
        pool = envpool.make(
            name,
            env_type="gymnasium",
            num_envs=1,
            seed=[int(seed)],
            max_episode_steps=len(recorded) + 1,  # no step is spent on a reset
            render_mode="rgb_array",
            render_width=SIZE[0] * (1 + on_table),
            render_height=SIZE[1] * (1 + on_table),
            **({"partially_observable": False} if on_table else {}),
        )
    pool.reset()
    dtype = pool.action_space.dtype

    def picture() -> Any:
        if not on_table:
            return Image.fromarray(np.asarray(pool.render())[0])
        whole = Image.fromarray(np.asarray(pool.render(camera_id=_CORNER))[0])
        return whole.rotate(180).crop(_TABLE)

    images = []
    every = max(1, round(_steps_per_s(name) / int(frames_per_s)))
    for number, action in enumerate(recorded):
        if number % every == 0:
            images.append(picture())
        pool.step(action[None].astype(dtype))
    images.append(picture())  # where the episode ended
    duration = round(1000 / int(frames_per_s))
    first, *rest = images
    first.save(Path(path), save_all=True, append_images=rest, duration=duration, loop=0)
    del context


def _steps_per_s(env_id: str) -> int:
    """Control steps per second of simulated time."""
    if env_id.startswith("MetaWorld/"):
        return 80
    return 125 if "Hopper" in env_id or "Walker" in env_id else 20


def _opengl() -> object:
    """A current OpenGL context, without which MuJoCo tasks cannot be drawn."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ImportError:
        raise SystemExit("drawing needs MuJoCo: pip install 'mujoco>=3.8,<3.9'") from None
    try:
        context = mujoco.GLContext(*SIZE)
    except Exception as error:
        raise SystemExit(f"no OpenGL context: {error}; on Debian: apt install libegl1") from error
    context.make_current()
    return context


if __name__ == "__main__":
    main(*sys.argv[1:])
