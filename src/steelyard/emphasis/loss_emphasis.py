"""An emphasis that a learner feels through its losses, with everything that goes with training.

``item losses → groups → trim → weighting → items → weighted mean``, and around it a schedule, a
scale and a log. The mean arm is the same program with a tail of everything: its weights are exactly
1, so an arm with emphasis and its baseline differ in numbers only and train in one compiled group.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from steelyard.emphasis import measures
from steelyard.emphasis.checks import Scalar, is_concrete, require_range
from steelyard.emphasis.grouping import group_means, keep_all_but_worst, spread_over_items
from steelyard.emphasis.loss_records import LossEmphasisInfo, LossEmphasisState
from steelyard.emphasis.reductions import WeightedMean
from steelyard.emphasis.running_tail import batch_threshold, descend, running_ratio, share_of
from steelyard.emphasis.schedules import geometric, ramp
from steelyard.emphasis.tail_settings import require_alpha, require_min_k
from steelyard.emphasis.weightings import Tail, Weighting, make_weighting


class LossEmphasis(eqx.Module):
    """Per-item losses to the number that is minimised.

    All options but those marked static may be traced scalars, so that runs which differ in them
    are one program under ``vmap`` or ``lax.map``.

    Attributes:
        weighting: Rule on units. Its ``alpha``, if it has one, anneals from 1; any other weighting
            is mixed in, ``1 + share · (r − 1)``.
        group: What is weighted as one, ``"item"`` or ``"trajectory"``; static.
        num_groups: Number of groups ``G`` in a batch, with ``"trajectory"``; static.
        warmup: Share of the run without emphasis, in [0, 1].
        anneal_end: Share of the run from which the emphasis is full, in [warmup, 1].
        scale_match: Whether the value is multiplied by ``clip(mean / emphasised, α, 1)`` of running
            averages, so that an arm with emphasis takes steps of the size of the mean's.
        scale_decay: Decay of these averages a step, in [0, 1).
        trim: Share of worst units dropped before the weighting, in [0, 1).
        factor: Factor on the value, >= 0: a control that changes step size and nothing else.
        report_alpha: Share in (0, 1] whose CVaR is logged as ``rollout_cvar`` in any arm; ``None``
            logs what is trained on.
        estimator: ``"batch"``, or ``"running"`` for a threshold tracked across batches (only with
            ``Tail``; its ``min_k`` has no effect then); static.
        threshold_rate: Rate of the running threshold, > 0, in units of the losses' spread a step.
        cap: Largest mean weight with the running estimator, >= 1; static.
    """

    weighting: Weighting = Tail(0.2)
    group: str = eqx.field(static=True, default="item")
    num_groups: int | None = eqx.field(static=True, default=None)
    warmup: Scalar = 0.25
    anneal_end: Scalar = 0.70
    scale_match: bool | Bool[Array, ""] = True
    scale_decay: Scalar = 0.99
    trim: Scalar = 0.0
    factor: Scalar = 1.0
    report_alpha: Scalar | None = None
    estimator: str = eqx.field(static=True, default="batch")
    threshold_rate: Scalar = 0.2
    cap: float = eqx.field(static=True, default=5.0)

    def __check_init__(self):
        for name, legal in (("group", ("item", "trajectory")), ("estimator", ("batch", "running"))):
            if getattr(self, name) not in legal:
                raise ValueError(f"{name} must be one of {legal}, got {getattr(self, name)!r}.")
        if (self.group == "trajectory") != (self.num_groups is not None):
            raise ValueError(
                "num_groups goes with group 'trajectory' and with no other, got "
                f"num_groups={self.num_groups} with {self.group!r}."
            )
        if self.num_groups is not None:
            require_range("num_groups", self.num_groups, 1, jnp.inf)
            require_min_k(getattr(self.weighting, "min_k", 1), self.num_groups, "groups")
        if self.estimator == "running" and not isinstance(self.weighting, Tail):
            raise ValueError(
                "estimator 'running' tracks the threshold of weighting 'tail', got "
                f"{type(self.weighting).__name__!r}."
            )
        require_range("warmup", self.warmup, 0, 1)
        require_range("anneal_end", self.anneal_end, 0, 1)
        if is_concrete(self.warmup, self.anneal_end):
            warmup, anneal_end = float(self.warmup), float(self.anneal_end)
            if not warmup <= anneal_end:
                raise ValueError(
                    f"anneal_end must be at least warmup, {warmup:g}, got {anneal_end:g}."
                )
        require_share("scale_decay", self.scale_decay)
        require_share("trim", self.trim)
        require_range("factor", self.factor, 0, jnp.inf)
        if self.report_alpha is not None:
            require_alpha(self.report_alpha, name="report_alpha")
        require_range("threshold_rate", self.threshold_rate, 0, jnp.inf, low_open=True)
        require_range("cap", self.cap, 1, jnp.inf)

    def start(self) -> LossEmphasisState:
        """Return the state before the first batch."""
        return LossEmphasisState(*(jnp.zeros((), jnp.float32) for _ in range(5)))

    def __call__(
        self,
        losses: Float[Array, "*shape"],
        groups: Int[Array, " item"] | None,
        state: LossEmphasisState,
        progress: Scalar,
    ) -> tuple[Float[Array, ""], LossEmphasisState, LossEmphasisInfo]:
        """Reduce one batch.

        Args:
            losses: One an item, ``[B]``. Losses that are not finite get weight 0 and no gradient;
                but a learner whose *derivatives* are infinite there still gets NaN (0 · ∞).
            groups: Label of each item, ``0 … G − 1``; groups may be of any size, also empty.
                Ignored, and may be ``None``, where ``group`` is ``"item"``.
            state: Of the batch before.
            progress: Share of the run's steps that are done, in [0, 1].

        Returns:
            The value to minimise, ``factor · scale · Σ w_i l_i / B``, whose gradient flows through
            the losses alone; the next state; and what was done. All 0 where no loss is finite, and
            the state is then the old one.

        Raises:
            ValueError: Losses that are not one an item, or no or wrong groups where they are
                needed. Under ``jit`` a label out of range gives NaN instead.
        """
        self._check(losses, groups)
        constant = jax.lax.stop_gradient(losses)
        counted = jnp.isfinite(constant)
        constant = jnp.where(counted, constant, 0.0)
        if groups is None or self.group == "item":
            scores, counts = constant, counted.astype(constant.dtype)
            groups = jnp.arange(losses.shape[0])
        else:
            assert self.num_groups is not None
            scores, counts = group_means(constant, counted, groups, self.num_groups)
        trim = jnp.asarray(self.trim, scores.dtype)
        kept = keep_all_but_worst(scores, counts > 0, trim)
        measure = kept.astype(scores.dtype)

        def value_of(ratio, item_losses):
            weights = spread_over_items(ratio, kept, counts, counted, groups)
            return WeightedMean()(item_losses, weights), weights

        alpha, alpha_now, ratio = self._emphasise(scores, measure, state, progress)
        emphasised, weights = value_of(ratio, losses)
        constant_value = jax.lax.stop_gradient(emphasised)
        level, _ = value_of(measure, constant)
        # Exactly 0 without emphasis, in whatever order the device sums the two values.
        excess = jnp.where(jnp.all(ratio == measure), 0.0, constant_value - level)
        state = self._remember(scores, measure, state, alpha_now, level, excess)
        lowest = alpha_now if self._has_alpha else jnp.zeros_like(alpha_now)
        scale = self._scale(state, lowest)
        share = share_of(counted, jnp.ones_like(constant))
        plain = counted / jnp.maximum(share, 1 / losses.shape[0])
        reported = constant_value
        if self.report_alpha is not None:
            reported, _ = value_of(Tail(self.report_alpha)._ratio(scores, measure), constant)
        squares = jnp.sum(ratio**2)
        info = LossEmphasisInfo(
            weights=weights,
            rollout_mean=WeightedMean()(constant, plain),
            rollout_cvar=reported,
            emphasised=constant_value,
            k_used=jnp.sum(ratio > 0).astype(jnp.float32),
            alpha=alpha,
            alpha_now=alpha_now,
            scale=scale,
            ess=jnp.sum(ratio) ** 2 / jnp.where(squares > 0, squares, 1.0),
            max_weight=jnp.max(ratio),
            non_finite=1.0 - share,
        )
        return jnp.asarray(self.factor, jnp.float32) * scale * emphasised, state, info

    @property
    def _has_alpha(self) -> bool:
        return any(field.name == "alpha" for field in dataclasses.fields(self.weighting))

    def _emphasise(self, scores, measure, state, progress):
        """Return the share of the tail, the share at this point of the run, and the ratios."""
        on = ramp(progress, self.warmup, self.anneal_end)
        valid = measure > 0
        # A batch without any finite loss is weighted like one of equal losses, then masked.
        valid = valid | ~jnp.any(valid)
        if not self._has_alpha:
            one = jnp.ones((), jnp.float32)
            ratio = measures.with_floor(self.weighting.ratio(scores, valid), 1.0 - on)
            return one, one, jnp.where(measure > 0, ratio, 0.0)
        alpha = jnp.asarray(getattr(self.weighting, "alpha"), jnp.float32)  # noqa: B009
        alpha_now = geometric(alpha, on)
        ratio = dataclasses.replace(self.weighting, alpha=alpha_now).ratio(scores, valid)
        if self.estimator == "running":
            running = running_ratio(scores, measure, alpha_now, state.threshold, self.cap)
            ratio = jnp.where(_starts(state, alpha_now), ratio, running)
        return alpha, alpha_now, jnp.where(measure > 0, ratio, 0.0)

    def _remember(self, scores, measure, state, alpha_now, level, excess):
        """Return the state after this batch; the old one if nothing in it counts."""
        decay = jnp.asarray(self.scale_decay, jnp.float32)
        centre = jnp.sum(measure * scores) / jnp.maximum(jnp.sum(measure), 1.0)
        deviation = measure * jnp.abs(scores - centre)
        deviation = jnp.sum(deviation) / jnp.maximum(jnp.sum(measure), 1.0)
        old = (state.mean, state.excess, state.spread, state.total)
        new = (level, excess, deviation, jnp.ones((), jnp.float32))
        sums = [decay * before + (1.0 - decay) * now for before, now in zip(old, new, strict=True)]
        threshold = state.threshold
        if self.estimator == "running":
            step = jnp.asarray(self.threshold_rate, jnp.float32) * sums[2] / sums[3]
            threshold = jnp.where(
                _starts(state, alpha_now),
                batch_threshold(scores, measure, alpha_now),
                descend(scores, measure, alpha_now, state.threshold, step),
            )
        after = LossEmphasisState(sums[0], sums[1], sums[2], sums[3], threshold)
        something = jnp.any(measure > 0)
        return jax.tree.map(lambda a, b: jnp.where(something, a, b), after, state)

    def _scale(self, state: LossEmphasisState, lowest: Float[Array, ""]) -> Float[Array, ""]:
        """Return ``clip(mean / emphasised, lowest, 1)``; the averages share one correction."""
        emphasised = state.mean + state.excess
        positive = emphasised > 0
        ratio = state.mean / jnp.where(positive, emphasised, 1.0)
        use = positive & jnp.asarray(self.scale_match)
        return jnp.where(use, jnp.clip(ratio, lowest, 1.0), 1.0)

    def _check(self, losses, groups):
        if losses.ndim != 1 or losses.shape[0] == 0:
            raise ValueError(
                "an emphasis needs one loss an item, shape [B], got shape "
                f"{losses.shape}: a bug in the loss, please report it."
            )
        if self.group == "item":
            require_min_k(getattr(self.weighting, "min_k", 1), losses.shape[0], "items")
            return
        if groups is None or groups.shape != losses.shape:
            got = "none" if groups is None else f"shape {groups.shape}"
            raise ValueError(
                f"group 'trajectory' needs one label an item, shape {losses.shape}, got {got}."
            )
        if is_concrete(groups):
            # Not in JAX, which would trace the comparison where the labels are a constant.
            labels = np.asarray(groups)
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= (self.num_groups or 0):
                raise ValueError(
                    f"groups must be labels in 0 … {(self.num_groups or 0) - 1}, got labels in "
                    f"{low} … {high}."
                )


def require_share(place: str, value: Scalar) -> None:
    """Refuse a number outside ``[0, 1)``; a tracer passes.

    Raises:
        ValueError: It is outside or NaN.
    """
    if is_concrete(value) and not 0 <= float(value) < 1:
        raise ValueError(f"{place} must be in [0, 1), got {float(value):g}.")


def _starts(state: LossEmphasisState, alpha_now: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether the running threshold is set from this batch: at first, and while all is tail."""
    return (state.total == 0) | (alpha_now >= 1.0)


