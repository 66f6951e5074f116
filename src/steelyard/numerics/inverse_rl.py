"""Mathematics of inverse policy mirror descent: what the reward and the policy minimise.

Pure functions of values and densities; they know no network and no learner. Wu, Ke, Wu 2023,
"Inverse Reinforcement Learning with the Average Reward Criterion", arXiv:2305.14608; gradient
penalty as in Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028, but
towards slope 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Reduce = Callable[[Float[Array, " item"], Float[Array, " item"] | None], Float[Array, ""]]


def ipmd_reward_loss(
    reward: Callable[[Float[Array, " x"]], Float[Array, ""]],
    policy_x: Float[Array, "policy x"],
    expert_x: Float[Array, "expert x"],
    mix: Float[Array, " mixed"],
    reduction: Reduce,
    *,
    coefficient: float = 1.0,
    gradient_penalty: float = 0.0,
    l2: float = 0.0,
    policy_weights: Float[Array, " policy"] | None = None,
    expert_weights: Float[Array, " expert"] | None = None,
    absorbed: Float[Array, " x"] | None = None,
    ends: tuple[Bool[Array, " policy"], Bool[Array, " expert"]] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    r"""Loss whose gradient is that of the dual, by Danskin's theorem, and two regularisers.

    ``c (mean_i r(x_i^pi) - mean_j r(x_j^E)) + lambda_gp mean_k |grad_x r(x_k)|^2 + lambda_2 1/2
    (mean r_pi^2 + mean r_E^2)`` with ``x_k = w x_k^pi + (1 - w) x_k^E``. Each mean is over its own
    rows, so unequal batch sizes do not bias it. A policy row's loss is its reward, a
    demonstration row's is minus its reward; ``reduction`` receives these.

    Args:
        reward: Reward of one input.
        policy_x: Inputs of the policy's rows.
        expert_x: Inputs of the demonstrations' rows.
        mix: ``w`` in ``[0, 1]`` per interpolated row; at least one, at most as many as the shorter
            source has rows.
        reduction: Per-item losses and their weights to one number.
        coefficient: Factor ``c``.
        gradient_penalty: Factor ``lambda_gp``.
        l2: Factor ``lambda_2``.
        policy_weights: How much each policy row counts.
        expert_weights: How much each demonstration row counts.
        absorbed: Input of the absorbing state; each row that ends there is followed by one.
        ends: Which policy and which expert rows terminated; needed with ``absorbed``.

    Returns:
        The loss and its parts; ``expert_reward`` is per item.
    """
    own, expert = jax.vmap(reward)(policy_x), jax.vmap(reward)(expert_x)
    own_mean, expert_mean = reduction(own, policy_weights), -reduction(-expert, expert_weights)
    if absorbed is not None and ends is not None:
        own_share = reduction(ends[0].astype(own.dtype), policy_weights)
        expert_share = reduction(ends[1].astype(expert.dtype), expert_weights)
        own_mean = (own_mean + own_share * reward(absorbed)) / (1.0 + own_share)
        expert_mean = (expert_mean + expert_share * reward(absorbed)) / (1.0 + expert_share)
    difference = own_mean - expert_mean
    count = mix.shape[0]
    between = mix[:, None] * policy_x[:count] + (1.0 - mix[:, None]) * expert_x[:count]
    slopes = jax.vmap(jax.grad(reward))(between)
    penalty = jnp.mean(jnp.sum(slopes**2, axis=1))
    squares = 0.5 * (jnp.mean(own**2) + jnp.mean(expert**2))
    total = coefficient * difference + gradient_penalty * penalty + l2 * squares
    return total, {
        "loss_reward_diff": difference,
        "loss_reward_l2": squares,
        "loss_reward_gradient_penalty": penalty,
        "estimated_reward_mean": jnp.mean(own),
        "estimated_reward_std": jnp.std(own),
        "expert_reward_mean": jnp.mean(expert),
        "expert_reward_std": jnp.std(expert),
        "expert_reward": expert,
    }


def bounded_reward(raw: Float[Array, ""], bound: float) -> Float[Array, ""]:
    """``bound · tanh(raw)``: a linear loss needs a bounded reward or it runs away."""
    return bound * jnp.tanh(raw)


def mirror_step_loss(
    log_prob: Float[Array, "*item"],
    q: Float[Array, "*item"],
    alpha: Float[Array, ""],
    previous_log_prob: Float[Array, "*item"] | None,
    step: float,
) -> Float[Array, "*item"]:
    r"""``(alpha + 1/eta) log pi - (1/eta) log pi_k - Q`` of an action drawn from ``pi``.

    Its mean under ``pi`` is least at ``pi ∝ pi_k^(1/(1 + eta alpha)) exp(eta Q/(1 + eta alpha))``,
    one step of policy mirror descent (Lan 2021, arXiv:2102.00135).

    Args:
        log_prob: Log density of the action under the policy that is learned.
        q: Its value.
        alpha: Temperature.
        previous_log_prob: Its log density under the previous policy ``pi_k``; none is an infinite
            step, which leaves the soft actor-critic's loss ``alpha log pi - Q``.
        step: Step ``eta`` > 0.
    """
    soft = alpha * log_prob - q
    return soft if previous_log_prob is None else soft + (log_prob - previous_log_prob) / step
