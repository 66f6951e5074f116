"""Observation normalisation with statistics that are explicit, mergeable and freezable."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

MIN_STD = 1e-2
CLIP = 10.0


class Statistics(eqx.Module):
    """Count, mean and summed squared deviation per component, mergeable in any order.

    Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance".
    """

    count: Float[Array, ""]
    mean: Float[Array, " obs"]
    deviation: Float[Array, " obs"]

    @classmethod
    def empty(cls, size: int) -> "Statistics":
        """Statistics of no rows at all."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    @classmethod
    def of(cls, rows: Float[Array, "batch obs"]) -> "Statistics":
        """Statistics of the given rows."""
        mean = jnp.mean(rows, axis=0)
        deviation = jnp.sum((rows - mean[None]) ** 2, axis=0)
        return cls(jnp.asarray(rows.shape[0], jnp.float32), mean, deviation)

    def merge(self, other: "Statistics") -> "Statistics":
        """Statistics of both sets of rows together."""
        total = self.count + other.count
        share = other.count / jnp.maximum(total, 1.0)
        delta = other.mean - self.mean
        return Statistics(
            total,
            self.mean + delta * share,
            self.deviation + other.deviation + delta**2 * self.count * share,
        )

    def normaliser(self) -> "Normaliser":
        """The normaliser these statistics stand for; the identity where there are no rows."""
        std = jnp.sqrt(self.deviation / jnp.maximum(self.count, 1.0))
        return Normaliser(self.mean, jnp.where(self.count > 0, std, 1.0))


class Normaliser(eqx.Module):
    """``clip((o - mean) / max(std, 1e-2), ±10)``, a function of one observation."""

    mean: Float[Array, " obs"]
    std: Float[Array, " obs"]

    @classmethod
    def identity(cls, size: int) -> "Normaliser":
        """Leave observations as they are (but for the clip at ±10)."""
        return cls(jnp.zeros(size), jnp.ones(size))

    @classmethod
    def fixed(cls, scale: tuple[float, ...]) -> "Normaliser":
        """Multiply component ``i`` by ``scale[i]``; nothing is estimated.

        Raises:
            ValueError: A factor is not in ``(0, 1 / 1e-2]``, which the least deviation allows.
        """
        for index, factor in enumerate(scale):
            if not 0.0 < factor <= 1.0 / MIN_STD:
                raise ValueError(
                    f"A fixed observation scale lies in (0, {1.0 / MIN_STD:g}]: got {factor} for "
                    f"component {index}."
                )
        return cls(jnp.zeros(len(scale)), 1.0 / jnp.asarray(scale, jnp.float32))

    def __call__(self, observation: Float[Array, " obs"]) -> Float[Array, " obs"]:
        """Normalise one observation."""
        scaled = (observation - self.mean) / jnp.maximum(self.std, MIN_STD)
        return jnp.clip(scaled, -CLIP, CLIP)
