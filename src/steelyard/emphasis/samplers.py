"""Samplers: from a distribution to indices, each with the importance weight it owes.

Cumulative sums are held as integers: probabilities become counts out of 2³¹, at least 1 where the
probability is positive and 0 where it is 0. Integer sums are exact, so an item outside the support
is never drawn, every item inside can be, and the same key draws the same items on every device;
float32 sums give none of the three at a million items.
"""

import abc
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from steelyard.emphasis.checks import Scalar, is_concrete, require_range
from steelyard.emphasis.measures import length_base, mean_one
from steelyard.emphasis.registry import build

_UNITS = 2.0**31
_EXACT_PRODUCT = 2**16
"""Below this size the products of :func:`systematic_positions` fit 32 bits."""


class Drawn(eqx.Module):
    """Indices, and what they owe.

    Attributes:
        indices: Items drawn, each with positive probability.
        correction: Importance weight ``(b/p)^κ`` of each drawn item; 1.0 where ``p = b``.
    """

    indices: Int[Array, " draw"]
    correction: Float[Array, " draw"]


class DrawnStarts(eqx.Module):
    """Trajectories, a start within each, and what they owe.

    Attributes:
        trajectories: Index of the trajectory drawn.
        starts: Step within it, ``0 <= start < length``; the flat step is ``offset + start``.
        correction: Importance weight of each, as in :class:`Drawn`.
    """

    trajectories: Int[Array, " draw"]
    starts: Int[Array, " draw"]
    correction: Float[Array, " draw"]


class Table(eqx.Module):
    """A distribution made ready for drawing: O(items) to make, O(log items) a draw to use.

    Attributes:
        cumulative: Running count of probability units, inclusive.
        correction: Importance weight of each item of positive probability, 1.0 elsewhere.
    """

    cumulative: UInt32[Array, " item"]
    correction: Float[Array, " item"]

    @property
    def probabilities(self) -> Float[Array, " item"]:
        """What each item is drawn with, to one part in 2³¹."""
        before = jnp.concatenate([jnp.zeros(1, jnp.uint32), self.cumulative[:-1]])
        units = (self.cumulative - before).astype(jnp.float32)
        return units / self.cumulative[-1].astype(jnp.float32)


def defensive_mixture(
    probabilities: Float[Array, " item"],
    epsilon: Scalar,
    base: Float[Array, " item"] | None = None,
) -> Float[Array, " item"]:
    """Return ``(1 − ε) p + ε b``, which bounds every correction ``b/p`` by ``1/ε``.

    Args:
        probabilities: What to draw from, ``p``.
        epsilon: ``ε`` in [0, 1]; 0 returns ``p`` bit for bit.
        base: Base measure ``b``; ``None`` = uniform over the items with ``p > 0``.

    Returns:
        Probabilities, exactly ``b`` where ``p = b``.
    """
    require_range("epsilon", epsilon, 0, 1)
    if base is None:
        support = probabilities > 0
        base = support / jnp.maximum(jnp.sum(support), 1).astype(probabilities.dtype)
    mixed = (1.0 - epsilon) * probabilities + epsilon * base
    return jnp.where(probabilities == base, base, mixed)


def tabulate(
    probabilities: Float[Array, " item"],
    base: Float[Array, " item"] | None = None,
    exponent: Scalar = 1.0,
) -> Table:
    """Make a distribution ready for drawing, so that many draws share one pass over the items.

    Args:
        probabilities: Non-negative, positive somewhere; divided by their sum.
        base: Measure to which draws are corrected; ``None`` = uniform over the items with
            ``p > 0``. An item with ``b > 0`` and ``p = 0`` can be owed nothing: use
            :func:`defensive_mixture` where the estimate must be unbiased.
        exponent: ``κ`` of the correction ``(b/p)^κ``: 1 unbiased, 0 none.

    Returns:
        The table. Corrections are NaN where the probabilities have no mass or are NaN.

    Raises:
        ValueError: The probabilities are negative, NaN or without mass. Tracers pass.
    """
    if is_concrete(probabilities):
        values = np.asarray(probabilities)
        if not (0 < values.sum() < np.inf and values.min() >= 0):
            raise ValueError(
                "probabilities must be non-negative with a positive finite sum, got the sum "
                f"{values.sum():g} and the minimum {values.min():g}."
            )
    return _table(probabilities, base, exponent)


