"""One group of a study in a process of its own: ``python -m steelyard.studies.worker``."""

import sys
from pathlib import Path

from steelyard.studies import get_study
from steelyard.studies.cells import Store, load, ready
from steelyard.studies.executors import run_group
from steelyard.studies.hardware import use_device
from steelyard.training.progress import progress


def main(study_name: str, folder: str, runs: str, device: str, *ids: str) -> None:
    """Run the cells with these ids on a device."""
    use_device(device)
    study = get_study(study_name)
    saved = load(Path(folder), study.config_type)
    store = Store(Path(runs), study.name)
    chosen = [cell for cell in study.plan(saved.config, store) if cell.id in ids]
    cells = ready(chosen, store)
    if not cells:
        return
    with progress(cells[0].label, cells[0].size) as tick:
        run_group(study, cells, saved, store, tick)


if __name__ == "__main__":
    main(*sys.argv[1:])
