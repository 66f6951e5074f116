"""Steelyard's behaviour cloning, or inverse RL (IPMD), on shared demonstrations of Pendulum.

Started by ``benchmarks/peers.py``.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np
from measured import Moment, report, took
from pendulum_task import Task

from steelyard.agents.bc import BCConfig
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.episode import Episode
from steelyard.data.provenance import Provenance
from steelyard.envs.registry import env_spec
from steelyard.training.group import RunGroup
from steelyard.training.recipes import BCRun, train_bc, train_ipmd
from steelyard.training.run_folder import RunFolder
from steelyard.training.tasks import task_runs

ENV = "Pendulum-v1"
RANGE = 2.0
"""Largest torque, N·m."""


def demonstrations(task: Task) -> Demonstrations:
    episodes = [
        Episode(seen, torque, None, terminated=False, truncated=True)
        for seen, torque in zip(task.observations, task.actions, strict=True)
    ]
    return Demonstrations.from_episodes(episodes, env_spec(ENV), Provenance(task=ENV))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("learner", choices=("bc", "ipmd"))
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--frames", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    task = Task(args.task)
    data = demonstrations(task)

    ticks: list[tuple[int, Moment]] = []

    def tick(step: int, note: str = "") -> None:
        ticks.append((step, Moment.now()))

    def train(folder: str):
        group = RunGroup([args.seed], [RunFolder(Path(folder))], "peers")
        if args.learner == "bc":
            config = BCConfig(hidden=(args.width, args.width), batch_size=args.batch)
            run = BCRun(ENV, config, epochs=1, min_steps=args.steps)
            return jax.block_until_ready(train_bc(run, group, [data], tick))
        run = task_runs(ENV).ipmd
        loop = dataclasses.replace(
            run.loop, frames=args.frames, eval_interval=None, checkpoint_interval=None
        )
        run = dataclasses.replace(run, loop=loop)
        return jax.block_until_ready(train_ipmd(run, group, [data], tick))

    with tempfile.TemporaryDirectory() as folder:
        stacked, time = took(train, folder)
    agent = jax.tree.map(lambda x: x[0], stacked)
    act = jax.jit(lambda seen: agent.act(seen, jax.random.key(0), deterministic=True))
    score = task.score(lambda seen: RANGE * np.asarray(act(seen)))
    metrics = {"seconds": time.wall, "cpu_seconds": time.cpu, "score": score}
    # From the second tick on nothing is compiled any more.
    (first, begin), (last, end) = ticks[1], ticks[-1]
    if args.learner == "bc":
        metrics["steps_per_s"] = (last - first) / end.since(begin).wall
        metrics["steps_per_cpu_s"] = (last - first) / end.since(begin).cpu
    report(metrics, ("steelyard", "jax", "envpool"))


if __name__ == "__main__":
    main()
