import io

import matplotlib.image
import numpy as np
import pytest

from steelyard.numerics.log_ratios import Band, Ratio
from steelyard.numerics.statistics import Estimate
from steelyard.reports import exceedance, frontier, quantile_ratio, selection, slopes
from steelyard.reports.sensitivity import HEAD, SensitivityRow, sensitivity_table
from steelyard.reports.theme import DARK, LIGHT, png


def errors(seed, seeds=4, items=60):
    return np.exp(np.random.default_rng(seed).normal(size=(seeds, items)))


def point(label, mean, tail, half=0.1):
    return frontier.FrontierPoint(
        label, Estimate(mean, mean - half, mean + half, 5), Estimate(tail, None, None, 1)
    )


PAIRS = [
    slopes.SlopePair("one", np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 2.0])),
    slopes.SlopePair("two", np.array([1.0, 2.0, 3.0]), np.array([2.0, np.inf, 6.0])),
]
ARMS = {"Mean": errors(0), "Tail": errors(1)}
COUNTS = np.array([0, 30, 10, 60])
BAND = quantile_ratio.ratio_band(0.5 * errors(0), errors(0))
POINTS = [point("α 1", 1.0, 4.0), point("α 0.5", 1.2, 3.0), point("α 0.2", 1.5, 2.5)]
DRAWN = {
    "slopes": (
        lambda theme: slopes.slope_figure(PAIRS, "Error (m)", "Mean", "Tail", theme),
        slopes.slope_alt(PAIRS, "the error", "Mean", "Tail"),
    ),
    "exceedance": (
        lambda theme: exceedance.exceedance_figure(ARMS, "Error (m)", theme),
        exceedance.exceedance_alt(ARMS, "the error"),
    ),
    "quantile ratio": (
        lambda theme: quantile_ratio.quantile_ratio_figure(BAND, "Mean", "Tail", theme),
        quantile_ratio.quantile_ratio_alt(BAND, "Mean", "Tail"),
    ),
    "frontier": (
        lambda theme: frontier.frontier_figure(
            POINTS, "Mean (m)", "Tail (m)", [point("control", 1.4, 3.8)], theme
        ),
        frontier.frontier_alt(POINTS, [point("control", 1.4, 3.8)]),
    ),
    "selection": (
        lambda theme: selection.selection_figure(COUNTS, "trajectories", theme),
        selection.selection_alt(COUNTS, "trajectories", "abcd"),
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_each_figure_renders_on_light_and_dark_pages_and_twice_to_the_same_bytes(name):
    draw, alt = DRAWN[name]
    light, dark = png(draw(LIGHT), alt), png(draw(DARK), alt)
    assert light == png(draw(LIGHT), alt)
    for data, bright in ((light, True), (dark, False)):
        image = matplotlib.image.imread(io.BytesIO(data), format="png")[..., :3]
        assert image.std() > 0.02
        assert (image.mean() > 0.5) == bright


@pytest.mark.parametrize("name", DRAWN)
def test_each_figure_has_words_with_its_numbers(name):
    words = DRAWN[name][1]
    expected = {
        "slopes": ["one: ratio 0.50 over 3 seeds.", "two: ratio 2.00 over 2 seeds, 1 diverged."],
        "exceedance": ["Mean: 50 % above", "Tail: 50 % above", "5 % above"],
        "quantile ratio": ["0.50 [0.50, 0.50] at 95 %"],
        "frontier": ["α 0.5: mean 1.200 [1.100, 1.300], tail 3.000 –", "control: mean 1.400"],
        "selection": ["hold 100 %, 1 were never selected", "d (60), b (30), c (10)"],
    }[name]
    for part in expected:
        assert part in words


def test_slopes_join_the_two_values_of_every_seed():
    axes = slopes.slope_figure(PAIRS, "Error", "Mean", "Tail").axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.9]
    assert len(thin) == 6
    assert [list(line.get_ydata()) for line in thin[:3]] == [[1.0, 0.5], [2.0, 1.0], [4.0, 2.0]]
    assert thin[0].get_color() == LIGHT.palette[0]
    assert thin[3].get_color() == LIGHT.palette[1]
    thick = [line for line in axes.lines if line.get_linewidth() == 3]
    assert list(thick[0].get_ydata()) == pytest.approx([2.0, 1.0])
    assert list(thick[1].get_ydata()) == pytest.approx([3**0.5, 12**0.5])
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [float(line.get_ydata()[0]) for line in crosses] == [axes.get_ylim()[1]]


def test_exceedance_lines_fall_from_all_to_none_at_the_shares_of_the_data():
    axes = exceedance.exceedance_figure(ARMS, "Error").axes[0]
    for line, values in zip(axes.lines, ARMS.values(), strict=True):
        x, y = line.get_xdata(), line.get_ydata()
        assert y == pytest.approx([(values > t).mean() for t in x])
        assert np.all(np.diff(y) <= 0)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_an_infinite_error_keeps_its_line_above_zero():
    values = errors(0)
    values[:, 0] = np.inf
    axes = exceedance.exceedance_figure({"x": values}, "Error").axes[0]
    assert min(axes.lines[0].get_ydata()) == pytest.approx(1 / 60)
    assert "1 % above inf" in exceedance.exceedance_alt({"x": values}, "the error")


def test_quantile_ratio_curve_stands_at_the_ratios():
    axes = quantile_ratio.quantile_ratio_figure(BAND, "Mean", "Tail").axes[0]
    curve = next(line for line in axes.lines if line.get_linewidth() == 2.2)
    assert list(curve.get_xdata()) == list(quantile_ratio.LEVELS)
    assert curve.get_ydata() == pytest.approx(0.5)
    low, high = axes.get_ylim()
    assert low < 0.5
    assert low * high == pytest.approx(1.0)


def test_frontier_joins_the_settings_in_order_and_leaves_controls_apart():
    figure = frontier.frontier_figure(POINTS, "Mean", "Tail", [point("control", 1.4, 3.8)])
    joined, *marks = figure.axes[0].lines
    assert list(joined.get_xdata()) == [1.0, 1.2, 1.5]
    assert list(joined.get_ydata()) == [4.0, 3.0, 2.5]
    assert [mark.get_marker() for mark in marks] == ["s", "o", "o", "D"]


def test_selection_counts_are_ranked():
    axes = selection.selection_figure(COUNTS, "trajectories").axes[0]
    assert list(axes.lines[0].get_ydata()) == [60, 30, 10, 0]
    assert axes.lines[1].get_ydata()[0] == 25


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: slopes.SlopePair("x", np.ones(2), np.ones(3)), "got 2 and 3 for 'x'"),
        (lambda: slopes.slope_figure([slopes.SlopePair("x", np.zeros(2), np.ones(2))], "", "", ""),
         "positive numbers, got 0.0"),
        (lambda: exceedance.exceedance_figure({}, "m"), "at least one arm, got none"),
        (lambda: exceedance.exceedance_figure({"x": np.zeros((2, 3))}, "m"), "above 0, got none"),
        (lambda: quantile_ratio.quantile_ratio_figure(
            Band(np.ones(3), np.ones(3), np.ones(3)), "a", "b"), "95 points .* got 3"),
        (lambda: frontier.frontier_figure([], "m", "t"), "at least one point, got none"),
        (lambda: selection.selection_figure(np.zeros(3, int), "items"), "not all 0, got 0 to 0"),
    ],
)  # fmt: skip
def test_figures_refuse_what_they_cannot_show(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_sensitivity_table_adjusts_the_declared_family_and_no_other_row():
    def ratio(value, p):
        return Ratio(Estimate(value, value - 0.1, value + 0.1, 10), (value,) * 10, p, 0.002)

    rows = [
        SensitivityRow("base", ratio(0.8, 0.01), ratio(1.0, 0.5), 10),
        SensitivityRow("long", ratio(1.0, 0.04), ratio(1.0, 0.5), 10, (1, 2)),
        SensitivityRow("other", ratio(1.3, 0.01), ratio(1.0, 0.5), 10, declared=False),
    ]
    head, table = sensitivity_table(rows)
    assert head == HEAD
    assert all(len(row) == len(head) for row in table)
    assert [row[3] for row in table] == ["0.02", "0.04", "–"]
    assert [row[6] for row in table] == ["0 / 0 of 10", "1 / 2 of 10", "0 / 0 of 10"]
    assert [row[7] for row in table] == [
        "Better tail at acceptable cost", "No difference shown", "Worse tail (exploratory)",
    ]  # fmt: skip
