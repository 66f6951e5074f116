"""Runs that train together: one compiled program, but each keeps its own folder."""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from steelyard.training.checkpoint import load_tree, save_tree, stack_runs, take_run
from steelyard.training.metrics import Sink, SinkOptions, write_all
from steelyard.training.run_folder import RunFolder

Tree = TypeVar("Tree")


@runtime_checkable
class Ticker(Protocol):
    """A progress display: told how far the work is."""

    def __call__(self, step: int, note: str = "", /) -> None:
        """Show that ``step`` of the total are done."""
        ...


def common_steps(folders: Sequence[RunFolder]) -> list[int]:
    """Steps at which runs of one program can go on, as much in lockstep as can be.

    A group writes all its checkpoints before the first status tells of them. So where a kill fell
    between two statuses, a run that lags behind has the checkpoint of those that are ahead.
    """
    steps = [_step(folder.status()) for folder in folders]
    for behind, ahead in itertools.pairwise(sorted(set(steps))):
        late = [i for i, step in enumerate(steps) if step == behind]
        if all((folders[i].checkpoints / _file(ahead)).exists() for i in late):
            for i in late:
                steps[i] = ahead
    return steps


def _step(status: Mapping[str, Any]) -> int:
    return status.get("step", 0) if status.get("checkpoint") else 0


def _file(step: int) -> str:
    return f"state_{step}.safetensors"


@dataclasses.dataclass
class RunGroup:
    """Seeds that train in lockstep under ``vmap``, each with its own folder, metrics, checkpoint.

    A run that turns non-finite is frozen: nothing more is written for it, the others go on.

    Attributes:
        seeds: Seed of each run.
        folders: Folder of each run.
        arm: Name of the arm, for errors and sinks.
        sinks: Where metrics go.
    """

    seeds: Sequence[int]
    folders: Sequence[RunFolder]
    arm: str
    sinks: SinkOptions = SinkOptions()

    def __post_init__(self) -> None:
        self.failures: dict[int, str] = {}
        self._finished: list[RunFolder] = []
        self._sinks: list[list[Sink]] = []
        self._before = 0.0
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds the group has trained, earlier sessions and evaluation included."""
        return self._before + time.perf_counter() - self._clock

    def restore(self, like: Tree) -> tuple[Tree | None, int, int]:
        """Load the group's last checkpoint.

        Args:
            like: One run's state, as it was given to :meth:`save`.

        Returns:
            The stacked state, or none where there is no checkpoint; steps done; checkpoints made.

        Raises:
            ValueError: The runs stand at different steps and cannot go on in lockstep.
        """
        steps = common_steps(self.folders)
        if len(set(steps)) > 1:
            places = dict(zip(self.seeds, steps, strict=True))
            raise ValueError(f"Runs of one group must stand at the same step; got {places}.")
        # Of a group that a kill cut off between two statuses, some say that they stand earlier.
        last = max((folder.status() for folder in self.folders), key=_step)
        self._sinks = [
            self.sinks.open(folder, steps[0], self.arm, f"{self.arm}-seed{seed}-{folder.path.name}")
            for folder, seed in zip(self.folders, self.seeds, strict=True)
        ]
        self._before = last.get("seconds", 0.0) if steps[0] else 0.0
        self._clock = time.perf_counter()
        reached = {n: last[n] for n in ("step", "generation", "checkpoint")} if steps[0] else {}
        for folder in self.folders:
            folder.set_status("running", together=len(self.folders), **reached)
        if steps[0] == 0:
            return None, 0, 0
        self._remove_all_but(last["checkpoint"])
        paths = [folder.checkpoints / last["checkpoint"] for folder in self.folders]
        return stack_runs([load_tree(p, like) for p in paths]), steps[0], last["generation"]

    def save(self, state: Any, step: int, generation: int) -> None:
        """Write each live run's slice of the state, then point every status at it.

        All files are written before the first status changes, so that a kill while they are
        written leaves the whole group at its previous checkpoint.
        """
        name = _file(step)
        for i in self.alive:
            save_tree(self.folders[i].checkpoints / name, take_run(state, i))
        done = {"step": step, "generation": generation, "checkpoint": name}
        for i in self.alive:
            self.folders[i].set_status("running", seconds=self.seconds, **done)
        self._remove_all_but(name)

    def _remove_all_but(self, name: str) -> None:
        """Remove checkpoints that no status tells of."""
        for i in self.alive:
            for other in self.folders[i].checkpoints.glob("state_*"):
                if other.name != name:
                    other.unlink()

    def log(self, step: int, rows: dict[str, np.ndarray]) -> None:
        """Write one row of metrics per live run; ``rows[name]`` is ``[seed]``."""
        for i, sinks in enumerate(self._sinks):
            if i in self.failures:
                continue
            row = {name: float(values[i]) for name, values in rows.items()}
            write_all(sinks, {"step": step, "seconds": round(self.seconds, 3), **row})

    def log_histograms(self, step: int, shapes: Mapping[str, Any]) -> None:
        """Write histograms per live run; counts are ``[seed, bin]``, both ends ``[seed]``."""
        arrays = {name: [np.asarray(x) for x in shape] for name, shape in shapes.items()}
        for i in self.alive:
            own = {n: (c[i], float(low[i]), float(high[i])) for n, (c, low, high) in arrays.items()}
            for sink in self._sinks[i]:
                sink.write_histograms(step, own)

    def freeze_non_finite(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Stop every run in which a metric is no longer finite, and say which.

        Raises:
            FloatingPointError: No run of the group is left.
        """
        for i in self.alive:
            terms = [f"{n} is {x[i]}" for n, x in metrics.items() if not np.isfinite(x[i])]
            if terms:
                self.failures[i] = (
                    f"{', '.join(terms)} in arm {self.arm!r}, seed {self.seeds[i]}, "
                    f"at step {step}; the run stopped there"
                )
                self._mark_diverged(i, step)
        self._stop_if_none_is_left()

    def freeze(self, found: Sequence[str], step: int) -> None:
        """Stop every run of which something is said, ``[seed]``, before its update.

        Raises:
            FloatingPointError: No run of the group is left.
        """
        for i in self.alive:
            if found[i]:
                kept = self.folders[i].status().get("checkpoint", "none")
                self.failures[i] = (
                    f"{found[i]} in arm {self.arm!r}, seed {self.seeds[i]}, before the update at "
                    f"step {step}; the run stopped there, its last checkpoint is {kept}"
                )
                self._mark_diverged(i, step)
        self._stop_if_none_is_left()

    def _mark_diverged(self, run: int, step: int) -> None:
        error = self.failures[run]
        self.folders[run].set_status("diverged", error=error, diverged_at=step)

    def _stop_if_none_is_left(self) -> None:
        if len(self.failures) == len(self.folders):
            raise FloatingPointError("; ".join(self.failures.values()))

    def finish(self, index: int) -> None:
        """Say that a run has all its results; it is done when the group is closed."""
        self._finished.append(self.folders[index])

    def close(self) -> None:
        """Close every sink; then, as the very last thing, those that have finished are done.

        A kill before that leaves them to be finished again, with whatever belongs to them.
        """
        for sinks in self._sinks:
            for sink in sinks:
                sink.close()
        self._sinks = []
        for folder in self._finished:
            folder.set_status("done")
        self._finished = []

    @property
    def alive(self) -> list[int]:
        """Indices of runs that are still finite."""
        return [i for i in range(len(self.seeds)) if i not in self.failures]
