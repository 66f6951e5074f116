"""Stable-Baselines3's SAC with its defaults; prints one JSON line.

Started by ``benchmarks/sac_speed.py`` with the interpreter of ``--python-peers``.
"""

import argparse
import json
import time
import warnings
from importlib import metadata

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

started = time.perf_counter()


class Window(BaseCallback):
    """Notes every hundredth frame from ``first`` on, and ends training after ``seconds``."""

    def __init__(self, first: int, seconds: float):
        super().__init__()
        self.first, self.seconds = first, seconds
        self.marks: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps < self.first or (self.num_timesteps - self.first) % 100:
            return True
        self.marks.append((self.num_timesteps, time.perf_counter(), time.process_time()))
        return self.marks[-1][1] - self.marks[0][1] < self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)

    learner = SAC(
        "MlpPolicy",
        args.env,
        batch_size=256,
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [256, 256]},
        learning_starts=args.warmup,
        device="cpu",
        seed=args.seed,
        verbose=0,
    )
    window = Window(2 * args.warmup, args.seconds)
    learner.learn(total_timesteps=1_000_000, callback=window)
    (first, begin, cpu_begin), (last, end, cpu_end) = window.marks[0], window.marks[-1]
    print(
        json.dumps(
            {
                "frames": last - first,
                "seconds": end - begin,
                "cpu_seconds": cpu_end - cpu_begin,
                "before_window_s": begin - started,
                "compile_s": 0.0,
                "threads": torch.get_num_threads(),
                "versions": {
                    name: metadata.version(name)
                    for name in ("stable-baselines3", "torch", "gymnasium", "mujoco")
                },
            }
        )
    )


if __name__ == "__main__":
    main()
