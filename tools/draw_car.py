"""Draw the car of ``car-mujoco`` from its own numbers, with dimensions: ``docs/figures/car.svg``.

``--check`` only compares the committed picture with what would be drawn.
"""

import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch
from matplotlib.transforms import Affine2D

from steelyard.envs.car.scene import MUSHR, STEER_LIMIT, CarParameters

TARGET = Path(__file__).resolve().parent.parent / "docs" / "figures" / "car.svg"
INK, MUTED, BODY, TYRE, ACCENT = "#1d2430", "#5d6675", "#dbe7f2", "#4a5260", "#d55e00"
STEERING = 0.3
TITLE = "The 1/10 car of car-mujoco, with its dimensions"


def drawing(car: CarParameters) -> str:
    """The picture as SVG text; millimetres."""
    with mpl.rc_context({"svg.hashsalt": "car", "svg.fonttype": "path", "font.size": 8.5}):
        figure = Figure(figsize=(8.6, 3.3))
        figure.patch.set_facecolor("white")
        above, beside = figure.subplots(1, 2)
        _from_above(above, car)
        _from_the_side(beside, car)
        figure.subplots_adjust(left=0.005, right=0.995, top=0.93, bottom=0.01, wspace=0.02)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    root = next(i for i, line in enumerate(lines) if line.startswith("<svg"))
    lines[root] = lines[root].replace("<svg", '<svg role="img" aria-labelledby="t d"', 1)
    lines[root + 1 : root + 1] = [
        f' <title id="t">{TITLE}</title>',
        f' <desc id="d">{in_words(car)}</desc>',
    ]
    return "\n".join(lines) + "\n"


def in_words(car: CarParameters) -> str:
    """The picture in words, for those who do not see it."""
    mass = car.base_mass + car.camera_mass + car.lidar_mass + car.steering_mass
    return (
        "Seen from above: four wheels, the front ones turned to the left, the left one further. "
        "The tracked point lies between the axles on the centre line, "
        f"{1e3 * car.rear_axle:.0f} mm ahead of the rear and {1e3 * car.front_axle:.1f} mm behind "
        f"the front axle (wheelbase {1e3 * (car.front_axle + car.rear_axle):.1f} mm, track "
        f"{1e3 * car.track:.0f} mm). From it, vx points forward, vy to the left, and the yaw rate "
        f"turns to the left. Steering is within {STEER_LIMIT} rad to either side. Seen from the "
        f"side: wheels of {1e3 * car.wheel_radius:.1f} mm radius and {car.wheel_mass} kg each, a "
        f"base of {car.base_mass} kg, a camera of {car.camera_mass:.3f} kg and a lidar of "
        f"{car.lidar_mass:.3f} kg on it, {mass + 4 * car.wheel_mass:.2f} kg in all."
    )


