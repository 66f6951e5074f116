"""The contract of a weighting: what every member shares, and the one method it writes."""

import abc
from typing import TYPE_CHECKING, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from steelyard.emphasis import measures
from steelyard.emphasis.checks import require_base, require_nonnegative, require_numbers

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

PerItem: TypeAlias = Float[Array, " item"]


class Weighting(eqx.Module):
    """A rule that turns scores into a distribution over the valid items.

    Attributes:
        domain: What it reads: ``"ignored"`` (not the scores), ``"signed"`` (any number) or
            ``"nonnegative"``.
    """

    domain: AbstractClassVar[Literal["ignored", "signed", "nonnegative"]]

    @abc.abstractmethod
    def _ratio(self, scores: PerItem, measure: PerItem) -> PerItem:
        """Return the density ratio where ``measure`` is positive, anything elsewhere.

        ``scores`` are 0 where ``measure`` is. ``measure`` is the base, or counts where the base is
        uniform, so it need not sum to 1.
        """

    def ratio(
        self,
        scores: PerItem,
        valid: Bool[Array, " item"] | None = None,
        base: PerItem | None = None,
    ) -> PerItem:
        """Return the density ratio ``r`` to the base measure, ``Σ b r = 1``.

        Args:
            scores: One score an item, larger matters more; whatever a masked item holds is ignored.
            valid: Which items count; ``None`` = all (or where the base is positive). An item of
                base 0 does not count.
            base: Probability measure on the valid items, 0 on masked ones; ``None`` = uniform.

        Returns:
            Non-negative, exactly 0 on items that do not count. Equal scores or zero sharpness give
            exactly 1.0 on all others. All 0 where nothing counts. Under ``jit``, where no error
            can be raised, NaN on all that count if a score is NaN or of an illegal sign.

        Raises:
            ValueError: See :meth:`check`; only where the values are known (outside ``jit``).
        """
        self.check(scores, valid, base)
        measure = jnp.ones_like(scores) if base is None else base
        measure = measure if valid is None else jnp.where(valid, measure, 0.0)
        active = measure > 0
        scores = jax.lax.stop_gradient(jnp.where(active, scores, 0.0))
        ratio = jnp.where(active, self._ratio(scores, jax.lax.stop_gradient(measure)), 0.0)
        if self.domain != "ignored":
            bad = jnp.isnan(scores) | ((scores < 0) & (self.domain == "nonnegative"))
            ratio = jnp.where(active & jnp.any(bad), jnp.nan, ratio)
        return jax.lax.stop_gradient(ratio)

    def __call__(
        self,
        scores: PerItem,
        valid: Bool[Array, " item"] | None = None,
        base: PerItem | None = None,
    ) -> PerItem:
        """Return the probabilities ``p = b r``; arguments and errors as in :meth:`ratio`.

        Returns:
            Non-negative, exactly 0 on items that do not count, summing to 1.
        """
        ratio = self.ratio(scores, valid, base)
        if base is None:
            base = measures.uniform_base(jnp.ones_like(scores, bool) if valid is None else valid)
        return jax.lax.stop_gradient(base * ratio)

    def check(
        self,
        scores: PerItem,
        valid: Bool[Array, " item"] | None = None,
        base: PerItem | None = None,
    ) -> None:
        """Refuse bad input on the host; a loop that weights under ``jit`` calls this itself.

        Args:
            scores: As in :meth:`ratio`.
            valid: As in :meth:`ratio`.
            base: As in :meth:`ratio`.

        Raises:
            ValueError: Nothing is valid, the base is no probability measure on the valid items, or
                a valid score is NaN, or negative where that is not legal. Tracers pass.
        """
        if scores.shape[0] == 0:
            raise ValueError("a weighting needs at least one item, got 0.")
        require_base(valid, base)
        place = f"the scores of weighting '{type(self).__name__.lower()}'"
        if self.domain == "nonnegative":
            require_nonnegative(scores, valid, place)
        elif self.domain == "signed":
            require_numbers(scores, valid, place)
