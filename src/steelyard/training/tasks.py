"""Settings of each learner by task: the budgets and sizes of docs/methods, in one place."""

import dataclasses
from typing import NamedTuple

from steelyard.agents.bc import BCConfig
from steelyard.agents.ipmd import IPMDConfig
from steelyard.agents.sac import SACConfig
from steelyard.envs.registry import env_spec
from steelyard.envs.robopianist_songs import PREFIX as PIANO
from steelyard.training.off_policy import OffPolicyConfig
from steelyard.training.recipes import BCRun, IPMDRun, SACRun


class TaskRuns(NamedTuple):
    """One config per learner for a task."""

    sac: SACRun
    ipmd: IPMDRun
    bc: BCRun


def _pendulum() -> TaskRuns:
    small, fast = (64, 64), 1e-3
    sac = SACConfig(
        hidden=small, batch_size=128, actor_lr=fast, critic_lr=fast, alpha_lr=fast, alpha_init=1.0
    )
    ipmd = IPMDConfig(
        hidden=small,
        batch_size=64,
        expert_batch_size=64,
        actor_lr=fast,
        critic_lr=fast,
        alpha_lr=fast,
    )
    sac_loop = OffPolicyConfig(
        frames=20_000,
        num_envs=4,
        random_frames=1_000,
        eval_interval=2_000,
        checkpoint_interval=8_000,
    )
    ipmd_loop = dataclasses.replace(sac_loop, frames=12_000, num_envs=8)
    return TaskRuns(
        SACRun("Pendulum-v1", sac, sac_loop, observation_scale=(1.0, 1.0, 0.125)),
        IPMDRun("Pendulum-v1", ipmd, ipmd_loop),
        BCRun("Pendulum-v1", BCConfig(hidden=small)),
    )


def _locomotion(env: str, action_size: int | None) -> TaskRuns:
    target = None if action_size is None else -action_size / 2
    sac = SACConfig(alpha_init=0.1, target_entropy=target, policy_delay=2)
    ipmd = IPMDConfig(policy_delay=2, critic_layer_norm=True, alpha_init=0.03)
    sac_loop = OffPolicyConfig(
        frames=500_000,
        num_envs=16,
        random_frames=10_000,
        log_interval=10_000,
        eval_interval=50_000,
        checkpoint_interval=48_000,
    )
    # Sixteen environments start their episodes together, and between two starts, 16,000 updates
    # apart, the imitator forgets how to (docs/methods/ipmd.md): four bring starts more often.
    ipmd_loop = dataclasses.replace(sac_loop, frames=300_000, num_envs=4, eval_interval=25_000)
    return TaskRuns(SACRun(env, sac, sac_loop), IPMDRun(env, ipmd, ipmd_loop), BCRun(env))


PIANO_CHECKPOINTS = 6


def _piano(env: str) -> TaskRuns:
    # The reference's learner, but for half its batch, a lower temperature at the start and a budget
    # for two cores (docs/methods/sac.md).
    sac = SACConfig(
        hidden=(256, 256, 256),
        batch_size=128,
        gamma=0.8,
        tau=0.01,
        critic_lr=3e-4,
        alpha_init=0.1,
        target_entropy=-0.5 * env_spec(env).action_size,
        activation="gelu",
        critic_layer_norm=True,
        critic_dropout=0.01,
        actor_q="mean",
    )
    frames = 120_000
    loop = OffPolicyConfig(
        frames=frames,
        num_envs=4,
        random_frames=5_000,
        log_interval=1_000,
        eval_interval=5_000,
        checkpoint_interval=frames // PIANO_CHECKPOINTS,
    )
    run = SACRun(env, sac, loop, observation_scale=(1.0,), keep_policies=True)
    return TaskRuns(run, IPMDRun(env), BCRun(env))


def task_runs(env: str) -> TaskRuns:
    """Settings for a task; tasks without settings of their own get those of locomotion.

    Args:
        env: Task, e.g. ``"Pendulum-v1"``.
    """
    if env == "Pendulum-v1":
        return _pendulum()
    if env.startswith(PIANO):
        return _piano(env)
    return _locomotion(env, 6 if env == "HalfCheetah-v5" else None)