def _from_above(axes: Axes, car: CarParameters) -> None:
    front, rear, half = 1e3 * car.front_axle, -1e3 * car.rear_axle, 500 * car.track
    length, width = 2e3 * car.wheel_radius, 2e3 * car.wheel_half_width
    _box(axes, 1e3 * car.base_centre[0], 0.0, *(1e3 * np.array(car.base_half_size[:2])))
    for x in (front, rear):
        axes.plot([x, x], [-half, half], color=MUTED, lw=1)
    for side in (1.0, -1.0):
        angle = np.arctan(np.tan(STEERING) / (1.0 - side * car.ackermann * np.tan(STEERING)))
        for x, turned in ((front, angle), (rear, 0.0)):
            wheel = Ellipse((0, 0), length, width, facecolor=TYRE, edgecolor=INK, lw=0.8)
            place = Affine2D().rotate(turned).translate(x, side * half)
            wheel.set_transform(place + axes.transData)
            axes.add_patch(wheel)
    _point(axes, 0.0, 0.0)
    axes.annotate("", (85, 0), (0, 0), arrowprops={"arrowstyle": "->", "color": ACCENT, "lw": 1.4})
    axes.annotate("", (0, 62), (0, 0), arrowprops={"arrowstyle": "->", "color": ACCENT, "lw": 1.4})
    axes.text(88, -3, "$v_x$", color=ACCENT, va="center")
    axes.text(6, 60, "$v_y$", color=ACCENT, va="center")
    axes.annotate(
        "", (26, 34), (38, -16),
        arrowprops={"arrowstyle": "->", "color": ACCENT, "connectionstyle": "arc3,rad=0.5"},
    )  # fmt: skip
    axes.text(47, 16, r"$\omega$", color=ACCENT, va="center")
    reach = front + 105
    axes.plot([front, reach], [half, half], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    inner = np.arctan(np.tan(STEERING) / (1.0 - car.ackermann * np.tan(STEERING)))
    arc = np.linspace(0.0, inner, 20)
    axes.plot(front + 85 * np.cos(arc), half + 85 * np.sin(arc), color=ACCENT, lw=1.2)
    end = np.array([front, half]) + 100 * np.array([np.cos(inner), np.sin(inner)])
    axes.plot([front, end[0]], [half, end[1]], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    axes.text(front + 93, half + 15, r"$\delta_\mathrm{left}$", color=ACCENT, va="center")
    _dimension(axes, (rear, -half - 62), (0.0, -half - 62), f"{-rear:.0f}")
    _dimension(axes, (0.0, -half - 62), (front, -half - 62), f"{front:.1f}")
    _dimension(axes, (rear, -half - 98), (front, -half - 98), f"wheelbase {front - rear:.1f} mm")
    _dimension(axes, (rear - 88, -half), (rear - 88, half), f"track {2 * half:.0f} mm")
    limit = f"|δ| ≤ {STEER_LIMIT} rad"
    axes.text(front + 62, -half + 10, limit, color=MUTED, ha="left", va="center")
    _frame(axes, "from above", (-300, 320), (-250, 190))


def _from_the_side(axes: Axes, car: CarParameters) -> None:
    front, rear, radius = 1e3 * car.front_axle, -1e3 * car.rear_axle, 1e3 * car.wheel_radius
    mass = car.base_mass + car.camera_mass + car.lidar_mass + car.steering_mass
    axes.axhline(0.0, color=INK, lw=1)
    half = 1e3 * np.array(car.base_half_size)
    _box(axes, 1e3 * car.base_centre[0], radius + 1e3 * car.base_centre[2], half[0], half[2])
    for centre, size in ((car.camera_centre, (12, 12)), (car.lidar_centre, (35, 20))):
        _box(axes, 1e3 * centre[0], radius + 1e3 * centre[2], *size)
    for x in (front, rear):
        axes.add_patch(
            Ellipse((x, radius), 2 * radius, 2 * radius, facecolor=TYRE, edgecolor=INK, lw=0.8)
        )
    _point(axes, 0.0, radius)
    _label(axes, "lidar 0.180 kg", (1e3 * car.lidar_centre[0], 175), (-150, 205))
    _label(axes, "camera 0.072 kg", (1e3 * car.camera_centre[0], 139), (135, 190))
    _label(axes, f"base {car.base_mass} kg", (-150, radius + 35), (-235, 140))
    _label(axes, f"wheels 4 × {car.wheel_mass} kg", (front + 25, 25), (190, -45))
    _label(axes, "tracked point", (0.0, radius), (0.0, -45))
    _dimension(axes, (rear - 72, 0.0), (rear - 72, radius), "")
    axes.text(rear - 80, radius / 2, f"{radius:.1f} mm", color=INK, ha="right", va="center")
    axes.text(
        0.0,
        -112,
        f"total {mass + 4 * car.wheel_mass:.2f} kg",
        color=INK,
        ha="center",
        weight="bold",
    )
    _frame(axes, "from the side", (-320, 320), (-190, 250))


def _box(axes: Axes, x: float, y: float, half_x: float, half_y: float) -> None:
    style = {"facecolor": BODY, "edgecolor": INK, "lw": 0.9}
    corner, rounded = (x - half_x, y - half_y), "round,pad=0,rounding_size=6"
    axes.add_patch(FancyBboxPatch(corner, 2 * half_x, 2 * half_y, boxstyle=rounded, **style))


def _point(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], marker="o", ms=5, color=ACCENT, zorder=5)


def _label(axes: Axes, text: str, at: tuple[float, float], place: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "color": MUTED, "lw": 0.7}
    axes.annotate(text, at, place, color=INK, ha="center", va="center", arrowprops=line)


def _dimension(axes: Axes, start: tuple, end: tuple, text: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "<->", "color": MUTED, "lw": 0.8,
                                              "shrinkA": 0, "shrinkB": 0})  # fmt: skip
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    upright = start[0] == end[0]
    axes.text(
        x, y, text, color=INK, ha="center", va="center", rotation=90 if upright else 0,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
    )  # fmt: skip


def _frame(axes: Axes, title: str, across: tuple[float, float], up: tuple[float, float]) -> None:
    axes.set_xlim(across)
    axes.set_ylim(up)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, color=MUTED, fontsize=9)


if __name__ == "__main__":
    picture = drawing(MUSHR)
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text() == picture else f"{TARGET} is stale; run {sys.argv[0]}")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(picture)
