"""Progress bars for long work: rich on a terminal, a line every tenth elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from steelyard.training.group import Ticker


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Ticker]:
    """Show how far a piece of work is.

    Args:
        description: What is being done.
        total: Steps in all.

    Yields:
        A function to call with the steps done and a short note.
    """
    if sys.stderr.isatty():
        yield from _bar(description, total)
    else:
        yield from _lines(description, total)


def _bar(description: str, total: int) -> Iterator[Ticker]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as display:
        task = display.add_task(description, total=total, note="")
        yield lambda step, note="": display.update(task, completed=min(step, total), note=note)


def _lines(description: str, total: int) -> Iterator[Ticker]:
    start, shown = time.perf_counter(), -1

    def tick(step: int, note: str = "") -> None:
        nonlocal shown
        tenth = 10 * min(step, total) // max(total, 1)
        if tenth > shown:
            shown = tenth
            seconds = time.perf_counter() - start
            print(f"{description}: {10 * tenth:3d} %  {seconds:6.1f} s  {note}", file=sys.stderr)

    yield tick
