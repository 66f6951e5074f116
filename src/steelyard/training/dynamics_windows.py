"""Windows of trajectories: which there are, how a batch of them is drawn, and what tests cut."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.data.trajectories import Trajectories, Windows
from steelyard.emphasis.measures import length_base
from steelyard.emphasis.samplers import Sampler, Systematic
from steelyard.evaluation.model_rollout import Recordings, whole_trajectories


class WindowTable(eqx.Module):
    """Where windows start, in order of the unit they belong to.

    Attributes:
        start: Row of the first state of each window.
        unit: Unit of each window: a trajectory, or a block of one.
        trajectory: Trajectory of each window.
        first: Index of the first window of each unit.
        count: Windows of each unit.
    """

    start: Int[Array, " window"]
    unit: Int[Array, " window"]
    trajectory: Int[Array, " window"]
    first: Int[Array, " unit"]
    count: Int[Array, " unit"]

    @classmethod
    def of(cls, data: Trajectories, windows: Windows, block: int | None = None) -> "WindowTable":
        """Order windows by the unit they belong to.

        Args:
            data: The trajectories.
            windows: Of theirs.
            block: Steps of a recording whose windows make a unit; none: the whole trajectory.
        """
        unit = windows.trajectory if block is None else data.blocks(windows, block)
        _, unit, count = np.unique(unit, return_inverse=True, return_counts=True)
        order = np.argsort(unit, kind="stable")
        tables = (windows.start[order], unit[order], windows.trajectory[order])
        first = np.cumsum(count) - count
        return cls(*(jnp.asarray(x, jnp.int32) for x in (*tables, first, count)))

    @property
    def base(self) -> Float[Array, " unit"]:
        """Probability of each unit where every window counts the same."""
        return length_base(self.count)

    @property
    def owner(self) -> Int[Array, " unit"]:
        """Trajectory of each unit."""
        return self.trajectory[self.first]

    def draw(
        self,
        key: PRNGKeyArray,
        groups: int,
        each: int,
        probabilities: Float[Array, " unit"] | None = None,
        sampler: Sampler = Systematic(),
    ) -> tuple[Array, Array, Array]:
        """Draw units, then windows of each, with replacement.

        Args:
            key: Random key.
            groups: Units to draw.
            each: Windows of each unit.
            probabilities: Of the units; none: :attr:`base`.
            sampler: How units are drawn.

        Returns:
            Indices of windows, their groups, and the importance weight that each owes.
        """
        unit_key, window_key = jax.random.split(key)
        base = self.base
        drawn = sampler(base if probabilities is None else probabilities, unit_key, groups, base)
        unit = drawn.indices
        share = jax.random.uniform(window_key, (groups, each))
        within = (share * self.count[unit][:, None]).astype(jnp.int32)
        within = jnp.minimum(within, self.count[unit][:, None] - 1)
        index = (self.first[unit][:, None] + within).reshape(-1)
        labels = jnp.repeat(jnp.arange(groups), each)
        return index, labels, jnp.repeat(drawn.correction, each)


@dataclasses.dataclass(frozen=True)
class Cut:
    """How recordings are cut into rollouts that a model is judged by."""

    steps: int
    """Length of a rollout."""
    lead: int
    """Recorded steps that must lie before one, so that all models are judged by the same."""
    min_speed: float = 0.1
    """Rollouts slower than this throughout are left out, m/s."""

    def windows(self, data: Trajectories) -> Windows:
        """The rollouts, one after the other."""
        return data.windows(self.steps, self.steps, self.lead, self.min_speed)


def recordings_of(data: Trajectories, history: int, cut: Cut | None = None) -> Recordings:
    """Rollouts to judge a model by.

    Args:
        data: Trajectories.
        history: Past commands that the model reads.
        cut: How they are cut; none takes every trajectory whole.

    Raises:
        ValueError: The model reads more past commands than the cut leaves before a rollout.
    """
    if cut is None:
        return whole_trajectories(data, history)
    if history > cut.lead:
        raise ValueError(f"a lead of {cut.lead} steps is shorter than a history of {history}.")
    return Recordings.of_window(data.cut(cut.windows(data).start, cut.steps, history))
