"""Writes finished runs as the folders that the reference's own scripts read."""

import shutil
from pathlib import Path

from steelyard.studies.car.arms import ARMS, TAIL
from steelyard.studies.car.config import CarConfig
from steelyard.studies.car.plan import plan_cells
from steelyard.studies.cells import Cell, Store, load

FILES = ("config.json", "losses.csv", "standardizers.json", "checkpoints/best.safetensors")
"""What is copied of a run, besides its plots and evaluations."""


def write_reference_tree(study_folder: Path, out: Path) -> list[Path]:
    """Copy the finished runs of the reference's experiments to ``out/<experiment>/<run name>/``.

    Names, and the folder ``eval_runs``, are the reference's, so that its analysis scripts find what
    they look for: its seed sweep has a directory each seed. The model is not its ``best.pt`` but
    ``best.safetensors``.

    Args:
        study_folder: ``<runs>/car/study_<preset>_<hash>``.
        out: Where to write; runs that are there already are replaced.

    Returns:
        The folders written, in the order of the experiments.

    Raises:
        FileNotFoundError: It is no study's folder, or no run of an experiment has finished.
    """
    if not (study_folder / "study.json").exists():
        raise FileNotFoundError(
            f"{study_folder} has no study.json: a study's folder is "
            "<runs>/car/study_<preset>_<hash>, named at the end of its report"
        )
    store = Store(study_folder.resolve().parent.parent, "car")
    config: CarConfig = load(study_folder, CarConfig).config
    cells = [c for c in plan_cells(config) if ARMS[c.arm].run_name and store.is_done(c)]
    if not cells:
        raise FileNotFoundError(
            f"{study_folder}: no run of the reference's experiments has finished; they are those "
            "of the preset `matrix`"
        )
    return [_copy(cell, store.folder(cell).path, out) for cell in cells]


def _copy(cell: Cell, run: Path, out: Path) -> Path:
    name = ARMS[cell.arm].run_name.format(seed=cell.seed)
    target = out / directory(cell.arm, cell.seed) / name
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for file in FILES:
        if (run / file).exists():
            shutil.copy2(run / file, target / Path(file).name)
    for plot in sorted((run / "plots").glob("*.png")):
        shutil.copy2(plot, target / plot.name)
    # The study's own set only: the reference evaluates on nothing else.
    for evaluation in sorted((run / "eval").glob(f"*_{cell.axes['data']}")):
        shutil.copytree(evaluation, target / "eval_runs" / evaluation.name)
    return target


def directory(arm: str, seed: int) -> str:
    """The reference's directory of an experiment.

    Its sweep lies in one directory there; its scripts then take a run's name from the second part
    of the path, which is the same for all seeds. Here each seed has its own.
    """
    base = arm.removesuffix(TAIL)
    if base == "exp2_seed_sweep":
        return f"exp2_seed{seed}{TAIL if arm.endswith(TAIL) else ''}"
    return arm
