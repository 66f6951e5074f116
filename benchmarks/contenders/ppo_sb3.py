"""Stable-Baselines3's PPO with its defaults, in several environments.

Started by ``benchmarks/peers.py`` with the interpreter of the peers.
"""

import warnings

import torch
from measured import Moment, report
from ppo_sizes import size_parser
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

WARM_UP = 2


class TimedPPO(PPO):
    """Adds up what its updates take."""

    update_s = 0.0

    def train(self) -> None:
        begin = Moment.now()
        super().train()
        self.update_s += Moment.now().since(begin).wall


class Window(BaseCallback):
    """Notes the beginning of every rollout, and ends training after ``seconds``."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.iteration = seconds, 0
        self.marks: list[tuple[int, Moment, float]] = []

    def _on_rollout_start(self) -> None:
        self.iteration += 1
        if self.iteration > WARM_UP:
            self.marks.append((self.num_timesteps, Moment.now(), self.model.update_s))

    def _on_step(self) -> bool:
        marks = self.marks
        return len(marks) < 2 or marks[-1][1].wall - marks[0][1].wall < self.seconds


def main() -> None:
    parser = size_parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)

    learner = TimedPPO(
        "MlpPolicy",
        make_vec_env(args.env, n_envs=args.num_envs, seed=args.seed),
        n_steps=args.steps,
        batch_size=args.num_envs * args.steps // args.minibatches,
        n_epochs=args.epochs,
        policy_kwargs={"net_arch": [args.width, args.width]},
        device="cpu",
        seed=args.seed,
    )
    window = Window(args.seconds)
    learner.learn(total_timesteps=100_000_000, callback=window)
    first, last = window.marks[0], window.marks[-1]
    frames, open_for, update = last[0] - first[0], last[1].since(first[1]), last[2] - first[2]
    report(
        {
            "frames_per_s": frames / open_for.wall,
            "frames_per_cpu_s": frames / open_for.cpu,
            "update_items_per_s": frames * args.epochs / update,
            "update_share": update / open_for.wall,
        },
        ("stable-baselines3", "torch", "gymnasium", "mujoco"),
        frames=frames,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
