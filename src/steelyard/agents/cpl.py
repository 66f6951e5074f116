r"""Contrastive preference learning: a policy from comparisons of segments, without a reward model.

Hejna, Rafailov, Sikchi, Finn, Niekum, Knox, Sadigh 2023, "Contrastive Preference Learning: Learning
from Human Feedback without RL", arXiv:2310.13639. The policy's own log-likelihood of what was done
is the advantage; a segment's score is its sum, and the better of two segments should score higher.
A conservative term keeps the policy near a frozen copy of the one it began as.

With ``preference_weight = 0`` and ``bc_coeff = 1`` the same learner clones segments: all of them
(BC), the better ones (SFT), or those that a rating or a return picks (%BC).
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.agents.base import ReductionName, loss_reduction
from steelyard.data.normalisation import Normaliser
from steelyard.nets import (
    ACTIVATIONS,
    TanhGaussian,
    choose_tanh_normal,
)
from steelyard.numerics.contrastive import (
    AlphaScale,
    Likelihood,
    clipped_gaussian,
    preference_loss,
    segment_score,
    squared_error,
    tanh_gaussian,
)
from steelyard.numerics.optimisation import optimise, start_optimiser
from steelyard.numerics.trees import select
from steelyard.types import EnvSpec, PreferenceBatch, Segment, UpdateInfo

MOST_SKIPPED = 10
"""Updates that may be left out before a run is stopped all the same."""


@dataclasses.dataclass(frozen=True)
class CPLConfig:
    """Hyper-parameters of contrastive preference learning."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer of the policy."""
    activation: Literal["relu", "gelu"] = "relu"
    """Non-linearity of the policy."""
    batch_size: int = 32
    """Pairs of one gradient step, or segments where `pairs` is `in_batch`."""
    learning_rate: float = 1e-4
    """Adam step."""
    warmup_steps: int = 0
    """Steps over which the step size rises from 0."""
    alpha: float = 0.1
    """Temperature of the policy's log-likelihood."""
    alpha_scale: AlphaScale = "normalised"
    """`normalised` is independent of a segment's length and the action's size; `sum` is not."""
    lambda_: float = 0.5
    """Bias on the loser of a pair, in (0, 1]; 1 is the plain loss."""
    gamma: float = 1.0
    """Discount per step of a segment."""
    preference_weight: float = 1.0
    """Factor of the preference loss."""
    conservative_weight: float = 0.01
    """Factor of the distance to the policy that training began with."""
    conservative: Literal["mse", "kl"] = "mse"
    """Squared error of the modes, or KL(reference to policy) of the Gaussians before squashing."""
    bc_coeff: float = 0.0
    """Factor of the cloning loss."""
    likelihood: Likelihood = "squared_error"
    """Log-likelihood of an action; see docs/methods/cpl.md."""
    anchor: Literal["none", "reference", "behaviour"] = "none"
    """What a log-likelihood is counted from: nothing, the reference's, or the one that played."""
    std: float = 0.3
    """Standard deviation of `clipped_gaussian`."""
    dropout: float = 0.0
    """Share of hidden units that are left out, the same ones along a segment."""
    max_grad_norm: float = 1.0
    """Longest gradient; longer ones are cut to it."""
    pairs: Literal["explicit", "in_batch"] = "explicit"
    """A batch of pairs, or all pairs among a batch of segments."""
    on_nonfinite: Literal["error", "skip"] = "error"
    """What a loss or gradient that is not finite does: end the run, or be left out, ten times."""
    reduction: ReductionName = "self_normalised_mean"
    """How the pairs' losses become one number."""
    cvar_alpha: float = 1.0
    """Share of the worst pairs that count, where `reduction` is `cvar`."""

    def __post_init__(self) -> None:
        if not 0.0 < self.lambda_ <= 1.0:
            raise ValueError(f"lambda_ lies in (0, 1]: got {self.lambda_}")
        anchored = self.likelihood == "squared_error" or self.anchor != "none"
        if self.lambda_ < 1.0 and self.preference_weight > 0.0 and not anchored:
            raise ValueError(
                f"lambda_ < 1 needs likelihoods of which 0 is the best: got lambda_="
                f"{self.lambda_} with likelihood={self.likelihood!r}, whose log can be positive, "
                "so that every pair would be saturated; use likelihood='squared_error' or "
                "anchor='reference'"
            )
        if self.conservative == "kl" and self.likelihood == "clipped_gaussian":
            raise ValueError(
                "conservative='kl' is of the Gaussians before squashing, which "
                "likelihood='clipped_gaussian' does not train; use 'mse'"
            )
        for name in ("alpha", "learning_rate", "max_grad_norm", "std"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is above 0: got {getattr(self, name)}")
        for name in ("preference_weight", "conservative_weight", "bc_coeff"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} is at least 0: got {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout lies in [0, 1): got {self.dropout}")
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma lies in (0, 1]: got {self.gamma}")


class CPL(eqx.Module):
    """The policy, its frozen start and the optimiser's state."""

    actor: TanhGaussian
    reference: TanhGaussian
    optimiser_state: optax.OptState
    skipped: Int[Array, ""]
    normaliser: Normaliser
    config: CPLConfig = eqx.field(static=True)

    @classmethod
    def create(
        cls,
        key: PRNGKeyArray,
        spec: EnvSpec,
        config: CPLConfig,
        normaliser: Normaliser,
        actor: TanhGaussian | None = None,
    ) -> "CPL":
        """Begin with a pretrained policy, or draw one.

        Args:
            key: Random key.
            spec: The task's sizes.
            config: Hyper-parameters.
            normaliser: Of observations; that of the pretrained policy where there is one.
            actor: The policy to tune, which also stays as the reference.
        """
        if actor is None:
            sizes = (spec.observation_size, spec.action_size, config.hidden)
            actor = TanhGaussian(*sizes, key, ACTIVATIONS[config.activation])
        state = start_optimiser(_optimiser(config), actor)
        return cls(actor, actor, state, jnp.zeros((), jnp.int32), normaliser, config)

    def act(
        self, observation: Float[Array, "batch obs"], key: PRNGKeyArray, deterministic: bool
    ) -> Float[Array, "batch act"]:
        """The policy's mode, or a draw of the squashed Gaussian."""
        mean, log_std = jax.vmap(lambda o: self.actor(self.normaliser(o)))(observation)
        return choose_tanh_normal(mean, log_std, key, deterministic)

    def update(
        self,
        batch: PreferenceBatch,
        key: PRNGKeyArray,
        weights: Float[Array, " pair"] | None = None,
    ) -> tuple["CPL", UpdateInfo]:
        """Take one gradient step.

        Args:
            batch: Segments and the pairs among them.
            key: Of the units that are left out.
            weights: How much each pair counts; 0 for pairs that nobody may compare.

        Returns:
            The new learner; metrics and the pairs' losses as `loss`.
        """

        def objective(actor: TanhGaussian) -> tuple[Array, tuple[dict[str, Array], Array]]:
            return self._objective(actor, batch, key, weights)

        grads, (metrics, losses) = jax.grad(objective, has_aux=True)(self.actor)
        norm = optax.tree.norm(grads)
        actor, state = optimise(_optimiser(self.config), self.actor, grads, self.optimiser_state)
        clipped = (norm > self.config.max_grad_norm).astype(jnp.float32)
        metrics |= {"train/grad_norm": norm, "train/grad_clipped_share": clipped}
        bad = ~jnp.isfinite(norm) | ~jnp.isfinite(metrics["train/total_loss"])
        new = eqx.tree_at(lambda a: (a.actor, a.optimiser_state), self, (actor, state))
        if self.config.on_nonfinite == "skip":
            count = self.skipped + bad
            new = eqx.tree_at(lambda a: a.skipped, select(bad, self, new), count)
            hidden = bad & (count <= MOST_SKIPPED)  # beyond it, the loop is told and stops
            metrics = {name: jnp.where(hidden, 0.0, value) for name, value in metrics.items()}
        return new, UpdateInfo(
            metrics | {"train/nonfinite": bad.astype(jnp.float32)}, {"loss": losses}
        )

    def _objective(
        self,
        actor: TanhGaussian,
        batch: PreferenceBatch,
        key: PRNGKeyArray | None,
        weights: Array | None,
    ) -> tuple[Array, tuple[dict[str, Array], Array]]:
        """``preference_weight · CPL + conservative_weight · C + bc_coeff · BC``, and its parts."""
        config, segments = self.config, batch.segments
        mean, log_std = self._heads(actor, segments, key)
        ref_mean, ref_log_std = jax.lax.stop_gradient(self._heads(self.reference, segments, None))
        likelihood = log_likelihood(config, mean, log_std, segments.action)
        counted = likelihood - self._anchor(ref_mean, ref_log_std, segments)
        scores = self._scores(counted, segments)
        first, second = scores[batch.winner], scores[batch.loser]
        losses = preference_loss(first, second, batch.label, config.lambda_)
        preference = loss_reduction(config)(losses, weights)
        distance = conservative_loss(config, (mean, log_std), (ref_mean, ref_log_std))
        conservative = mean_over_valid(distance, segments)
        cloning = _cloning_loss(likelihood, segments, batch.cloned)
        total = jnp.zeros(())
        for weight, term in (
            (config.preference_weight, preference),
            (config.conservative_weight, conservative),
            (config.bc_coeff, cloning),
        ):
            if weight > 0.0:  # a term of weight 0 is no part of the program
                total = total + weight * term
        metrics = {
            "train/total_loss": total,
            "train/preference_loss": preference,
            "train/conservative_loss": conservative,
            "train/bc_loss": cloning,
            "train/distance_to_reference": jnp.sqrt(
                mean_over_valid(jnp.mean((jnp.tanh(mean) - jnp.tanh(ref_mean)) ** 2, -1), segments)
            ),
            **self._told(batch, likelihood, scores, weights),
        }
        return total, (metrics, losses)

    def _heads(
        self, actor: TanhGaussian, segments: Segment, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        """Mean and log σ before squashing, ``[item, time, act]``."""

        def one(observation: Array, key: PRNGKeyArray | None) -> tuple[Array, Array]:
            # Departs from the paper: one choice of left-out units along a segment, so that it is
            # judged by one policy.
            step = lambda o: actor(self.normaliser(o), self.config.dropout, key)  # noqa: E731
            return jax.vmap(step)(observation)

        if key is None or self.config.dropout == 0.0:
            return jax.vmap(lambda o: one(o, None))(segments.observation)
        return jax.vmap(one)(segments.observation, jax.random.split(key, len(segments.valid)))

    def _anchor(self, mean: Array, log_std: Array, segments: Segment) -> Array:
        """What log-likelihoods are counted from, ``[item, time]``."""
        if self.config.anchor == "reference":
            return log_likelihood(self.config, mean, log_std, segments.action)
        if self.config.anchor == "behaviour":
            return segments.behaviour_logp
        return jnp.zeros(segments.valid.shape)

    def _scores(self, counted: Array, segments: Segment) -> Array:
        config, size = self.config, segments.action.shape[-1]
        return segment_score(
            counted, segments.valid, config.alpha, config.gamma, size, config.alpha_scale
        )

    def _told(
        self, batch: PreferenceBatch, likelihood: Array, scores: Array, weights: Array | None
    ) -> dict[str, Array]:
        """What is worth watching of a batch, by the names that its users know."""
        count = jnp.ones(batch.label.shape) if weights is None else weights
        strict = count * (batch.label != 0.5)
        first, second = scores[batch.winner], scores[batch.loser]
        per_segment = jnp.sum(jnp.where(batch.segments.valid, likelihood, 0.0), 1)
        per_segment = per_segment / jnp.sum(batch.segments.valid, 1)
        better = jnp.where(batch.label >= 0.5, first > second, second > first)

        def over(values: Array) -> Array:
            return jnp.sum(strict * values) / jnp.maximum(jnp.sum(strict), 1e-6)

        return {
            "train/accuracy": over(better.astype(jnp.float32)),
            "preferred_logprobs_mean": over(per_segment[batch.winner]),
            "non_preferred_logprobs_mean": over(per_segment[batch.loser]),
            "preferred_segment_adv": over(first),
            "non_preferred_segment_adv": over(second),
        }

    def judge(self, batch: PreferenceBatch, weights: Array | None = None) -> dict[str, Array]:
        """Losses and accuracy on pairs that were held out; nothing is left out or learned."""
        _, (metrics, _) = self._objective(self.actor, batch, None, weights)
        return {
            "heldout/loss": metrics["train/preference_loss"],
            "heldout/accuracy": metrics["train/accuracy"],
            "heldout/preferred_logprobs_mean": metrics["preferred_logprobs_mean"],
        }


def log_likelihood(
    config: CPLConfig,
    mean: Float[Array, "*batch act"],
    log_std: Float[Array, "*batch act"],
    action: Float[Array, "*batch act"],
) -> Float[Array, "*batch"]:
    """``ℓ`` of an action under the policy, as ``config.likelihood`` says."""
    if config.likelihood == "squared_error":
        return squared_error(jnp.tanh(mean), action)
    if config.likelihood == "clipped_gaussian":
        return clipped_gaussian(jnp.tanh(mean), action, jnp.asarray(config.std))
    return tanh_gaussian(mean, log_std, action)


def conservative_loss(
    config: CPLConfig, policy: tuple[Array, Array], reference: tuple[Array, Array]
) -> Float[Array, "item time"]:
    """Distance of the policy to the reference at each step; both are ``(mean, log σ)``.

    ``mse``: ``mean_d (tanh μ - tanh μ_ref)²``; ``kl``: ``mean_d KL(N_ref ‖ N)``.
    """
    (mean, log_std), (ref_mean, ref_log_std) = policy, reference
    if config.conservative == "mse":
        return jnp.mean((jnp.tanh(mean) - jnp.tanh(ref_mean)) ** 2, axis=-1)
    ratio = jnp.exp(2.0 * (ref_log_std - log_std))
    square = (mean - ref_mean) ** 2 * jnp.exp(-2.0 * log_std)
    return jnp.mean(log_std - ref_log_std + 0.5 * (ratio + square - 1.0), axis=-1)


def mean_over_valid(values: Float[Array, "item time"], segments: Segment) -> Float[Array, ""]:
    """Mean over the steps that count."""
    valid = segments.valid
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def _cloning_loss(likelihood: Array, segments: Segment, cloned: Array) -> Array:
    """Mean of ``-ℓ`` over the steps of the segments that are cloned; 0 where none is."""
    weight = cloned[:, None] * segments.valid
    total = jnp.sum(jnp.where(weight > 0, -weight * likelihood, 0.0))
    return total / jnp.maximum(jnp.sum(weight), 1e-6)


def _optimiser(config: CPLConfig) -> optax.GradientTransformation:
    rate = config.learning_rate
    if config.warmup_steps:
        rate = optax.linear_schedule(0.0, rate, config.warmup_steps)
    # Departs from the paper: gradients are cut to a norm, as the reference document asks.
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate))
