"""Executors: the same groups, one after the other or several processes at a time."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from steelyard.studies.cells import Cell, Saved, Store, Study, ready
from steelyard.studies.hardware import memory_hint


class WorkerError(RuntimeError):
    """A worker process failed; the message says of what and names its log."""


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


def make_executor(name: str, workers: int, runs: Path, device: str) -> Executor:
    """Executor by name; ``device`` is where worker processes compute.

    Raises:
        ValueError: The name is neither ``inline`` nor ``process``, or there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    if name == "inline":
        return run_inline
    if name == "process":
        return ProcessExecutor(workers, runs, device)
    raise ValueError(f"executor is 'inline' or 'process', got {name!r}.")


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
    """Execute one group; what ends it early is left in the status of its runs."""
    try:
        study.execute(cells, saved.config, store, tick, saved.sinks)
    except FloatingPointError as error:
        print(f"diverged: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        _mark_unended(cells, store, "interrupted")
        raise
    except BaseException as error:
        told = memory_hint(error) or f"{type(error).__name__}: {error}"
        _mark_unended(cells, store, "failed", error=told)
        raise


def _mark_unended(cells: Sequence[Cell], store: Store, state: str, **fields: str) -> None:
    for folder in map(store.folder, cells):
        if folder.status()["state"] not in ("done", "diverged"):
            folder.set_status(state, **fields)


class ProcessExecutor:
    """Runs groups in child processes, ``workers`` at a time; nothing but JSON passes between."""

    def __init__(self, workers: int, runs: Path, device: str):
        self.workers, self.runs, self.device = workers, runs, device

    def __call__(
        self,
        study: Study,
        saved: Saved,
        folder: Path,
        groups: Sequence[Sequence[Cell]],
        store: Store,
        make_progress: Callable[[str, int], Any],
    ) -> None:
        """Start a group once the parents of its cells have ended; stop all if one fails."""
        waiting = [list(group) for group in groups]
        running: dict[subprocess.Popen, list[Cell]] = {}
        total = len(waiting)
        try:
            with make_progress(f"{study.name}, {self.workers} workers", total) as tick:
                while waiting or running:
                    self._start_free(study.name, folder, waiting, running)
                    time.sleep(0.2)
                    for group in _take_ended(running, folder, store):
                        tick(total - len(waiting) - len(running), group[0].label)
        finally:
            for process in running:
                process.terminate()
            for process, group in running.items():
                process.wait()
                begun = [c for c in group if store.folder(c).status()["state"] == "running"]
                _mark_unended(begun, store, "interrupted")

    def _start_free(
        self,
        study: str,
        folder: Path,
        waiting: list[list[Cell]],
        running: dict[subprocess.Popen, list[Cell]],
    ) -> None:
        """Start groups whose cells wait for no other, as long as a worker is free."""
        unended = {cell.id for group in [*waiting, *running.values()] for cell in group}
        for group in list(waiting):
            blocked = any(cell.parent and cell.parent.id in unended for cell in group)
            if not blocked and len(running) < self.workers:
                waiting.remove(group)
                running[self._start(study, folder, group)] = group

    def _start(self, study: str, folder: Path, group: Sequence[Cell]) -> subprocess.Popen:
        command = [sys.executable, "-m", "steelyard.studies.worker", study]
        command += [str(folder), str(self.runs), self.device, *(cell.id for cell in group)]
        with (folder / f"worker_{group[0].id}.log").open("w") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _take_ended(
    running: dict[subprocess.Popen, list[Cell]], folder: Path, store: Store
) -> list[list[Cell]]:
    """Groups whose process has ended, taken out of the running ones.

    Raises:
        WorkerError: A process failed; says of what and names its log.
    """
    groups = []
    for process in [p for p in running if p.poll() is not None]:
        group = running.pop(process)
        if process.returncode:
            told = [store.folder(cell).status().get("error") for cell in group]
            reason = "".join(f": {error}" for error in dict.fromkeys(filter(None, told)))
            raise WorkerError(
                f"{group[0].label} failed in a worker (exit {process.returncode}), whose output is "
                f"in {folder / f'worker_{group[0].id}.log'}{reason}"
            )
        groups.append(group)
    return groups
