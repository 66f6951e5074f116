"""Groups in child processes of this machine, several at a time."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steelyard.studies.cells import Cell, Saved, Store, Study
from steelyard.studies.executors import WorkerError, free_to_start, mark_interrupted
from steelyard.studies.hardware import share_of_memory

PATIENCE_S = 0.2
"""How long to wait for a worker before looking whether others can start."""


class ProcessExecutor:
    """Runs groups in child processes, ``workers`` at a time; nothing but JSON passes between.

    A worker lives as long as the study and takes one group after the other, so that it imports,
    reads its data and compiles a program once.
    """

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
        """Hand out a group once the parents of its cells have ended; stop all if one fails."""
        waiting = list(groups)
        total = len(waiting)
        workers: list[_Worker] = []
        try:
            with make_progress(f"{study.name}, {self.workers} workers", total) as tick:
                while waiting or any(worker.group for worker in workers):
                    self._hand_out(study.name, folder, waiting, workers)
                    for group in _take_ended(workers, store):
                        busy = sum(worker.group is not None for worker in workers)
                        tick(total - len(waiting) - busy, group[0].label)
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.process.wait()
            mark_interrupted(_worked_on(workers), store)

    def _hand_out(
        self, study: str, folder: Path, waiting: list[Sequence[Cell]], workers: "list[_Worker]"
    ) -> None:
        """Give groups whose cells wait for no other to free workers, which start when needed."""
        for group in free_to_start(waiting, _worked_on(workers)):
            free = next((worker for worker in workers if worker.group is None), None)
            if free is None and len(workers) < self.workers:
                number = len(workers)
                cores = ",".join(map(str, own_cores(number, self.workers)))
                words = [study, str(folder), str(self.runs), self.device, cores]
                shared = os.environ | share_of_memory(1 / self.workers)
                free = _Worker(words, folder / f"worker_{number}.log", shared)
                workers.append(free)
            if free is None:
                return
            waiting.remove(group)
            free.take(group)


def own_cores(number: int, workers: int) -> list[int]:
    """Cores that a worker has to itself; all of them where there are fewer than workers.

    Compilers and simulators start as many threads as there are cores; of several processes these
    would get in each other's way.
    """
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < workers:
        return cores
    return cores[number * len(cores) // workers : (number + 1) * len(cores) // workers]


class _Worker:
    """A child process and the group that it works on."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str]):
        self.log = log
        self.group: Sequence[Cell] | None = None
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "steelyard.studies.worker", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=environment,
            )
        assert self.process.stdin
        assert self.process.stdout
        self._orders, self.answers = self.process.stdin, self.process.stdout

    def take(self, group: Sequence[Cell]) -> None:
        """Let it run a group."""
        self.group = group
        # One that has died answers nothing, which is noticed where answers are read.
        with contextlib.suppress(BrokenPipeError):
            self._orders.write(json.dumps([cell.id for cell in group]) + "\n")
            self._orders.flush()

    def stop(self) -> None:
        """End it: at once if it works, else by telling it that nothing more comes."""
        if self.group is not None:
            self.process.terminate()
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()
        self.answers.close()


def _worked_on(workers: Sequence[_Worker]) -> list[Sequence[Cell]]:
    return [worker.group for worker in workers if worker.group]


def _take_ended(workers: Sequence[_Worker], store: Store) -> list[Sequence[Cell]]:
    """Wait a moment for workers to end their groups, and take these from them.

    Raises:
        WorkerError: A worker failed; says of what and names its log.
    """
    by_pipe = {worker.answers: worker for worker in workers if worker.group}
    groups = []
    for pipe in select.select(list(by_pipe), [], [], PATIENCE_S)[0]:
        worker = by_pipe[pipe]
        group, worker.group = worker.group, None
        assert group is not None
        if not pipe.readline():
            code = worker.process.wait()
            told = [store.folder(cell).status().get("error") for cell in group]
            reason = "".join(f": {error}" for error in dict.fromkeys(filter(None, told)))
            raise WorkerError(
                f"{group[0].label} failed in a worker (exit {code}), whose output is "
                f"in {worker.log}{reason}"
            )
        groups.append(group)
    return groups
