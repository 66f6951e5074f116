"""How far does ``mujoco.sysid`` get with the car: a simulator of known structure, fitted.

    pip install 'steelyard[sysid]'
    python benchmarks/car_sysid.py

Two fits on ``car-mujoco`` ``mixed`` (20 training trajectories, first guesses 20 to 30 % off the
truth, one friction for all trajectories) and on DART (folds by file, where the recordings are
there), each scored open-loop on test data with the study's metrics. Writes
``results/benchmarks/car_sysid.json``; each part replaces only itself, so ``--parts`` can be run one
after the other.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from steelyard.data.car import car_trajectories
from steelyard.data.dart import dart_split, load_dart
from steelyard.data.dart_files import find_dart
from steelyard.data.trajectories import Trajectories
from steelyard.envs.car.generate import generate
from steelyard.evaluation.model_rollout import (
    Recordings,
    floor,
    naive,
    predict,
    whole_trajectories,
)
from steelyard.evaluation.motion_metrics import MotionErrors, summarise_motion
from steelyard.training.dynamics_scores import rollouts
from steelyard.training.dynamics_windows import Cut
from steelyard.training.sysid import DIFFERENCES, KNEE, PlantFit, fit_plant
from steelyard.training.sysid_plants import MUSHR_TRUTH, Plant, dart_plant, mushr_plant
from steelyard.training.sysid_rollouts import roll_out

TRAIN_SEED, TEST_SEED = 100, 102
DART_STEPS = 40
DART_HISTORY = 20  # a second, several times the actuators' lag
DART_LEAD = 25  # as in the study: the same rollouts for all models
REPORTED = ("mean", "median", "cvar20", "max")


def score(plant: Plant, values: Mapping[str, float], recordings: Recordings) -> dict[str, Any]:
    """Open-loop errors in m of one set of values, beside the constant twist and the floor."""
    cpu = time.process_time()
    twist = roll_out(plant.model(values), recordings)
    cpu = time.process_time() - cpu
    model = predict(jax.tree_util.Partial(_given, twist), recordings)
    sides = [MotionErrors.of(p, recordings) for p in (model, floor(recordings), naive(recordings))]
    summary = summarise_motion(*sides, horizons_s=(1.0, 2.0))
    rows: dict[str, Any] = {
        "n": int(twist.shape[0]),
        "diverged": summary["whole"]["diverged"]["count"],
        "rollout_cpu_s": round(cpu, 2),
    }
    for horizon, metrics in summary.items():
        for metric in ("ate_m", "fde_m"):
            found = metrics[metric]
            rows[f"{metric} {horizon}"] = {
                "n": found["n"],
                **{name: _round(found[name]) for name in REPORTED},
                "naive": {name: _round(found["naive"][name]) for name in REPORTED},
                "floor_mean": _round(found["floor"]["mean"]),
            }
    return rows


def described(plant: Plant, fit: PlantFit, truth: Mapping[str, float] | None) -> dict[str, Any]:
    numbers = {
        name: {
            "first_guess": _round(unknown.start),
            "fitted": _round(fit.values[name]),
            **({"truth": _round(truth[name])} if truth else {}),
        }
        for name, unknown in plant.unknowns.items()
    }
    return {
        "numbers": numbers,
        "cost": [_round(cost) for cost in fit.cost],
        "cpu_s": round(fit.cpu_s, 1),
        "wall_s": round(fit.wall_s, 1),
    }


def mixed(args: argparse.Namespace) -> dict[str, Any]:
    def load(name: str, count: int, seed: int) -> Recordings:
        recorded = generate(name, count, seed, cache=args.cache)
        return whole_trajectories(car_trajectories(recorded, name))

    train = load("mixed", args.trajectories, TRAIN_SEED)
    tests = {name: load(name, args.test, TEST_SEED) for name in ("mixed", "lowgrip")}
    plant = mushr_plant()
    fit = fit_plant(plant, train, max_steps=args.max_steps)
    sources = {"first guess": plant.start, "fitted": fit.values, "truth, friction 0.8": MUSHR_TRUTH}
    return {
        "train": {"set": "mixed", "seed": TRAIN_SEED, "trajectories": args.trajectories},
        "fit": described(plant, fit, MUSHR_TRUTH),
        "train_scores": {source: score(plant, values, train) for source, values in sources.items()},
        "scores": {
            name: {source: score(plant, values, test) for source, values in sources.items()}
            for name, test in tests.items()
        },
    }


def dart(fold: int, args: argparse.Namespace) -> dict[str, Any]:
    recordings = load_dart(args.dart_dir)
    split = dart_split(recordings, fold)
    train, held_out, tests = split.apply(recordings)
    windows = thinned(windows_of(train), args.dart_windows)
    plant = dart_plant()
    fit = fit_plant(plant, windows, max_steps=args.max_steps)
    sources = {"first guess": plant.start, "fitted": fit.values}
    return {
        "split": split.name,
        "train": {"windows": int(windows.valid.shape[0]), "steps": DART_STEPS},
        "fit": described(plant, fit, None),
        "scores": {
            name: {
                source: score(plant, values, windows_of(part)) for source, values in sources.items()
            }
            for name, part in {**tests, "hold-out": held_out}.items()
        },
    }


def windows_of(trajectories: Trajectories) -> Recordings:
    return rollouts(trajectories, DART_HISTORY, Cut(DART_STEPS, DART_LEAD))[0]


def thinned(recordings: Recordings, most: int) -> Recordings:
    """Every k-th recording, so that at most ``most`` are left."""
    every = math.ceil(recordings.valid.shape[0] / most)
    return jax.tree.map(lambda array: array[::every], recordings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--parts", nargs="+", default=["mixed", "dart-0", "dart-2"],
        help="mixed, and dart-<fold>; fold 2 holds out the file of the published comparison",
    )  # fmt: skip
    parser.add_argument("--trajectories", type=int, default=20)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--dart-windows", type=int, default=40)
    parser.add_argument("--max-steps", type=int, default=10, help="points that a search may try")
    parser.add_argument("--dart-dir")
    parser.add_argument("--cache", type=Path, help="folder of simulated trajectories")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/car_sysid.json"))
    args = parser.parse_args()

    written = json.loads(args.out.read_text()) if args.out.exists() else {}
    for part in args.parts:
        if part.startswith("dart-") and find_dart(args.dart_dir) is None:
            print(f"{part}: the recordings are not here; left out")
            continue
        result = mixed(args) if part == "mixed" else dart(int(part.removeprefix("dart-")), args)
        written["method"] = {
            "fit": "mujoco.sysid.optimize, scipy_parallel_fd, soft_l1",
            "knee": KNEE,
            "differences": DIFFERENCES,
            "max_steps": args.max_steps,
            "versions": {name: metadata.version(name) for name in ("mujoco", "scipy", "numpy")},
        }
        written[part] = result
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(written, indent=1) + "\n")
        print_part(part, result)


def print_part(part: str, result: Mapping[str, Any]) -> None:
    fit = result["fit"]
    print(f"{part}: {fit['cpu_s']} CPU-s, {fit['wall_s']} s; cost {fit['cost']}")
    for name, number in fit["numbers"].items():
        print(f"  {name:16}", *(f"{key} {value:<9g}" for key, value in number.items()))
    for group, sources in result["scores"].items():
        for source, rows in sources.items():
            cells = [
                f"{key}: " + " / ".join(f"{rows[key][name]:.3f}" for name in REPORTED[:3])
                for key in ("ate_m whole", "fde_m 1", "fde_m 2")
            ]
            print(f"  {group}, {source} (n={rows['n']}), mean/median/CVaR20:", "; ".join(cells))


def _given(twist: np.ndarray, *_: Any) -> np.ndarray:
    return twist


def _round(value: float) -> float:
    return float(f"{value:.5g}")


if __name__ == "__main__":
    main()
