"""Steelyard's SAC through its public recipe, loop and logging included; prints one JSON line.

Started by ``benchmarks/sac_speed.py``.
"""

import argparse
import contextlib
import dataclasses
import json
import tempfile
import time
from importlib import metadata
from pathlib import Path

import jax

from steelyard.training.group import RunGroup
from steelyard.training.recipes import SACRun, train_sac
from steelyard.training.run_folder import RunFolder
from steelyard.training.tasks import task_runs

started = time.perf_counter()


class WindowClosed(Exception):
    """Ends the training once the window is over."""


def configured(env: str, num_envs: int, policy_delay: int, warmup: int) -> SACRun:
    """The task's own settings, replay size included; only what all contenders share is set here."""
    preset = task_runs(env).sac
    agent = dataclasses.replace(
        preset.agent, hidden=(256, 256), batch_size=256, policy_delay=policy_delay
    )
    loop = dataclasses.replace(
        preset.loop,
        num_envs=num_envs,
        utd_ratio=1.0,
        random_frames=warmup,
        log_interval=max(100, num_envs),
        eval_interval=None,
        checkpoint_interval=None,
    )
    return dataclasses.replace(preset, agent=agent, loop=loop)


def compile_clock() -> dict[str, float]:
    """Seconds that JAX spends tracing, lowering and compiling from here on, by kind."""
    seconds: dict[str, float] = {}

    def add(event: str, duration: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            name = event.rsplit("/", 1)[1]
            seconds[name] = seconds.get(name, 0.0) + duration

    jax.monitoring.register_event_duration_secs_listener(add)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-envs", type=int, required=True)
    parser.add_argument("--policy-delay", type=int, required=True)
    args = parser.parse_args()

    compiling = compile_clock()
    run = configured(args.env, args.num_envs, args.policy_delay, args.warmup)
    marks: list[tuple[int, float, float]] = []

    def tick(step: int, note: str = "") -> None:
        if step >= 2 * args.warmup:
            marks.append((step, time.perf_counter(), time.process_time()))
            if marks[-1][1] - marks[0][1] >= args.seconds:
                raise WindowClosed

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WindowClosed):
        group = RunGroup([args.seed], [RunFolder(Path(folder))], "expert")
        train_sac(run, group, tick)

    (first, begin, cpu_begin), (last, end, cpu_end) = marks[0], marks[-1]
    print(
        json.dumps(
            {
                "frames": last - first,
                "seconds": end - begin,
                "cpu_seconds": cpu_end - cpu_begin,
                "before_window_s": begin - started,
                "compile_s": sum(compiling.values()),
                "threads": None,
                "versions": {
                    name: metadata.version(name) for name in ("steelyard", "jax", "envpool")
                },
            }
        )
    )


if __name__ == "__main__":
    main()
