"""Hyper-parameters of IPMD."""

import dataclasses
import math
from typing import Literal

from steelyard.agents.base import ReductionName

RewardInput = Literal["oa", "oao", "o", "next_o"]


@dataclasses.dataclass(frozen=True)
class IPMDConfig:
    """Hyper-parameters of IPMD; names follow the reference code where they mean the same."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of actor and critics (ReLU)."""
    batch_size: int = 256
    """Rows of one critic step."""
    expert_batch_size: int = 256
    """Demonstration rows of one reward step."""
    gamma: float = 0.99
    """Discount per step; 1 is the paper's average-reward setting."""
    tau: float = 0.005
    """Share of the way that target critics, and the mirror policy, move at each step."""
    actor_lr: float = 3e-4
    """Adam step of the actor."""
    critic_lr: float = 1e-3
    """Adam step of the critics."""
    alpha_lr: float = 3e-4
    """Adam step of the logarithm of the temperature, where it is learned."""
    alpha_init: float = 0.1
    """Temperature at the start, in units of `reward_max`."""
    learn_alpha: bool = False
    """Whether the temperature follows the target entropy."""
    target_entropy: float | None = None
    """Entropy (nats, of the normalised action) to hold; none means minus the action size."""
    critic_layer_norm: bool = False
    """Whether the critics normalise their hidden layers, which keeps values of actions that no row
    shows from running away (Ball et al. 2023, arXiv:2302.02948)."""
    policy_delay: int = 1
    """Critic steps per actor step."""
    reward_num_cells: tuple[int, ...] = (64, 64)
    """Width of each hidden layer of the reward network (ReLU)."""
    reward_input: RewardInput = "oa"
    """What the reward sees: observation and action, these and the next observation, or one of the
    observations alone."""
    reward_max: float = 1.0
    """Bound of the reward: `reward_max · tanh f`."""
    reward_lr: float = 3e-4
    """Adam step of the reward network; 0 never trains it."""
    reward_loss_coeff: float = 1.0
    """Factor on the difference of mean rewards."""
    reward_gradient_penalty: float = 1.0
    """Factor on the squared norm of the reward's gradient between policy and expert rows."""
    reward_l2_coeff: float = 0.0
    """Factor on half the mean squared reward of both sources."""
    reward_update_interval: int = 1
    """Critic steps per reward step."""
    demonstration_share: float = 0.25
    """Share of each critic and actor batch that is demonstration rows."""
    policy_rows: str = "replay"
    """Policy rows in the reward's loss: `replay`, `recent:N` frames, or `resampled` actions."""
    mirror_step: float = math.inf
    """Step eta of the mirror descent; infinite is plain soft actor-critic."""
    reward_centering: bool = False
    """Subtract the running mean of the learned reward, whose level no loss holds in place (Naik,
    Wan, Tomar, Sutton 2024, arXiv:2405.09999)."""
    average_reward_lr: float = 1e-2
    """Step of the average reward, where `gamma` is 1 or rewards are centred."""
    absorbing: bool | None = None
    """Whether termination leads to an absorbing state with a learned reward; none: where a task
    can terminate."""
    bc_coef: float = 0.0
    """Factor on the squared error between policy mean and demonstrated action in the actor loss."""
    env_reward_weight: float = 0.0
    """Factor on the task's own reward, added to the learned one; positive is no imitation."""
    use_estimated_rewards_for_sac: bool = True
    """Always true: the policy learns from the estimated reward."""
    reduction: ReductionName = "mean"
    """How per-item losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst items that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        if not self.use_estimated_rewards_for_sac:
            raise ValueError(
                "use_estimated_rewards_for_sac is always true: a policy that learns from the "
                "task's reward is `steelyard train sac`."
            )
        if self.gamma == 1.0 and self.absorbing:
            raise ValueError(
                "gamma=1 (average reward) has no absorbing state; set absorbing=False."
            )
        if not self.mirror_step > 0:
            raise ValueError(f"mirror_step is positive, or inf; got {self.mirror_step}.")
        if not 0.0 <= self.demonstration_share <= 1.0:
            raise ValueError(f"demonstration_share is in [0, 1]; got {self.demonstration_share}.")
        wanted = round(self.demonstration_share * self.batch_size)
        if wanted > self.expert_batch_size:
            raise ValueError(
                f"demonstration_share {self.demonstration_share} of batch_size {self.batch_size} "
                f"takes {wanted} demonstration rows, but expert_batch_size is "
                f"{self.expert_batch_size}: raise it, or lower the share."
            )
        parse_policy_rows(self.policy_rows)
        if self.policy_rows == "resampled" and self.reward_input in ("oao", "next_o"):
            raise ValueError(
                "policy_rows='resampled' draws new actions, which did not lead to the next "
                f"observation that is kept: reward_input is then 'oa' or 'o', got "
                f"{self.reward_input!r}."
            )


def parse_policy_rows(value: str) -> int | None:
    """Number of recent frames of ``recent:N``; none for ``replay`` and ``resampled``.

    Raises:
        ValueError: It is none of the three.
    """
    if value in ("replay", "resampled"):
        return None
    name, _, count = value.partition(":")
    if name != "recent" or not count.isdigit() or int(count) < 1:
        raise ValueError(
            f"policy_rows is 'replay', 'recent:N' with N ≥ 1, or 'resampled'; got {value!r}."
        )
    return int(count)
