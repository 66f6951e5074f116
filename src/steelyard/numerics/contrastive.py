r"""Contrastive preference learning: likelihoods, segment scores and the loss, as pure functions.

Hejna, Rafailov, Sikchi, Finn, Niekum, Knox, Sadigh 2023, "Contrastive Preference Learning",
arXiv:2310.13639. The bias ``λ`` on the loser: An et al. 2023, arXiv:2301.12842. Ties: Davidson
1970, "On extending the Bradley-Terry model to accommodate ties".

No log-likelihood is clipped and nothing is standardised inside a segment: clipping takes the
gradient away, and standardised values sum to zero whatever the policy is.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float

from steelyard.numerics.gaussian import log_tanh_slope

REFERENCE_STEPS, REFERENCE_ACTIONS = 64, 4
"""The segment length and action size for which ``α = 0.1`` was chosen (the paper's Table 6)."""
MOST_ACTION = 1.0 - 1e-5
LEAST_STD = 0.05

AlphaScale = Literal["normalised", "sum"]
Likelihood = Literal["squared_error", "clipped_gaussian", "tanh_gaussian"]

Actions = Float[Array, "*batch act"]
PerAction = Float[Array, "*batch"]


def squared_error(mode: Actions, action: Actions) -> PerAction:
    """Return ``-‖m - a‖²``: a Gaussian of fixed variance, up to constants; 0 at most."""
    return -jnp.sum((mode - action) ** 2, axis=-1)


def clipped_gaussian(mode: Actions, action: Actions, std: Float[Array, "..."]) -> PerAction:
    """Log-probability of ``clip(m + σ ε, -1, 1)``, exactly: mass on the bounds, density within.

    Args:
        mode: ``m``, in ``[-1, 1]``.
        action: ``a``, in ``[-1, 1]``, both ends included.
        std: ``σ > 0``, of a shape that goes with the actions'.
    """
    standard = (action - mode) / std
    inside = -0.5 * standard**2 - jnp.log(std) - 0.5 * jnp.log(2.0 * jnp.pi)
    low, high = log_ndtr((-1.0 - mode) / std), log_ndtr((mode - 1.0) / std)
    terms = jnp.where(action <= -1.0, low, jnp.where(action >= 1.0, high, inside))
    return jnp.sum(terms, axis=-1)


def tanh_gaussian(mean: Actions, log_std: Actions, action: Actions) -> PerAction:
    """Log-density of a squashed Gaussian at an action, finite at the bounds.

    ``u = atanh(clip(a, ±(1 - 1e-5)))``, ``log N(u; μ, σ²) - Σ 2 (log 2 - u - softplus(-2u))``,
    ``σ`` at least 0.05.

    Args:
        mean: ``μ``, before squashing.
        log_std: ``log σ``, before squashing.
        action: In ``[-1, 1]``.
    """
    pre_tanh = jnp.arctanh(jnp.clip(action, -MOST_ACTION, MOST_ACTION))
    log_std = jnp.maximum(log_std, jnp.log(LEAST_STD))
    noise = (pre_tanh - mean) * jnp.exp(-log_std)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2.0 * jnp.pi)
    return jnp.sum(gaussian - log_tanh_slope(pre_tanh), axis=-1)


def effective_alpha(
    alpha: float,
    valid: Bool[Array, "*batch time"],
    gamma: float,
    action_size: int,
    scale: AlphaScale = "normalised",
) -> Float[Array, "*batch"]:
    """Temperature of a segment: ``α (64·4) / (A Σ_t γᵗ valid_t)``, or ``α`` itself.

    Args:
        alpha: ``α``.
        valid: Steps that count.
        gamma: Discount per step.
        action_size: ``A``, components of an action.
        scale: ``"normalised"``: independent of length and size; ``"sum"``: the plain formula.
    """
    # Departs from the paper: the temperature does not grow with a segment's length and the number
    # of action components; both forms agree at the paper's 64 steps of 4.
    count = valid.astype(float) @ discounts(valid.shape[-1], gamma)
    if scale == "sum":
        return jnp.full(count.shape, alpha)
    full = REFERENCE_STEPS * REFERENCE_ACTIONS
    return alpha * full / (action_size * jnp.maximum(count, 1e-6))


def discounts(steps: int, gamma: float) -> Float[Array, " time"]:
    """``γᵗ`` for ``t = 0 … steps - 1``."""
    return jnp.power(jnp.asarray(gamma, float), jnp.arange(steps, dtype=float))


def segment_score(
    log_likelihood: Float[Array, "*batch time"],
    valid: Bool[Array, "*batch time"],
    alpha: float,
    gamma: float,
    action_size: int,
    scale: AlphaScale = "normalised",
) -> Float[Array, "*batch"]:
    """Return ``S = α_eff Σ_t γᵗ valid_t ℓ_t``; what stands in steps that are not valid is ignored.

    Args:
        log_likelihood: ``ℓ_t`` of each action under the policy.
        valid: Steps that count.
        alpha: Temperature ``α``.
        gamma: Discount per step.
        action_size: Components of an action.
        scale: As in :func:`effective_alpha`.
    """
    kept = jnp.where(valid, log_likelihood, 0.0)
    total = kept @ discounts(valid.shape[-1], gamma)
    return effective_alpha(alpha, valid, gamma, action_size, scale) * total


def preference_loss(
    winner: Float[Array, "*pair"],
    loser: Float[Array, "*pair"],
    label: Float[Array, "*pair"] | float = 1.0,
    lambda_: float = 1.0,
) -> Float[Array, "*pair"]:
    r"""Loss of each pair, ``y softplus(-(S_w - λ S_l)) + (1-y) softplus(-(S_l - λ S_w))``.

    With ``λ = 1``, ``y = 1`` it is ``-log e^{S_w} / (e^{S_w} + e^{S_l})`` (the paper's equation 5);
    ``λ`` multiplies the loser of each order. A tie has ``y = ½``.

    Args:
        winner: Score ``S_w``.
        loser: Score ``S_l``.
        label: ``y``, probability that the first is better.
        lambda_: ``λ`` in (0, 1].
    """
    forward = jax.nn.softplus(-(winner - lambda_ * loser))
    backward = jax.nn.softplus(-(loser - lambda_ * winner))
    return label * forward + (1.0 - label) * backward


def davidson(
    difference: Float[Array, "*pair"], tie: float
) -> tuple[Float[Array, "*pair"], Float[Array, "*pair"], Float[Array, "*pair"]]:
    """Probabilities that the first is better, the second is, and that they tie (Davidson 1970).

    ``∝ e^{d/2}, e^{-d/2}, ν``.

    Args:
        difference: ``d``, the first's worth less the second's.
        tie: ``ν``, at least 0.
    """
    half = 0.5 * difference
    most = jnp.abs(half)
    parts = jnp.exp(half - most), jnp.exp(-half - most), tie * jnp.exp(-most)
    total = parts[0] + parts[1] + parts[2]
    return parts[0] / total, parts[1] / total, parts[2] / total
