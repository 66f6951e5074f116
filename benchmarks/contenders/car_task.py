"""Trajectories of a simulated 1/10 car that all contenders of a row share.

    python car_task.py FILE

simulates ``car-mujoco`` ``mixed`` into the folder ``car`` beside the file, for training and for
testing. A few are enough for a fit of twenty numbers; networks would want more.
"""

import sys
from pathlib import Path

from steelyard.data.car import car_trajectories
from steelyard.data.trajectories import Trajectories
from steelyard.envs.car.generate import generate
from steelyard.evaluation.model_rollout import Recordings, floor, naive, whole_trajectories
from steelyard.evaluation.motion_metrics import MotionErrors, summarise_motion

SET = "mixed"
TRAIN, TRAIN_SEED, TEST, TEST_SEED = 12, 100, 60, 102


def load(file: Path) -> tuple[Trajectories, Trajectories]:
    """Training and test trajectories."""
    parts = ((TRAIN, TRAIN_SEED), (TEST, TEST_SEED))
    recorded = (generate(SET, n, seed, cache=file.parent / "car") for n, seed in parts)
    training, test = (car_trajectories(one, SET) for one in recorded)
    return training, test


def scores(prediction, recordings: Recordings) -> dict[str, float]:
    """Mean distance over whole open-loop rollouts, m, and over the second after the start."""
    sides = (prediction, floor(recordings), naive(recordings))
    found = summarise_motion(
        *(MotionErrors.of(one, recordings) for one in sides), horizons_s=(1.0,)
    )
    whole, second = found["whole"]["ate_m"], found["1"]["fde_m"]
    return {
        "ate_median_m": float(whole["median"]),
        "ate_mean_m": float(whole["mean"]),
        "second_mean_m": float(second["mean"]),
        "naive_ate_mean_m": float(whole["naive"]["mean"]),
    }


if __name__ == "__main__":
    for part in load(Path(sys.argv[1])):
        whole_trajectories(part)
