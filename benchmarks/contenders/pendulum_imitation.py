"""The ``imitation`` library's cloning, GAIL or AIRL on shared demonstrations of Pendulum.

Started by ``benchmarks/peers.py`` with the interpreter of the peers.
"""

import argparse
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import torch
from imitation.algorithms import bc
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Trajectory
from imitation.rewards.reward_nets import BasicShapedRewardNet
from imitation.util import logger
from imitation.util.networks import RunningNorm
from measured import report, took
from pendulum_task import Task
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy

ENV = "Pendulum-v1"


def clone(args: argparse.Namespace, trajectories: list[Trajectory], log) -> object:
    space = gymnasium.make(ENV)
    policy = ActorCriticPolicy(
        space.observation_space,
        space.action_space,
        lr_schedule=lambda _: 1e-3,
        net_arch=[args.width, args.width],
        activation_fn=torch.nn.ReLU,
    )
    trainer = bc.BC(
        observation_space=space.observation_space,
        action_space=space.action_space,
        rng=np.random.default_rng(args.seed),
        policy=policy,
        demonstrations=trajectories,
        batch_size=args.batch,
        device="cpu",
        custom_logger=log,
    )
    _, time = took(
        lambda: trainer.train(n_batches=args.steps, progress_bar=False, log_interval=args.steps)
    )
    return trainer.policy, time


def adversarial(args: argparse.Namespace, trajectories: list[Trajectory], log) -> object:
    envs = make_vec_env(ENV, n_envs=8, seed=args.seed)
    width = [args.width, args.width]
    if args.generator == "sac":
        learner = SAC(
            "MlpPolicy",
            envs,
            batch_size=args.batch,
            learning_rate=1e-3,
            learning_starts=1_000,
            train_freq=1,
            gradient_steps=8,
            policy_kwargs={"net_arch": width},
            device="cpu",
            seed=args.seed,
        )
    else:
        # As in the library's own example of the method, rollouts of 1,024 frames.
        learner = PPO(
            "MlpPolicy",
            envs,
            n_steps=128,
            batch_size=64,
            n_epochs=10,
            gamma=0.9,
            learning_rate=1e-3,
            policy_kwargs={"net_arch": width, "activation_fn": torch.nn.ReLU},
            device="cpu",
            seed=args.seed,
        )
    kind = GAIL if args.method == "gail" else AIRL
    reward = BasicShapedRewardNet(
        envs.observation_space, envs.action_space, normalize_input_layer=RunningNorm
    )
    trainer = kind(
        demonstrations=trajectories,
        demo_batch_size=1_024,
        gen_train_timesteps=1_024,
        gen_replay_buffer_capacity=1_024,
        n_disc_updates_per_round=8,
        venv=envs,
        gen_algo=learner,
        reward_net=reward,
        custom_logger=log,
    )
    _, time = took(lambda: trainer.train(args.frames))
    return learner.policy, time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=("bc", "gail", "airl"))
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--generator", choices=("ppo", "sac"), default="ppo")
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--frames", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    task = Task(args.task)
    trajectories = [
        Trajectory(obs=seen, acts=torque, infos=None, terminal=False)
        for seen, torque in zip(task.observations, task.actions, strict=True)
    ]
    log = logger.configure(None, [])
    train = clone if args.method == "bc" else adversarial
    policy, time = train(args, trajectories, log)
    score = task.score(lambda seen: policy.predict(seen, deterministic=True)[0])
    metrics = {"seconds": time.wall, "cpu_seconds": time.cpu, "score": score}
    if args.method == "bc":
        metrics["steps_per_s"] = args.steps / time.wall
        metrics["steps_per_cpu_s"] = args.steps / time.cpu
    packages = ("imitation", "stable-baselines3", "torch", "gymnasium")
    report(metrics, packages, threads=args.threads)


if __name__ == "__main__":
    main()
