"""Executors: the same groups, here one after the other, in processes, or on a cluster."""

import contextlib
import dataclasses
import errno
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from steelyard.files import remove_leftovers
from steelyard.studies.cells import Cell, Saved, Store, Study, in_lockstep, ready
from steelyard.studies.hardware import memory_hint
from steelyard.training.holds import Hold
from steelyard.training.metrics import SinkOptions

EXECUTORS = ("inline", "process", "ray")


class WorkerError(RuntimeError):
    """A worker failed; the message says of what and names its log."""


@runtime_checkable
class Executor(Protocol):
    """Runs groups of cells, never a child before its parent."""

    def __call__(
        self,
        study: Study,
        saved: Saved,
        folder: Path,
        groups: Sequence[Sequence[Cell]],
        store: Store,
        make_progress: Callable[[str, int], Any],
    ) -> None:
        """Run every group to its end."""
        ...


@dataclasses.dataclass(frozen=True)
class Options:
    """How a study is run; none of this can change a result beyond rounding."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, or several that share each batch, `cuda:0,1`."""
    executor: str = "auto"
    """`inline` runs groups one after the other, `process` several at a time, `ray` as Ray tasks,
    here or on a cluster; `auto` is what the study prefers."""
    workers: int = 2
    """Groups at a time on this machine (`process`, `ray`); a cluster runs what it can hold."""
    address: str | None = None
    """Ray cluster (`auto`, `HOST:PORT`, `ray://HOST:PORT`), which must see the folder of runs; none
    starts one on this machine, for this study, on loopback."""
    cpus_per_run: int | None = None
    """Cores of a group of runs under `ray`; none shares out this machine's; 1 on a cluster."""
    gpus_per_run: float = 0.0
    """GPU of a group of runs under `ray`; a part of one, such as 0.33, lets several share it, each
    with that part of its memory."""
    num_gpus: int | None = None
    """GPUs that a Ray cluster on this machine counts with; none counts those there are."""
    retries: int = 3
    """How often `ray` starts a group again whose worker was killed; an error is not tried again."""
    sinks: SinkOptions = SinkOptions()
    """Where metrics go besides `metrics.jsonl`."""
    seed_group: int | None = None
    """Seeds that train together; none lets the study choose."""


def make_executor(name: str, options: Options) -> Executor:
    """Executor by name.

    Raises:
        ValueError: There is no such executor, or no worker, or shares of what a group gets that
            make no sense.
        ImportError: Ray is wanted and not installed.
    """
    if options.workers < 1:
        raise ValueError(f"workers must be at least 1, got {options.workers}.")
    if name == "inline":
        return run_inline
    if name == "process":
        from steelyard.studies.processes import ProcessExecutor

        return ProcessExecutor(options.workers, options.runs, options.device)
    if name == "ray":
        from steelyard.studies.cluster import RayExecutor

        return RayExecutor(options)
    raise ValueError(f"executor is one of {', '.join(map(repr, EXECUTORS))}, got {name!r}.")


def run_inline(
    study: Study,
    saved: Saved,
    folder: Path,
    groups: Sequence[Sequence[Cell]],
    store: Store,
    make_progress: Callable[[str, int], Any],
) -> None:
    """Run the groups here, one after the other."""
    for number, group in enumerate(groups, 1):
        cells = ready(group, store)
        if not cells:
            continue
        seeds = ", ".join(str(cell.seed) for cell in cells)
        title = f"[{number}/{len(groups)}] {cells[0].label}, seeds {seeds}"
        with make_progress(title, cells[0].size) as tick:
            run_group(study, cells, saved, store, tick)


def run_group(
    study: Study, cells: Sequence[Cell], saved: Saved, store: Store, tick: Callable[..., None]
) -> None:
    """Execute one group; what ends it early is left in the status of its runs.

    Nobody else runs it meanwhile. Where another study runs some of the same cells, this waits, and
    then takes what is left.
    """
    paths = [store.folder(cell).path for cell in cells]
    with Hold(paths, lambda text: print(text, file=sys.stderr)):
        for path in paths:
            remove_leftovers(path)
        for left in in_lockstep(cells, store):
            _execute(study, left, saved, store, tick)


def _execute(
    study: Study, cells: Sequence[Cell], saved: Saved, store: Store, tick: Callable[..., None]
) -> None:
    try:
        study.execute(cells, saved.config, store, tick, saved.sinks)
    except FloatingPointError as error:
        print(f"diverged: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        mark_unended(cells, store, "interrupted")
        raise
    except BaseException as error:
        told = memory_hint(error) or f"{type(error).__name__}: {error}"
        mark_unended(cells, store, "failed", error=told)
        raise


def mark_unended(cells: Sequence[Cell], store: Store, state: str, **fields: str) -> None:
    """Write a state into those of the cells that have come to no end of their own.

    On a full disk, they stay as they are.
    """
    for cell in cells:
        if not store.has_ended(cell):
            with contextlib.suppress(OSError):
                store.folder(cell).set_status(state, **fields)


def mark_interrupted(groups: Iterable[Sequence[Cell]], store: Store) -> None:
    """Mark those that had begun of groups that were stopped."""
    cells = [cell for group in groups for cell in group]
    begun = [cell for cell in cells if store.folder(cell).status()["state"] == "running"]
    mark_unended(begun, store, "interrupted")


def free_to_start(
    waiting: Sequence[Sequence[Cell]], running: Iterable[Sequence[Cell]]
) -> list[Sequence[Cell]]:
    """Waiting groups no cell of which continues one that has not ended yet."""
    unended = {cell.id for group in (*waiting, *running) for cell in group}
    return [
        group
        for group in waiting
        if not any(cell.parent and cell.parent.id in unended for cell in group)
    ]


def disk_hint(error: OSError) -> str | None:
    """What to do about a full disk, on one line; none for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    place = f" ({error.filename})" if error.filename else ""
    return (
        f"no space left on the disk{place}: free some and give the same command again; it goes on "
        "from the last checkpoint, which is whole"
    )
