"""Figures of one residual run: its metrics and histograms → ``plots/*.png``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from steelyard.reports import theme as themes
from steelyard.reports.theme import LIGHT
from steelyard.training.metrics import read_rows
from steelyard.training.run_folder import RunFolder


def run_plots(folder: RunFolder) -> list[Path]:
    """Draw a run's success, the distribution of its importance, and its effective items.

    Args:
        folder: The run's; `plots/success_rate.png`, and where an emphasis was on
            `plots/importance.png` and `plots/ess.png`, are written.

    Returns:
        What was written.
    """
    rows = [row for row in read_rows(folder.metrics) if "charts/success_rate" in row]
    shapes = read_rows(folder.path / "histograms.jsonl")
    if not rows:
        return []
    written = [_figure(folder, "success_rate", "Success of training episodes", _success, rows)]
    effective = [name for name in rows[-1] if name.startswith("cupid/ess_share")]
    if effective:
        written.append(_figure(folder, "ess", "Effective share of items", _effective, rows))
        if shapes:
            title = "Importance of the items"
            written.append(_figure(folder, "importance", title, _importance, shapes))
    return written


def _figure(
    folder: RunFolder,
    name: str,
    title: str,
    draw: Callable[[Axes, Sequence[Mapping[str, Any]]], None],
    rows: Sequence[Mapping[str, Any]],
) -> Path:
    figure = themes.new_figure(6.4, 3.6, LIGHT)
    axes = figure.add_subplot()
    themes.style(axes, LIGHT)
    draw(axes, rows)
    themes.heading(axes, LIGHT, title, "")
    path = folder.path / "plots" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(themes.png(figure))
    return path


def _success(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    steps = [row["step"] for row in rows]
    axes.plot(steps, [row["charts/success_rate"] for row in rows], color=LIGHT.ink, linewidth=1.6)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("Environment steps")


def _effective(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [name for name in rows[-1] if name.startswith("cupid/ess_share")]
    for name, dashes in zip(names, ("-", "--"), strict=False):
        own = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        label = name.removeprefix("cupid/ess_share").strip("_") or "items"
        axes.plot(*zip(*own, strict=True), dashes, color=LIGHT.ink, linewidth=1.6, label=label)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("Environment steps")
    if len(names) > 1:
        axes.legend(frameon=False)


def _importance(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """First, middle and last histogram."""
    chosen = [rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})]
    for row, shade in zip(chosen, np.linspace(0.35, 1.0, len(chosen)), strict=True):
        shape = row["histograms/importance"]
        counts = np.asarray(shape["counts"])
        edges = np.linspace(shape["low"], shape["high"], len(counts) + 1) * counts.sum()
        label = f"step {row['step']:,}"
        axes.stairs(counts / counts.sum(), edges, color=LIGHT.ink, alpha=float(shade), label=label)
    axes.set_xlabel("Importance × number of items")
    axes.set_ylabel("Share of items")
    axes.legend(frameon=False)
