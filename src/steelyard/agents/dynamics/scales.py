"""The sizes of what a model sees, measured on training data; constants of the model."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Scales(eqx.Module):
    """Mean and standard deviation of twists and commands, and of accelerations, in SI units.

    Networks see standardised values; physics never does.

    Attributes:
        twist_mean: Of ``(vx, vy, w)``.
        twist_std: Of the same; m/s, m/s, rad/s.
        command_mean: Of velocity or throttle, and steering.
        command_std: Of the same.
        acceleration_std: Of the change of the twist per second; m/s², m/s², rad/s².
    """

    twist_mean: Float[Array, "3"]
    twist_std: Float[Array, "3"]
    command_mean: Float[Array, "2"]
    command_std: Float[Array, "2"]
    acceleration_std: Float[Array, "3"]

    @classmethod
    def of(
        cls,
        twist: Float[np.ndarray, "step 3"],
        next_twist: Float[np.ndarray, "step 3"],
        command: Float[np.ndarray, "step 2"],
        dt: Float[np.ndarray, " step"],
    ) -> "Scales":
        """Measure all steps of the training trajectories.

        Raises:
            ValueError: A component never changes; names it.
        """
        acceleration = (next_twist - twist) / dt[:, None]
        names = ("vx", "vy", "w", "command 1 (velocity or throttle)", "command 2 (steering)")
        stds = np.concatenate([twist.std(axis=0), command.std(axis=0)])
        for name, std in zip(names, stds, strict=True):
            if not std > 1e-9:
                raise ValueError(
                    f"{name} is constant in the training data (standard deviation {std:.3g}): no "
                    "model can learn what it does."
                )
        return cls(
            *(
                jnp.asarray(x, jnp.float32)
                for x in (
                    twist.mean(axis=0),
                    stds[:3],
                    command.mean(axis=0),
                    stds[3:],
                    np.maximum(acceleration.std(axis=0), 1e-6),
                )
            )
        )

    def standard_twist(self, twist: Float[Array, "3"]) -> Float[Array, "3"]:
        """Twist without unit."""
        return (twist - self.twist_mean) / self.twist_std

    def standard_command(self, command: Float[Array, "*rows 2"]) -> Float[Array, "*rows 2"]:
        """Commands without unit."""
        mean = jnp.broadcast_to(self.command_mean, command.shape)
        return (command - mean) / jnp.broadcast_to(self.command_std, command.shape)
