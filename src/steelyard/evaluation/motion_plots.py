"""Small figures of motion: recorded against predicted paths, and curves over training."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from steelyard.files import replacing

RECORDED, PREDICTED = "#5d6675", "#d55e00"
_DPI = 110

Path2D = Float[np.ndarray, "state 2"]


def draw_trajectory(
    path: Path, recorded: Path2D, predicted: Path2D, title: str, error_m: float
) -> Path:
    """Draw one recorded path and its prediction.

    Args:
        path: PNG to write.
        recorded: Positions in the world, m.
        predicted: The same as predicted; it may be shorter, where the prediction diverged.
        title: Name of the trajectory.
        error_m: Mean distance between the two, for the title.
    """
    figure, axes = _figure(4.2, 4.2)
    axes.plot(*recorded.T, color=RECORDED, linewidth=2.2, label="recorded")
    axes.plot(*predicted.T, color=PREDICTED, linewidth=1.4, label="predicted")
    axes.plot(*recorded[0], "o", color=RECORDED, markersize=5)
    axes.set_title(f"{title}\nmean error {error_m:.3g} m", fontsize=8)
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=8)
    return _write(figure, path)


def draw_all(
    path: Path, recorded: Sequence[Path2D], predicted: Sequence[Path2D], headings: Sequence[float]
) -> Path:
    """Draw all paths from one point, each turned so that its car begins along x.

    Args:
        path: PNG to write.
        recorded: Positions in the world, m.
        predicted: The same as predicted.
        headings: Of each car at its start, rad.
    """
    figure, axes = _figure(6.0, 6.0)
    for paths, color, label in (
        (recorded, RECORDED, "recorded"),
        (predicted, PREDICTED, "predicted"),
    ):
        for i, (points, start, heading) in enumerate(zip(paths, recorded, headings, strict=True)):
            cos, sin = np.cos(heading), np.sin(heading)
            turned = (points - start[0]) @ np.array([[cos, -sin], [sin, cos]])
            style = {"color": color, "linewidth": 1.0, "alpha": 0.7}
            axes.plot(*turned.T, **style, label=label if i == 0 else None)
    axes.set(title=f"{len(recorded)} trajectories", xlabel="ahead (m)", ylabel="left (m)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=8)
    return _write(figure, path)


def draw_curves(
    path: Path, x: Sequence[float], curves: Mapping[str, Sequence[float | None]], x_label: str
) -> Path:
    """Draw positive values over training, on a logarithmic axis where any is above 0.

    Args:
        path: PNG to write.
        x: Where the values belong.
        curves: Values by name; None leaves a hole.
        x_label: Name of the axis.
    """
    figure, axes = _figure(5.0, 3.2)
    values = {name: np.array(list(v), float) for name, v in curves.items()}
    positive = any(np.any(v > 0) for v in values.values())
    for name, curve in values.items():
        shown = np.where(curve > 0, curve, np.nan) if positive else curve
        axes.plot(np.asarray(x, float), shown, marker=".", linewidth=1.2, label=name)
    if positive:
        axes.set_yscale("log")
    axes.set(xlabel=x_label, ylabel=next(iter(curves)) if len(curves) == 1 else "")
    axes.grid(color="#e3e6eb", linewidth=0.6)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _write(figure, path)


def file_stem(name: str) -> str:
    """A trajectory's name as part of a file name; other characters become ``_``."""
    return re.sub(r"[^\w.#@+-]", "_", str(name))


def _figure(width: float, height: float):
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _write(figure: Figure, path: Path) -> Path:
    with replacing(path) as draft:
        figure.savefig(draft, format="png")
    return path
