"""Executors: the same groups, one after the other or several processes at a time."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from steelyard.studies.engine import Cell, Saved, Store, Study, ready


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


def make_executor(name: str, workers: int, runs: Path) -> Executor:
    """Executor by name.

    Raises:
        ValueError: The name is neither ``inline`` nor ``process``.
    """
    if name == "inline":
        return run_inline
    if name == "process":
        return ProcessExecutor(workers, runs)
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
    """Execute one group; a group in which every run diverged is left marked as such."""
    try:
        study.execute(cells, saved.config, store, tick, saved.sinks)
    except FloatingPointError as error:
        print(f"diverged: {error}", file=sys.stderr)
    except BaseException as error:
        for cell in cells:
            store.folder(cell).set_status("failed", error=f"{type(error).__name__}: {error}")
        raise


class ProcessExecutor:
    """Runs groups in child processes, ``workers`` at a time; nothing but JSON passes between."""

    def __init__(self, workers: int, runs: Path):
        self.workers, self.runs = workers, runs

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
        waiting, running = [list(group) for group in groups], {}
        total = len(waiting)
        with make_progress(f"{study.name}, {self.workers} workers", total) as tick:
            while waiting or running:
                unended = {cell.id for group in [*waiting, *running.values()] for cell in group}
                for group in list(waiting):
                    blocked = any(c.parent and c.parent.id in unended for c in group)
                    if blocked or len(running) >= self.workers:
                        continue
                    waiting.remove(group)
                    running[self._start(study.name, folder, group)] = group
                time.sleep(0.2)
                for process in [p for p in running if p.poll() is not None]:
                    group = running.pop(process)
                    if process.returncode:
                        for other in running:
                            other.terminate()
                        log = folder / f"worker_{group[0].id}.log"
                        raise RuntimeError(
                            f"{group[0].label} failed in a worker (exit {process.returncode}); "
                            f"its output is in {log}"
                        )
                    tick(total - len(waiting) - len(running), group[0].label)

    def _start(self, study: str, folder: Path, group: Sequence[Cell]) -> subprocess.Popen:
        command = [sys.executable, "-m", "steelyard.studies.worker", study]
        command += [str(folder), str(self.runs), *(cell.id for cell in group)]
        with (folder / f"worker_{group[0].id}.log").open("w") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
