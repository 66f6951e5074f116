"""Groups of a study in a process of its own: ``python -m steelyard.studies.worker``.

Each line of its input is a JSON list of run ids, one group; each line of its output says that one
has ended. Whatever else is printed goes to its error stream.
"""

import json
import os
import sys
from pathlib import Path

from steelyard.studies import get_study
from steelyard.studies.cells import Store, load, ready
from steelyard.studies.executors import run_group
from steelyard.studies.hardware import use_device
from steelyard.training.progress import progress


def main(study_name: str, folder: str, runs: str, device: str, cores: str = "") -> None:
    """Run groups of cells on a device, and on some cores, until the input ends."""
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    # Simulators print to the output from C; only answers may reach whoever reads it.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        use_device(device)
        study = get_study(study_name)
        saved = load(Path(folder), study.config_type)
        store = Store(Path(runs), study.name)
        planned = study.plan(saved.config, store)
        for line in sys.stdin:
            ids = set(json.loads(line))
            cells = ready([cell for cell in planned if cell.id in ids], store)
            if cells:
                with progress(cells[0].label, cells[0].size) as tick:
                    run_group(study, cells, saved, store, tick)
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
