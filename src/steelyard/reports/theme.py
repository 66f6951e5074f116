"""Colours and lines of the figures: one colour an arm in all of them, safe for the colour-blind."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from steelyard.reports.model import ArmSummary
from steelyard.reports.spec import Line, StudyReport

DPI = 160
SMALL, NORMAL, LARGE = 8.5, 9.5, 12.0


@dataclasses.dataclass(frozen=True)
class Theme:
    """The colours of a figure on a light or a dark page.

    Attributes:
        surface: Background.
        ink: Titles, values and interval lines.
        muted: Secondary text.
        grid: Grid lines and the axis line.
        palette: Colours of methods, baselines and controls in the order of the spec; Okabe and
            Ito's (2008) hues, which stay apart in all common forms of colour blindness.
        anchors: Greys of the arms that only give the scale.
    """

    surface: str
    ink: str
    muted: str
    grid: str
    palette: tuple[str, ...]
    anchors: tuple[str, ...]


LIGHT = Theme(
    surface="#ffffff",
    ink="#1d2430",
    muted="#5d6675",
    grid="#e3e6eb",
    palette=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    anchors=("#9aa3af", "#4a5260"),
)
DARK = Theme(
    surface="#171b22",
    ink="#e8ebf0",
    muted="#9ba5b4",
    grid="#2c333e",
    palette=("#4aa8e8", "#f2803d", "#2fc498", "#e191c3", "#efbb3f", "#9fd6f7"),
    anchors=("#6d7786", "#b9c2cf"),
)
LineStyle = str | tuple[int, tuple[float, ...]]
DASHES: tuple[LineStyle, ...] = (
    "solid",
    (0, (4.0, 1.6)),
    (0, (1.0, 1.4)),
    (0, (5.0, 1.4, 1.0, 1.4)),
)


def colour(spec: StudyReport, arm: str, theme: Theme) -> str:
    """Return the colour of an arm; it depends on the spec alone, not on which arms have runs."""
    grey = spec.arm(arm).role == "anchor"
    names = [a.name for a in spec.arms if (a.role == "anchor") == grey]
    place = names.index(arm) if arm in names else len(names)
    choices = theme.anchors if grey else theme.palette
    return choices[place % len(choices)]


def dashes(arm: ArmSummary, arms: Sequence[ArmSummary]) -> LineStyle:
    """Return the line style of an arm: solid first, another for each further axis value."""
    siblings = [other.label for other in arms if other.arm == arm.arm]
    return DASHES[siblings.index(arm.label) % len(DASHES)]


def blend(front: str, back: str, share: float) -> tuple[float, float, float]:
    """Mix two colours; opaque, so that no grid line shows through."""
    mixed = share * np.array(to_rgb(front)) + (1 - share) * np.array(to_rgb(back))
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """Make a figure of the given size in inches that no global state knows of."""
    figure = Figure(
        figsize=(width, height),
        dpi=DPI,
        layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1),
        facecolor=theme.surface,
    )
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, theme: Theme, grid: str = "y") -> None:
    """Leave of the frame what helps reading: a base line and a light grid."""
    axes.set_facecolor(theme.surface)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)
    axes.tick_params(colors=theme.muted, labelsize=SMALL, length=0, pad=5)
    axes.grid(axis=grid, color=theme.grid, linewidth=0.8)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)


def heading(axes: Axes, theme: Theme, title: str, subtitle: str, above: int = 0) -> None:
    """Write a title, under it what the marks mean, ``above`` points over the axes."""
    axes.set_title(
        title,
        loc="left",
        fontsize=LARGE,
        fontweight="bold",
        color=theme.ink,
        pad=24 + above,
    )
    note = axes.annotate(
        subtitle,
        (0, 1),
        xytext=(0, 9 + above),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=SMALL,
        color=theme.muted,
    )
    note.set_in_layout(False)  # else a long subtitle would narrow the panels


def levels(
    axes: Axes, lines: Sequence[Line], theme: Theme, vertical: bool, named: bool = True
) -> None:
    """Draw the levels that give the primary metric its meaning, with their names."""
    for line in lines:
        draw = axes.axvline if vertical else axes.axhline
        draw(float(line.value), color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        if named and vertical:
            place, coords, offset = (line.value, 1), ("data", "axes fraction"), (0, 3)
        elif named:
            place, coords, offset = (1, line.value), ("axes fraction", "data"), (5, 0)
        else:
            continue
        axes.annotate(
            line.title,
            place,
            xycoords=coords,
            xytext=offset,
            textcoords="offset points",
            ha="center" if vertical else "left",
            va="bottom" if vertical else "center",
            color=theme.muted,
            fontsize=SMALL,
        )


def sentence(text: str) -> str:
    """Begin a text with a capital letter, leaving the others as they are."""
    return text[:1].upper() + text[1:]


def tick_text(value: float, _: object) -> str:
    """Write a tick: thousands separated, a true minus sign, no trailing zeros."""
    text = f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"
    return (text if text not in ("-0", "") else "0").replace("-", "−")


def png(figure: Figure, alt: str = "") -> bytes:
    """Render a figure; the bytes depend on nothing but its content."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None, "Description": alt})
    return file.getvalue()