@jax.jit
def _table(
    probabilities: Float[Array, " item"],
    base: Float[Array, " item"] | None,
    exponent: Scalar,
) -> Table:
    total = jnp.sum(probabilities)
    support = probabilities > 0
    units = jnp.round(probabilities / total * _UNITS).astype(jnp.uint32)
    cumulative = jnp.cumsum(jnp.where(support, jnp.maximum(units, 1), 0), dtype=jnp.uint32)
    if base is None:
        ratio = mean_one(probabilities, support.astype(probabilities.dtype))
    else:
        ratio = jnp.where(probabilities == base, 1.0, probabilities / base)
    owed = jnp.power(jnp.where(support, ratio, 1.0), -jnp.asarray(exponent, ratio.dtype))
    return Table(cumulative, jnp.where(total > 0, owed, jnp.nan))


@partial(jax.jit, static_argnums=2)
def systematic_positions(
    offset: UInt32[Array, ""], total: UInt32[Array, ""], size: int
) -> UInt32[Array, " draw"]:
    """Return ``size`` equally spaced integers below ``total``: ``⌊j · total / size⌋ + offset``.

    Args:
        offset: In ``[0, total // size)``.
        total: Units of probability in all.
        size: Number of positions; not more than ``total``.

    Returns:
        Positions in increasing order, all below ``total``.
    """
    index = jnp.arange(size, dtype=jnp.uint32)
    step, rest = total // size, total % size
    if size < _EXACT_PRODUCT:
        carried = index * rest // size
    else:
        carried = jnp.floor(index * (rest / jnp.float32(size))).astype(jnp.uint32)
    return jnp.minimum(index * step + carried + offset, total - 1)


