"""The slope figure: every seed of two arms joined by a line, pair by pair, none left out."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from steelyard.reports import theme as themes
from steelyard.reports.scales import decimal_ticks
from steelyard.reports.theme import LIGHT, NORMAL, SMALL, Theme
from steelyard.reports.words import number

_HALF = 0.3


@dataclasses.dataclass(frozen=True)
class SlopePair:
    """Two arms of one setting over the same seeds.

    Attributes:
        title: Name of the setting.
        baseline: One positive error a seed; infinite or NaN where the run diverged.
        method: Likewise, in the same order of seeds.
    """

    title: str
    baseline: Float[np.ndarray, " _seed"]
    method: Float[np.ndarray, " _seed"]

    def __post_init__(self):
        if len(self.baseline) != len(self.method):
            raise ValueError(
                f"a slope pair needs one value per seed on both sides, got {len(self.baseline)} "
                f"and {len(self.method)} for {self.title!r}"
            )

    @property
    def finished(self) -> np.ndarray:
        """Which seeds have a number on both sides."""
        return np.isfinite(self.baseline) & np.isfinite(self.method)

    @property
    def ratio(self) -> float | None:
        """Geometric mean of method over baseline; None where no seed has both."""
        if not self.finished.any():
            return None
        ratios = self.method[self.finished] / self.baseline[self.finished]
        return float(np.exp(np.log(ratios).mean()))


def slope_figure(
    pairs: Sequence[SlopePair],
    heading: str,
    baseline: str,
    method: str,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw each pair side by side, on a logarithmic scale.

    A line per seed, falling where the method has the smaller error; a thick one for the geometric
    means, whose ratio stands above. A seed that diverged in one arm ends in a cross at the top.

    Args:
        pairs: At least one, with some finite number in all of them together.
        heading: Label of the scale, with its unit.
        baseline: Name of the left side.
        method: Name of the right side.
        theme: Light or dark.
    """
    figure = themes.new_figure(max(5.0, 1.6 + 1.05 * len(pairs)), 4.6, theme)
    axes = figure.add_subplot()
    themes.style(axes, theme)
    axes.set_yscale("log")
    low, high = _limits(pairs)
    axes.set_ylim(low, high)
    for place, pair in enumerate(pairs):
        _draw(axes, place, pair, high, theme)
    axes.set_xlim(-0.6, len(pairs) - 0.4)
    axes.xaxis.set_major_locator(FixedLocator(range(len(pairs))))
    rotated = len(pairs) > 4
    axes.set_xticklabels(
        [pair.title for pair in pairs],
        rotation=28 if rotated else 0,
        ha="right" if rotated else "center",
        rotation_mode="anchor",
    )
    decimal_ticks(axes.yaxis)
    axes.set_ylabel(heading, fontsize=NORMAL, color=theme.muted)
    themes.heading(
        axes,
        theme,
        f"{baseline} (left) against {method} (right)",
        "Thin line: one seed.  Thick: geometric mean, its ratio above.  ×: diverged.",
        above=14,
    )
    handles = [
        Line2D([], [], color=_colour(rises, theme), linewidth=2, label=f"{method} {word}")
        for rises, word in ((False, "smaller"), (True, "larger"))
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=SMALL,
        labelcolor=theme.ink,
    )
    return figure


def slope_alt(pairs: Sequence[SlopePair], heading: str, baseline: str, method: str) -> str:
    """Say the slope figure in words."""
    parts = [f"Slope chart of {heading}, {baseline} against {method}, a line per seed."]
    for pair in pairs:
        lost = int((~pair.finished).sum())
        text = f"{pair.title}: ratio {number(pair.ratio, 2)} over {int(pair.finished.sum())} seeds"
        parts.append(f"{text}, {lost} diverged." if lost else f"{text}.")
    return " ".join(parts)


def _draw(axes: Axes, place: int, pair: SlopePair, top: float, theme: Theme) -> None:
    """Draw one pair; what is not finite stands at the top."""
    x = [place - _HALF, place + _HALF]
    for seed in range(len(pair.baseline)):
        ends = [pair.baseline[seed], pair.method[seed]]
        shown = [end if np.isfinite(end) else top for end in ends]
        colour = _colour(bool(shown[1] > shown[0]), theme)
        axes.plot(x, shown, color=colour, linewidth=0.9, alpha=0.65, marker="o", markersize=3)
        for side, end in enumerate(ends):
            if not np.isfinite(end):
                axes.plot(x[side], top, "x", color=theme.ink, markersize=7, clip_on=False)
    if pair.ratio is None:
        return
    finished = pair.finished
    means = [
        float(np.exp(np.log(values[finished]).mean())) for values in (pair.baseline, pair.method)
    ]
    colour = _colour(means[1] > means[0], theme)
    axes.plot(x, means, color=colour, linewidth=3, marker="o", markersize=6, zorder=4)
    axes.annotate(
        f"× {pair.ratio:.2f}",
        (place, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=SMALL,
        color=theme.ink,
    )


def _colour(rises: bool, theme: Theme) -> str:
    """Vermilion where the method is larger, blue elsewhere."""
    return theme.palette[1] if rises else theme.palette[0]


def _limits(pairs: Sequence[SlopePair]) -> tuple[float, float]:
    """Limits of the scale, a little beyond the numbers."""
    values = np.concatenate([side for pair in pairs for side in (pair.baseline, pair.method)])
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        got = "none" if not len(values) else f"{values.min()}"
        raise ValueError(f"a slope figure needs positive numbers, got {got}")
    room = max(values.max() / values.min(), 1.5) ** 0.08
    return float(values.min() / room), float(values.max() * room)