def make_loss_emphasis(
    weighting: str = "tail",
    options: Mapping[str, Any] | None = None,
    *,
    where: str = "",
    **settings: Any,
) -> LossEmphasis:
    """Build an emphasis on losses from names.

    Args:
        weighting: A key of ``WEIGHTINGS``.
        options: The fields of that weighting; none is ``alpha = 0.2`` for ``"tail"``.
        where: The file the settings came from, for messages.
        **settings: The other fields of :class:`LossEmphasis`.

    Returns:
        The emphasis.

    Raises:
        ValueError: An unknown name or option, or a value out of range; a wrong ``alpha`` is
            reported as ``rollout_cvar.alpha``, with the file.

    Example:
        >>> arm = make_loss_emphasis("tail", {"alpha": 0.2}, warmup=0.0, anneal_end=0.0)
        >>> losses = jnp.array([4.0, 1.0, 3.0, 2.0, 0.0])
        >>> float(arm(losses, None, arm.start(), 0.5)[2].emphasised)
        4.0
    """
    options = dict(options or ({"alpha": 0.2} if weighting == "tail" else {}))
    if "alpha" in options:
        require_alpha(options["alpha"], where)
    if "min_k" in options:
        groups = settings.get("num_groups")
        require_min_k(options["min_k"], groups or options["min_k"], "groups", where)
    try:
        return LossEmphasis(make_weighting(weighting, **options), **settings)
    except TypeError as error:
        names = [field.name for field in dataclasses.fields(LossEmphasis)]
        raise ValueError(f"a loss emphasis has the options {names}: {error}") from error
