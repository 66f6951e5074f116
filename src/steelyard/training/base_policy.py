"""How the frozen base of a residual policy is trained: chunked cloning on the offline loop.

Data flow: demonstrations → steps on the device, weighed by episode → chunks drawn by their first
step → :class:`~steelyard.agents.chunked_bc.ChunkedBC` → its losses on held-out episodes.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from steelyard.agents.chunked_bc import ChunkedBC, ChunkedBCConfig
from steelyard.data.chunks import ActionRange, last_steps, take_chunks
from steelyard.data.demonstrations import Demonstrations
from steelyard.data.specs import compare_specs
from steelyard.emphasis.demonstrations import EmphasisConfig
from steelyard.emphasis.samplers import Multinomial
from steelyard.training.demonstrations import DemonstrationRows, emphasis_report, put_on_device
from steelyard.training.group import RunGroup, Ticker
from steelyard.training.offline import OfflineConfig, OfflineProblem, train_offline
from steelyard.training.recipes import hold_out
from steelyard.training.run_folder import write_json
from steelyard.types import ActionChunk

VALIDATION_DRAWS = 8
"""Times and noises that a held-out chunk's flow loss is averaged over, the same at every look."""


@dataclasses.dataclass(frozen=True)
class BaseRun:
    """A run of chunked behaviour cloning, which gives a base policy."""

    env: str = "assembly/PegInsertSide-v3"
    """Task; that of the demonstrations."""
    agent: ChunkedBCConfig = ChunkedBCConfig()
    """Learner."""
    epochs: int = 100
    """Passes over the training steps; every step starts one chunk."""
    min_steps: int = 6_000
    """Least number of gradient steps, for small datasets."""
    validation_share: float = 0.1
    """Share of episodes held out to choose the weights; none where that is less than five."""
    emphasis: EmphasisConfig = EmphasisConfig()
    """How much each demonstration counts."""
    checkpoint_interval: int | None = None
    """Gradient steps between checkpoints; none writes one at the end only."""

    def __post_init__(self) -> None:
        if self.emphasis.through == "losses" and self.agent.reduction == "mean":
            raise ValueError(
                "the plain mean ignores weights; with emphasis.through='losses' the reduction must "
                "be 'weighted_mean', 'self_normalised_mean' or 'cvar'."
            )

    def steps(self, rows: int) -> int:
        """Gradient steps for ``rows`` training rows: ``max(epochs · ceil(rows / batch), min)``."""
        return max(self.epochs * -(-rows // self.agent.batch_size), self.min_steps)


class ChunkRows(eqx.Module):
    """One run's demonstrated steps as the chunks that they start; stack them for a group.

    Attributes:
        steps: All steps, and how much each counts as a start.
        last: Last step of each step's episode.
        action_range: Of the demonstrated actions.
    """

    steps: DemonstrationRows
    last: Int[Array, "*seed row"]
    action_range: ActionRange

    def draw(
        self, key: PRNGKeyArray, size: int, chunk: int
    ) -> tuple[ActionChunk, Float[Array, " batch"]]:
        """Draw chunks of one run with replacement by their first steps, and their weights."""
        start = Multinomial().draw(self.steps.table, key, size).indices
        return self._take(start, chunk), self.steps.weights[start]

    def every(self, chunk: int) -> ActionChunk:
        """All chunks of one run; those from ``steps.count`` on are padding."""
        return self._take(jnp.arange(self.last.shape[0]), chunk)

    def _take(self, start: Int[Array, " batch"], chunk: int) -> ActionChunk:
        rows = self.steps.rows
        return take_chunks(rows.observation, rows.action, self.last, start, chunk)


def put_chunks_on_device(
    datasets: Sequence[Demonstrations],
    emphasis: EmphasisConfig = EmphasisConfig(),
    seeds: Sequence[int] | None = None,
) -> ChunkRows:
    """Stack one dataset per run along a leading seed axis; shorter ones are padded.

    Args:
        datasets: One per run.
        emphasis: How much each episode counts; its chunks share its weight.
        seeds: Seeds of the runs, for clustering; none means zeros.
    """
    steps = put_on_device(datasets, emphasis, seeds)
    longest = steps.ratios.shape[1]
    last = [np.pad(last_steps(d.lengths), (0, longest - d.num_steps)) for d in datasets]
    ranges = [ActionRange.of(data.transitions().action) for data in datasets]
    action_range = jax.tree.map(lambda *xs: jnp.stack(xs), *ranges)
    return ChunkRows(steps, jnp.asarray(np.stack(last), jnp.int32), action_range)


def train_base(
    run: BaseRun, group: RunGroup, datasets: Sequence[Demonstrations], tick: Ticker
) -> ChunkedBC:
    """Train a group of base policies, each on its own demonstrations.

    Args:
        run: Settings.
        group: Seeds and folders.
        datasets: One per seed, all of one task.
        tick: Progress display.

    Returns:
        The stacked learner that is kept: of least loss on held-out episodes, or the last.

    Raises:
        DatasetError: Two datasets are of different tasks; both stand side by side.
        ValueError: The demonstrations are of another task than the run.
    """
    spec = datasets[0].env_spec
    if spec.id != run.env:
        raise ValueError(f"the run's task is {run.env!r}, its demonstrations are of {spec.id!r}")
    for data in datasets:
        compare_specs(data.env_spec, spec)
    parts = [hold_out(d, run, s) for d, s in zip(datasets, group.seeds, strict=True)]
    training = [part[0] for part in parts]
    train = put_chunks_on_device(training, run.emphasis, group.seeds)
    if run.emphasis != EmphasisConfig():
        for i, folder in enumerate(group.folders):
            write_json(folder.path / "emphasis.json", emphasis_report(train.steps, i))
    held_out = [part[1] for part in parts if part[1] is not None]
    validation = put_chunks_on_device(held_out) if len(held_out) == len(parts) else None
    steps = max(run.steps(data.num_steps) for data in training)
    chunk = run.agent.chunk

    def create(data: tuple[ChunkRows, ChunkRows | None], key: PRNGKeyArray) -> ChunkedBC:
        rows = data[0]
        normaliser = rows.steps.statistics.normaliser()
        return ChunkedBC.create(key, spec, run.agent, normaliser, rows.action_range, steps)

    def draw(
        agent: ChunkedBC, data: tuple[ChunkRows, ChunkRows | None], key: PRNGKeyArray, rows: int
    ) -> tuple[ActionChunk, Array | None]:
        batch, weights = data[0].draw(key, rows, chunk)
        return batch, weights if run.emphasis.through == "losses" else None

    def validate(agent: ChunkedBC, data: tuple[ChunkRows, ChunkRows]) -> dict[str, Array]:
        held_out, keys = data[1].every(chunk), jax.random.split(jax.random.key(0), VALIDATION_DRAWS)
        losses = jnp.mean(jax.vmap(lambda key: agent.losses(held_out, key))(keys), axis=0)
        count = data[1].steps.count
        valid = jnp.arange(losses.shape[0]) < count
        return {"val/loss": jnp.sum(jnp.where(valid, losses, 0.0)) / count}

    problem = OfflineProblem(create, draw, None if validation is None else validate)
    config = OfflineConfig(steps=steps, checkpoint_interval=run.checkpoint_interval)
    data = (train, validation)
    return train_offline(problem, config, group, data, run.agent.batch_size, tick)
