"""Returns and advantages of rollouts, time first: ``[time, env]``.

One rule runs through all of them: step ``t`` is followed by step ``t + 1`` of its episode where

    on_t = not (terminated_t or truncated_t),  valid_t,  valid_{t+1},  and t is not the last row;

elsewhere the future is ``V(s'_t)``, the value of the true final observation, and it counts 0 only
where the episode was terminated. A time limit, the end of the rollout and a row that is masked cut
the sum but not the future (Pardo et al. 2018, "Time limits in reinforcement learning", eq. 6).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Values = Float[Array, "time env"]
Flags = Bool[Array, "time env"]
Scalar = float | Float[Array, ""]


def generalised_advantage_estimation(
    rewards: Values,
    values: Values,
    next_values: Values,
    terminated: Flags,
    truncated: Flags,
    gamma: Scalar,
    lam: Scalar,
    valid: Flags | None = None,
) -> tuple[Values, Values]:
    """Estimate advantages as exponentially weighted sums of temporal differences.

        δ_t = r_t + γ (1 - terminated_t) V(s'_t) - V(s_t)
        A_t = valid_t · (δ_t + γ λ · on_t · A_{t+1})

    Args:
        rewards: ``r``.
        values: ``V(s_t)``, the value of what the step acted on.
        next_values: ``V(s'_t)``, the value of the true final observation of the step, never of
            the first observation of the next episode.
        terminated: The task ended in this step.
        truncated: The time limit cut the episode after this step.
        gamma: Discount in ``[0, 1]``.
        lam: ``λ`` in ``[0, 1]``; 0 is one-step, 1 is ``discounted_returns`` minus ``V(s_t)``.
        valid: Rows that count; all if None. Others get 0 and end the sum before them.

    Returns:
        The advantages ``A`` and the value targets ``A + V(s)``.

    Source: Schulman et al. 2016, "High-dimensional continuous control using generalized advantage
    estimation", eq. 16.
    """
    on, valid = _connected(terminated, truncated, valid)
    bootstrap = jnp.where(terminated, 0, next_values)
    deltas = rewards + gamma * bootstrap - values
    # `where`, not a product: a masked row may hold anything, NaN included.
    deltas = jnp.where(valid, deltas, 0)

    def back(following, row):
        delta, goes_on = row
        advantage = delta + gamma * lam * jnp.where(goes_on, following, 0)
        return advantage, advantage

    _, advantages = jax.lax.scan(back, jnp.zeros_like(deltas[0]), (deltas, on), reverse=True)
    return advantages, jnp.where(valid, advantages + values, 0)


def discounted_returns(
    rewards: Values,
    next_values: Values,
    terminated: Flags,
    truncated: Flags,
    gamma: Scalar,
    valid: Flags | None = None,
) -> Values:
    """Sum the discounted rewards of each step's episode, and the value where the sum is cut.

        G_t = r_t + γ (on_t · G_{t+1} + (1 - on_t) (1 - terminated_t) V(s'_t))

    Args:
        rewards: ``r``.
        next_values: ``V(s'_t)`` of the true final observations; zeros give the plain sum of the
            rewards that were observed.
        terminated: The task ended in this step.
        truncated: The time limit cut the episode after this step.
        gamma: Discount in ``[0, 1]``.
        valid: Rows that count; all if None. Others get 0 and end the sum before them.

    Returns:
        The returns ``G``.

    Source: Sutton and Barto 2018, "Reinforcement learning", eq. 3.9.
    """
    on, valid = _connected(terminated, truncated, valid)
    bootstrap = jnp.where(terminated, 0, next_values)

    def back(following, row):
        reward, future, goes_on, counts = row
        total = jnp.where(counts, reward + gamma * jnp.where(goes_on, following, future), 0)
        return total, total

    rows = (rewards, bootstrap, on, valid)
    return jax.lax.scan(back, jnp.zeros_like(rewards[0]), rows, reverse=True)[1]


def n_step_returns(
    rewards: Values,
    next_values: Values,
    terminated: Flags,
    truncated: Flags,
    gamma: Scalar,
    n: int,
    valid: Flags | None = None,
) -> Values:
    """Sum up to ``n`` discounted rewards, and the value of where the last of them led.

        G^1_t = r_t + γ (1 - terminated_t) V(s'_t)
        G^k_t = r_t + γ (on_t · G^{k-1}_{t+1} + (1 - on_t) (1 - terminated_t) V(s'_t))

    Args:
        rewards: ``r``.
        next_values: ``V(s'_t)`` of the true final observations.
        terminated: The task ended in this step.
        truncated: The time limit cut the episode after this step.
        gamma: Discount in ``[0, 1]``.
        n: Largest number of rewards, at least 1; where the sum is cut before, there are fewer.
        valid: Rows that count; all if None. Others get 0 and end the sum before them.

    Returns:
        The returns ``G^n``.

    Raises:
        ValueError: If ``n`` is below 1.

    Source: Sutton and Barto 2018, "Reinforcement learning", eq. 7.1.
    """
    if n < 1:
        raise ValueError(f"n is at least 1: got {n}")
    on, valid = _connected(terminated, truncated, valid)
    bootstrap = jnp.where(terminated, 0, next_values)

    def longer(_, future):
        following = jnp.roll(future, -1, axis=0)  # the last row wraps around, but is never `on`
        return one_step(jnp.where(on, following, bootstrap))

    def one_step(future):
        return jnp.where(valid, rewards + gamma * future, 0)

    return jax.lax.fori_loop(1, n, longer, one_step(bootstrap))


def _connected(terminated: Flags, truncated: Flags, valid: Flags | None) -> tuple[Flags, Flags]:
    """Return ``on`` and ``valid``: which rows are followed by the next, and which count."""
    if valid is None:
        valid = jnp.ones_like(terminated)
    next_valid = jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])
    return ~(terminated | truncated) & valid & next_valid, valid
