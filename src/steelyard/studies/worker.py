"""Groups of a study in a process of its own: ``python -m steelyard.studies.worker``.

Each line of its input is a JSON list of run ids, one group; each line of its output says that one
has ended. Whatever else is printed goes to its error stream. It ends when whoever started it does.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from steelyard.studies import get_study
from steelyard.studies.cells import Store, load, ready
from steelyard.studies.executors import run_group
from steelyard.studies.hardware import use_device
from steelyard.training.progress import progress

LOOK_S = 0.5
"""How often to look whether the parent process still lives."""


class StudyWorker:
    """One study's plan, read once, and the groups of it that are run here.

    Args:
        study: Name of the study.
        folder: Of the study, with ``study.json``.
        runs: Of all runs.
    """

    def __init__(self, study: str, folder: Path, runs: Path):
        self.study = get_study(study)
        self.saved = load(folder, self.study.config_type)
        self.store = Store(runs, self.study.name)
        self.planned = self.study.plan(self.saved.config, self.store)

    def run(self, ids: Collection[str]) -> None:
        """Run the cells of these ids, as one group."""
        cells = ready([cell for cell in self.planned if cell.id in ids], self.store)
        if cells:
            with progress(cells[0].label, cells[0].size) as tick:
                run_group(self.study, cells, self.saved, self.store, tick)


def main(study_name: str, folder: str, runs: str, device: str, cores: str = "") -> None:
    """Run groups of cells on a device, and on some cores, until the input ends."""
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    end_with_parent()
    # Simulators print to the output from C; only answers may reach whoever reads it.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        use_device(device)
        worker = StudyWorker(study_name, Path(folder), Path(runs))
        for line in sys.stdin:
            worker.run(set(json.loads(line)))
            print("done", file=answers, flush=True)


def end_with_parent() -> None:
    """End this process soon after the one that started it, even where that was killed outright."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        print("the study's own process is gone; this worker ends", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
