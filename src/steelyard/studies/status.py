"""How far a study is: run folders in, a table, what is left and for how long out.

Everything is read from the folders, so any machine that sees them can tell.
"""

import collections
import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from steelyard.studies.cells import Cell, Store
from steelyard.training.holds import is_held
from steelyard.training.run_folder import RunFolder

STOPPED = "stopped"
"""State of a run that says it is running while nobody runs it: its process was killed."""
TAIL_BYTES = 65_536
"""End of ``metrics.jsonl`` in which the last row is looked for."""
ORDER = ("running", "failed", "diverged", "interrupted", STOPPED, "skipped", "waiting", "done")


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """How far one run is.

    Attributes:
        run: Arm and axis values.
        seed: Its seed.
        state: See docs/logging.md; ``waiting`` where nothing has begun.
        step: Steps done, those since the last checkpoint too.
        of: Steps in all.
        seconds: Wall time its group has trained; none where nothing was measured.
        together: Runs of its group, which share that time.
        arm: Its arm.
        folder: Name of its folder.
        note: What went wrong.
    """

    run: str
    seed: int
    state: str
    step: int
    of: int
    seconds: float | None
    together: int
    arm: str
    folder: str
    note: str


def study_status(cells: Sequence[Cell], store: Store) -> list[RunStatus]:
    """One entry per cell, in the order of the plan."""
    return [_run_status(cell, store.folder(cell)) for cell in cells]


def _run_status(cell: Cell, folder: RunFolder) -> RunStatus:
    status = folder.status()
    state = "waiting" if status["state"] == "missing" else status["state"]
    step, total = status.get("step", 0), status.get("total", cell.size)
    seconds = status.get("seconds")
    if state == "running":
        row = last_row(folder.metrics)
        if row and row["step"] > step:
            step, seconds = row["step"], row.get("seconds", seconds)
        if not is_held(folder.path):
            state = STOPPED
    if state == "done":
        step = total = step or total
    return RunStatus(
        run=cell.label,
        seed=cell.seed,
        state=state,
        step=step,
        of=total,
        seconds=seconds,
        together=status.get("together", 1),
        arm=cell.arm,
        folder=cell.id,
        note=status.get("error", ""),
    )


def last_row(metrics: Path) -> dict[str, Any] | None:
    """The last whole row of a ``metrics.jsonl``, read from its end; none where there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            return row
    return None


def seconds_left(runs: Sequence[RunStatus]) -> float | None:
    """Seconds until all have ended at the pace so far; none where no pace is known yet.

    A run costs its share of its group's time. Arms without a run that has moved are taken to cost,
    whole, as much as the others do on average.
    """
    lanes = sum(1 / run.together for run in runs if run.state == "running")
    costs: dict[str, list[float]] = collections.defaultdict(list)
    for run in runs:
        if run.step and run.seconds:
            costs[run.arm].append(run.seconds / run.together / run.step * run.of)
    if not costs or not lanes:
        return None
    usual = statistics.mean(cost for several in costs.values() for cost in several)
    left = 0.0
    for run in runs:
        if run.state not in ("done", "diverged", "skipped"):
            whole = statistics.mean(costs[run.arm]) if run.arm in costs else usual
            left += whole * (1 - min(run.step / max(run.of, 1), 1.0))
    return left / max(lanes, 1.0)


def headline(runs: Sequence[RunStatus]) -> str:
    """Counts of states, and for how long it will go on: ``3 running, 2 done; 4 min left``."""
    counts = collections.Counter(run.state for run in runs)
    told = [f"{counts[state]} {state}" for state in ORDER if counts[state]]
    told += [f"{count} {state}" for state, count in counts.items() if state not in ORDER]
    left = seconds_left(runs)
    more = "" if left is None else f"; about {duration(left)} left, until {_clock(left)}"
    return ", ".join(told) + more


def duration(seconds: float) -> str:
    """For people: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def table(runs: Sequence[RunStatus]) -> list[str]:
    """One line a run, what went wrong behind it, and below them the headline."""
    width = max((len(run.run) for run in runs), default=0)
    lines = [
        f"{run.run:{width}s}  seed {run.seed:<3d} {run.state:11s} "
        f"{f'{run.step:>9,}/{run.of:,}':>20s} "
        f"{'' if run.seconds is None else f'{run.seconds:8.0f} s':10s}  {run.folder}  {run.note}"
        for run in runs
    ]
    return [*lines, headline(runs)]


def watch(cells: Sequence[Cell], store: Store, folder: Path, every_s: float) -> None:
    """Show a study anew every so often, until no process works on it or on one of its runs.

    Where a terminal has not lines enough, runs that are done or wait are in the headline only.

    Args:
        cells: Of the study.
        store: Where its runs live.
        folder: The study's own.
        every_s: Seconds between two looks.

    Raises:
        ValueError: ``every_s`` is not above 0.
    """
    if not every_s > 0:
        raise ValueError(f"watch must be above 0 seconds, got {every_s}.")
    with _screen() as show:
        while True:
            runs = study_status(cells, store)
            goes_on = is_held(folder) or any(run.state == "running" for run in runs)
            show(table(runs), goes_on)
            if not goes_on:
                return
            time.sleep(every_s)


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[list[str], bool], None]]:
    """A terminal's lines shown in one place; else the headline each time, and all at the end."""
    if not sys.stdout.isatty():
        yield lambda lines, goes_on: print("\n".join(lines[-1:] if goes_on else lines), flush=True)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, auto_refresh=False) as live:

        def show(lines: list[str], goes_on: bool) -> None:
            room = console.height - 2
            if (
                goes_on and len(lines) > room
            ):  # what moves or went wrong matters more than what does not
                quiet = (" done ", " waiting ")
                kept = [x for x in lines[:-1] if not any(word in x for word in quiet)]
                lines = [*kept[: room - 1], lines[-1]]
            live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)

        yield show


def _clock(left: float) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + left))
