"""What an emphasis on losses remembers from batch to batch, and what it reports of one."""

import dataclasses

import equinox as eqx
from jaxtyping import Array, Float


class LossEmphasisState(eqx.Module):
    """What an emphasis remembers from batch to batch.

    Attributes:
        mean: Decaying sum of the unemphasised values.
        excess: Decaying sum of what emphasis adds to them, same decay; exactly 0 while it is off.
        spread: Decaying sum of the losses' mean absolute deviation.
        total: Decaying sum of ones; divided by it, the sums are unbiased averages.
        threshold: Loss above which an item is in the running tail; of no meaning while ``total``
            is 0.
    """

    mean: Float[Array, ""]
    excess: Float[Array, ""]
    spread: Float[Array, ""]
    total: Float[Array, ""]
    threshold: Float[Array, ""]


class LossEmphasisInfo(eqx.Module):
    """What an emphasis did to one batch. "Units" are groups, or items where there are none.

    Attributes:
        weights: Per item, of mean 1 over the batch (with the running estimator: on average), 0 on
            items that are not finite, trimmed, or outside the tail; before ``scale``.
        rollout_mean: Plain mean of the finite losses, in every arm.
        rollout_cvar: Their CVaR at ``report_alpha`` where that is given, else ``emphasised``.
        emphasised: What is trained on, before ``scale`` and ``factor``: ``Σ w_i l_i / B``.
        k_used: Number of units with a positive weight.
        alpha: Configured share of the tail; 1 for a weighting without one.
        alpha_now: The same at this point of the schedule.
        scale: Factor of scale matching, at most 1.
        ess: Effective number of units, ``(Σ r)² / Σ r²``.
        max_weight: Largest ratio of a unit; 1 = no emphasis.
        non_finite: Share of the items whose loss is NaN or infinite.
    """

    weights: Float[Array, " item"]
    rollout_mean: Float[Array, ""]
    rollout_cvar: Float[Array, ""]
    emphasised: Float[Array, ""]
    k_used: Float[Array, ""]
    alpha: Float[Array, ""]
    alpha_now: Float[Array, ""]
    scale: Float[Array, ""]
    ess: Float[Array, ""]
    max_weight: Float[Array, ""]
    non_finite: Float[Array, ""]

    def metrics(self) -> dict[str, Float[Array, ""]]:
        """Return the scalars by name, for the log."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "weights"]
        return {name: getattr(self, name) for name in names}