class Sampler(eqx.Module):
    """A way of drawing from a distribution.

    Attributes:
        exponent: ``κ`` of the correction ``(b/p)^κ``: 1 owes all, 0 nothing.
        epsilon: Share of the base mixed in before drawing, which bounds corrections by ``1/ε``.
    """

    exponent: eqx.AbstractVar[Scalar]
    epsilon: eqx.AbstractVar[Scalar]

    def __check_init__(self):
        require_range(f"{type(self).__name__}.exponent", self.exponent, 0, 1)
        require_range(f"{type(self).__name__}.epsilon", self.epsilon, 0, 1)

    @abc.abstractmethod
    def _positions(
        self, total: UInt32[Array, ""], key: PRNGKeyArray, size: int
    ) -> UInt32[Array, " draw"]:
        """Return ``size`` integers in ``[0, total)``, each uniform when taken alone."""

    def table(
        self, probabilities: Float[Array, " item"], base: Float[Array, " item"] | None = None
    ) -> Table:
        """Prepare a distribution; use it for as many draws as the weights stay the same.

        Args:
            probabilities: What to draw from.
            base: Measure to correct to; see :func:`tabulate`.

        Returns:
            The table for :meth:`draw`.
        """
        # epsilon may be traced; mixing 0 of the base in returns p bit for bit.
        mixed = defensive_mixture(probabilities, self.epsilon, base)
        return tabulate(mixed, base, self.exponent)

    def draw(self, table: Table, key: PRNGKeyArray, size: int) -> Drawn:
        """Draw from a prepared distribution, without touching all its items.

        Args:
            table: From :meth:`table`.
            key: Consumed here.
            size: Number of draws.

        Returns:
            Indices and corrections.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}.")
        positions = self._positions(table.cumulative[-1], key, size)
        indices = jnp.searchsorted(table.cumulative, positions, side="right")
        indices = jnp.minimum(indices, table.cumulative.shape[0] - 1)
        return Drawn(indices, table.correction[indices])

    def __call__(
        self,
        probabilities: Float[Array, " item"],
        key: PRNGKeyArray,
        size: int,
        base: Float[Array, " item"] | None = None,
    ) -> Drawn:
        """Draw ``size`` items: :meth:`table`, then :meth:`draw`.

        Args:
            probabilities: What to draw from, e.g. what a weighting returned.
            key: Consumed here.
            size: Number of draws.
            base: Measure to correct to; see :func:`tabulate`.

        Returns:
            Indices and the importance weight each owes.
        """
        return self.draw(self.table(probabilities, base), key, size)


class Systematic(Sampler):
    """Equally spaced positions with one random offset: item i comes ⌊Kp_i⌋ or ⌈Kp_i⌉ times.

    The least variance at no cost, and the default. Indices come in increasing order: permute them
    before cutting them into minibatches. Drawing n of n equal items gives each exactly once.
    Source: Carpenter, Clifford and Fearnhead 1999.
    """

    exponent: Scalar = 1.0
    epsilon: Scalar = 0.0

    def _positions(self, total, key, size):
        step = jnp.maximum(total // size, 1)
        offset = jax.random.randint(key, (), 0, step, dtype=jnp.uint32)
        return systematic_positions(offset, total, size)


class Multinomial(Sampler):
    """Independent draws with replacement."""

    exponent: Scalar = 1.0
    epsilon: Scalar = 0.0

    def _positions(self, total, key, size):
        return jax.random.randint(key, (size,), 0, jnp.maximum(total, 1), dtype=jnp.uint32)


def draw_starts(
    sampler: Sampler,
    probabilities: Float[Array, " item"],
    lengths: Int[Array, " item"],
    key: PRNGKeyArray,
    size: int,
    base: Float[Array, " item"] | None = None,
) -> DrawnStarts:
    """Draw a trajectory, then a start within it, uniformly.

    Args:
        sampler: How trajectories are drawn.
        probabilities: One a trajectory; 0 where ``lengths`` is 0.
        lengths: Starts in each trajectory.
        key: Consumed here.
        size: Number of draws.
        base: Measure over trajectories to correct to; ``None`` = ``lengths / Σ lengths``, that is,
            uniform over steps.

    Returns:
        Trajectories, starts and corrections.
    """
    if base is None:
        base = length_base(lengths)
    return draw_starts_from(sampler, sampler.table(probabilities, base), lengths, key, size)


def draw_starts_from(
    sampler: Sampler, table: Table, lengths: Int[Array, " item"], key: PRNGKeyArray, size: int
) -> DrawnStarts:
    """Do the same as :func:`draw_starts` from a prepared table of trajectories.

    Args:
        sampler: How trajectories are drawn.
        table: From ``sampler.table(probabilities, base)``.
        lengths: Starts in each trajectory.
        key: Consumed here.
        size: Number of draws.

    Returns:
        Trajectories, starts and corrections.
    """
    trajectory_key, start_key = jax.random.split(key)
    drawn = sampler.draw(table, trajectory_key, size)
    limit = jnp.maximum(lengths[drawn.indices], 1)
    starts = jax.random.randint(start_key, (size,), 0, limit, dtype=jnp.int32)
    return DrawnStarts(drawn.indices, starts, drawn.correction)


def draw_uniform(filled: int | Int[Array, ""], key: PRNGKeyArray, size: int) -> Drawn:
    """Draw uniformly, with replacement, from the first ``filled`` items, in O(size).

    The path of a replay buffer without emphasis: nothing is computed per item held.

    Args:
        filled: Items in the buffer, >= 1; may be traced.
        key: Consumed here.
        size: Number of draws.

    Returns:
        Indices below ``filled``, corrections exactly 1.0.

    Raises:
        ValueError: ``filled`` < 1, where its value is known.
    """
    if is_concrete(filled) and int(filled) < 1:
        raise ValueError(f"filled must be at least 1 to draw from, got {int(filled)}.")
    indices = jax.random.randint(key, (size,), 0, filled, dtype=jnp.int32)
    return Drawn(indices, jnp.ones(size))


SAMPLERS: Mapping[str, type[Sampler]] = MappingProxyType(
    {"systematic": Systematic, "multinomial": Multinomial}
)
"""Every sampler by the name that configs use."""


def make_sampler(name: str, **options: Any) -> Sampler:
    """Build a sampler from its name.

    Args:
        name: A key of ``SAMPLERS``.
        **options: ``exponent`` and ``epsilon``.

    Returns:
        The sampler.

    Raises:
        ValueError: Unknown name or option; the message names the nearest.
    """
    return build(SAMPLERS, "sampler", name, options)
