"""The process behind :mod:`steelyard.evaluation.video`: replays actions and draws each step."""

import os
import sys
from pathlib import Path

import numpy as np

SIZE = (320, 240)


def main(env_id: str, seed: str, actions: str, path: str, frames_per_s: str) -> None:
    """Replay and draw; see ``film_episode``."""
    import envpool
    from PIL import Image

    from steelyard.envs.spaces import without_precision_remarks

    context = _opengl() if env_id != "Pendulum-v1" else None  # Pendulum draws itself
    with without_precision_remarks():
        pool = envpool.make(
            env_id,
            env_type="gymnasium",
            num_envs=1,
            seed=[int(seed)],
            render_mode="rgb_array",
            render_width=SIZE[0],
            render_height=SIZE[1],
        )
    pool.reset()
    dtype = pool.action_space.dtype
    images = []
    recorded = np.load(actions, allow_pickle=False).astype(dtype)
    every = max(1, round(_steps_per_s(env_id) / int(frames_per_s)))
    for number, action in enumerate(recorded):
        if number % every == 0:
            images.append(Image.fromarray(np.asarray(pool.render())[0]))
        pool.step(action[None])
    duration = round(1000 / int(frames_per_s))
    first, *rest = images
    first.save(Path(path), save_all=True, append_images=rest, duration=duration, loop=0)
    del context


def _steps_per_s(env_id: str) -> int:
    """Control steps per second of simulated time."""
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
