"""Steelyard's models of a car, learned on a dozen simulated trajectories; prints one JSON line.

Started by ``benchmarks/peers.py``.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax
from car_task import load, scores
from measured import report, took

from steelyard.agents.dynamics import DynamicsConfig, ModelConfig
from steelyard.agents.dynamics.config import OptimConfig
from steelyard.data.splits import take
from steelyard.evaluation.model_rollout import whole_trajectories
from steelyard.training.dynamics import DynamicsRun, play, take_learner, train_dynamics
from steelyard.training.group import RunGroup
from steelyard.training.run_folder import RunFolder

VALIDATION = 2
"""Of the training trajectories, which choose the kept model."""
MODELS = {
    "structured": ModelConfig(),
    "hybrid": ModelConfig(type="structured", physics="single_track"),
    "single_track": ModelConfig(type="single_track"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    training, test = load(args.task)
    ids = training.ids
    parts = take(training, ids[VALIDATION:]), take(training, ids[:VALIDATION])
    agent = DynamicsConfig(
        model=MODELS[args.model],
        groups=len(ids) - VALIDATION,
        windows_per_group=8,
        optim=OptimConfig(lr=5e-3),
    )
    run = DynamicsRun(agent=agent, steps=args.steps, eval_every=250)

    def train(folder: str):
        group = RunGroup([args.seed], [RunFolder(Path(folder))], "peers")
        return jax.block_until_ready(train_dynamics([run], group, *parts))

    with tempfile.TemporaryDirectory() as folder:
        learners, time = took(train, folder)
    recordings = whole_trajectories(test)
    learner = take_learner(learners, 0)
    errors = scores(play(learner, recordings), recordings)
    metrics = {"seconds": time.wall, "cpu_seconds": time.cpu, **errors}
    report(metrics, ("steelyard", "jax"), steps=args.steps, run=dataclasses.asdict(run.agent.model))


if __name__ == "__main__":
    main()
