"""``mujoco.sysid`` with the true structure of the simulated car; prints one JSON line.

Started by ``benchmarks/peers.py`` with an interpreter that has the extra ``sysid``. The fit is that
of ``car_sysid.py``: first guesses 20 to 30 % off, a robust loss, three searches.
"""

import argparse
from pathlib import Path

import jax
from car_task import load, scores
from measured import report

from steelyard.evaluation.model_rollout import predict, whole_trajectories
from steelyard.training.sysid import fit_plant
from steelyard.training.sysid_plants import mushr_plant
from steelyard.training.sysid_rollouts import roll_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--max-steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    training, test = load(args.task)
    plant = mushr_plant()
    fit = fit_plant(plant, whole_trajectories(training), max_steps=args.max_steps)
    recordings = whole_trajectories(test)
    twist = roll_out(plant.model(fit.values), recordings)
    errors = scores(predict(jax.tree_util.Partial(lambda *_: twist), recordings), recordings)
    metrics = {"seconds": fit.wall_s, "cpu_seconds": fit.cpu_s, **errors}
    report(metrics, ("mujoco", "scipy"))


if __name__ == "__main__":
    main()
