"""Runs studies: plans cells, trains those that share a program together, resumes, reports.

The engine knows no learner. Data flow: config → cells → groups → run folders → records → report.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from steelyard.files import remove_leftovers
from steelyard.studies.cells import Cell, Saved, Store, Study, in_lockstep, load, save
from steelyard.studies.executors import Options, make_executor
from steelyard.studies.hardware import take_little, use_device
from steelyard.training.holds import Hold
from steelyard.training.run_folder import run_id


def study_folder(store: Store, preset: str, config: Any) -> Path:
    """Folder of a study's own report: the preset and the start of its config's hash."""
    return store.path / f"study_{preset}_{run_id(config)[:8]}"


def settle(study: Study, config: Any, preset: str, store: Store) -> Any:
    """The config with what it leaves to the moment, such as the newest dataset, written out.

    A study that has begun and not ended keeps what it began with.
    """
    pinned = study.pin(config, store)
    folder = study_folder(store, preset, config)
    if pinned == config or not (folder / "study.json").exists():
        return pinned
    before = study.pin(load(folder, study.config_type).config, store)
    unended = groups_to_run(study, study.plan(before, store), store, None)
    if unended and before != pinned:
        print(f"goes on with what it began with, see {folder / 'study.json'}", file=sys.stderr)
    return before if unended else pinned


def groups_to_run(
    study: Study, cells: Sequence[Cell], store: Store, seed_group: int | None
) -> list[list[Cell]]:
    """Unfinished cells, in groups that can go on in lockstep, parents before children.

    How cells are grouped follows from the plan alone: what has been done by now changes which of a
    group are left, not who goes with whom, so that a study that was killed ends with equal bits.

    Raises:
        ValueError: ``seed_group`` is below 1.
    """
    if seed_group is not None and seed_group < 1:
        raise ValueError(f"seed_group must be at least 1, got {seed_group}.")
    programs: dict[str, list[Cell]] = {}
    for cell in cells:
        programs.setdefault(cell.program, []).append(cell)
    groups = []
    for alike in programs.values():
        size = seed_group or study.group_size(alike)
        for i in range(0, len(alike), size):
            groups += in_lockstep(alike[i : i + size], store)
    return sorted(groups, key=lambda group: max(_depth(cell) for cell in group))


def _depth(cell: Cell) -> int:
    return 0 if cell.parent is None else 1 + _depth(cell.parent)


def run_study(
    study: Study,
    config: Any,
    preset: str,
    command: str,
    options: Options,
    make_progress: Callable[[str, int], Any],
) -> Path:
    """Run whatever is unfinished, and return the study's folder.

    Args:
        study: The study.
        config: Its config.
        preset: Name under which it is reported.
        command: What the user typed, for the report.
        options: Where and how.
        make_progress: ``(description, total) ->`` context manager that yields a ticker.

    Raises:
        HeldError: Another process runs the same study.
    """
    wanted = study.executor if options.executor == "auto" else options.executor
    if wanted != "inline":
        take_little()
    use_device(options.device)
    executor = make_executor(wanted, options)
    store = Store(options.runs, study.name)
    folder = study_folder(store, preset, config)  # of what was asked, so that it is found again
    config = settle(study, config, preset, store)
    study.check(config, store)
    saved = Saved(study.name, preset, command, options.sinks, config)
    cells = study.plan(config, store)
    groups = groups_to_run(study, cells, store, options.seed_group)
    with Hold([folder]):
        remove_leftovers(folder)
        save(folder, saved)
        if groups:
            study.prepare(config, store, make_progress)
        finished = sum(store.is_done(cell) for cell in cells)
        print(
            f"{study.name} ({preset}): {len(cells)} runs, {finished} done, "
            f"{len(groups)} groups to train → {folder}",
            file=sys.stderr,
        )
        executor(study, saved, folder, groups, store, make_progress)
    return folder
