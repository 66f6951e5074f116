import base64
import html.parser
import io
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from report_samples import SPEC, record, study

from steelyard.reports import Arm, load_records, summarise, write_report, write_results
from steelyard.reports import figures as f
from steelyard.reports import theme as themes
from steelyard.reports.curves import curves_figure
from steelyard.reports.freshness import regenerate
from steelyard.reports.html import report_html

VOID = {"meta", "img", "source"}


class Balance(html.parser.HTMLParser):
    """Records unbalanced tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.attributes, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report(study(), SPEC, folder)


def picture(data):
    return matplotlib.image.imread(io.BytesIO(data), format="png")


def test_report_writes_every_named_file_and_nothing_else(written):
    assert list(written) == [
        "summary.json",
        "results.txt",
        "results.json",
        "results.csv",
        "results.md",
        "comparison.png",
        "curves.png",
        "demonstrations.png",
        "report.html",
    ]
    folder = written["report.html"].parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(written)
    assert all(path.stat().st_size > 100 for path in written.values())


def test_page_is_balanced_and_asks_for_nothing_outside_itself(written):
    page = written["report.html"].read_text()
    parsed = Balance(page)
    assert parsed.open == []
    assert parsed.wrong == []
    links = [v for _, name, v in parsed.attributes if name in ("src", "srcset", "href")]
    assert len(links) == 6
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "script" not in {tag for tag, *_ in parsed.attributes}
    assert not re.search(r"url\(|@import|https?://", page)


def test_page_embeds_the_same_figures_as_the_files(written):
    page = written["report.html"].read_text()
    for name in ("comparison.png", "curves.png", "demonstrations.png"):
        assert base64.b64encode(written[name].read_bytes()).decode() in page


def test_every_figure_has_words_for_those_who_do_not_see_it(written):
    parsed = Balance(written["report.html"].read_text())
    words = [value for _, name, value in parsed.attributes if name == "alt"]
    assert len(words) == 3
    assert "IPMD (demonstrations = 1): 0.902" in words[0]


def test_page_gives_verdict_runs_command_and_glossary(written):
    text = " ".join(Balance(written["report.html"].read_text()).text)
    for part in (
        "IPMD is worse than BC.",
        "IPMD is better than BC (demonstrations = 1).",
        "All 30 runs",
        "steelyard study run imitation --preset quick",
        "0 is random, 1 the expert.",
        "numpy 2.4.6",
        "Two imitators & one expert.",
    ):
        assert part in text


def test_page_escapes_every_text_that_comes_from_outside():
    evil = '<script>alert("x")</script>&'
    records = [
        record("bc", 0, 0.5, axes={"quality": evil}, notes=(evil,), command=evil, hardware=evil,
               run_id=evil, versions={evil: evil}),
        record(evil, 1, 0.5),
    ]  # fmt: skip
    summary = summarise(records, SPEC)
    page = report_html(records, summary, [])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7
    assert Balance(page).wrong == []


def test_colours_belong_to_arms_and_not_to_the_runs_present():
    for theme in (themes.LIGHT, themes.DARK):
        colours = [themes.colour(SPEC, arm.name, theme) for arm in SPEC.arms]
        assert len(set(colours)) == len(colours)
        assert colours[0] in theme.anchors
        assert colours[1] == theme.palette[0]


@pytest.mark.parametrize("kind", ["protan", "deutan"])
@pytest.mark.parametrize("theme", [themes.LIGHT, themes.DARK])
def test_neighbouring_colours_stay_apart_for_the_colour_blind(kind, theme):
    # Viénot, Brettel & Mollon 1999, in linear RGB.
    matrix = {
        "protan": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
        "deutan": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    }[kind]
    rgb = np.array([matplotlib.colors.to_rgb(c) for c in theme.palette])
    seen = np.clip(rgb**2.2 @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 0.14


def test_bars_dots_and_intervals_stand_at_the_numbers_of_the_summary():
    summary = summarise(study(), SPEC)
    axes = f.comparison_figure(summary).axes[0]
    widths = [patch.get_width() for patch in axes.patches]
    assert widths == pytest.approx([arm.means["score"].value for arm in summary.arms])
    dots = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in axes.collections
                           if len(c.get_offsets()) > 1])  # fmt: skip
    expected = [v for arm in summary.arms for v in arm.values["score"].values()]
    assert dots == pytest.approx(expected)


def test_axis_figure_appears_only_where_an_axis_varies(tmp_path):
    summary = summarise(study(), SPEC)
    assert f.varying_axes(summary) == ["demonstrations"]
    lines = {
        line.get_label(): line for line in f.axis_figure(summary, "demonstrations").axes[0].lines
    }
    assert lines["BC"].get_ydata() == pytest.approx([0.402, 0.988])
    assert lines["IPMD"].get_ydata() == pytest.approx([0.902, 0.978])
    fixed = [r for r in study(2) if r.axes != {"demonstrations": 1}]
    assert "demonstrations.png" not in write_report(fixed, SPEC, tmp_path)


def test_mean_curve_is_drawn_where_all_seeds_have_points():
    records = [record("ipmd", s, 1.0, 10) for s in range(2)]
    panels = curves_figure(records, summarise(records, SPEC)).axes
    means = [next(line for line in panel.lines if line.get_linewidth() == 2) for panel in panels]
    assert list(means[0].get_xdata()) == [1000, 2000]
    assert means[0].get_ydata() == pytest.approx([0.5, 1.0])
    # Seed 0 runs from 10 to 20 s, seed 1 from 11 to 21 s.
    assert list(means[1].get_xdata()) == [11, 20]
    assert means[1].get_ydata() == pytest.approx([(0.55 + 0.5) / 2, (1.0 + 0.95) / 2])


@pytest.mark.parametrize(
    "records",
    [
        [record("bc", 0, 0.5, 10)],
        [record("bc", 0, None, 10, status="diverged", curve=())],
        [record("unlisted", s, float("nan"), axes={"quality": "half"}) for s in range(2)],
        [record(a, s, v, axes={"quality": q}) for a in ("bc", "ipmd") for s in range(2)
         for q, v in (("expert", 0.9), ("half random", -3.0))],
    ],
    ids=["one run", "only a diverged run", "unlisted arm without numbers", "axis of words"],
)  # fmt: skip
def test_partial_studies_still_make_a_whole_report(records, tmp_path):
    written = write_report(records, SPEC, tmp_path)
    for name in ("comparison.png", "curves.png"):
        assert picture(written[name].read_bytes()).std() > 0.01
    assert "Missing" in written["results.txt"].read_text()


def test_a_report_is_the_same_bytes_again(tmp_path, written):
    again = write_report(study(), SPEC, tmp_path)
    for name, path in written.items():
        assert path.read_bytes() == again[name].read_bytes(), name


def test_check_passes_on_fresh_results_and_fails_on_stale_ones(tmp_path):
    written = write_results(study(2), SPEC, tmp_path / "imitation" / "quick")
    assert load_records(written["raw.jsonl"]) == study(2)
    assert regenerate(tmp_path, check=True) == []
    summary = written["summary.json"]
    fresh = summary.read_text()
    summary.write_text(fresh.replace('"preset": "quick"', '"preset": "full"'))
    (summary.parent / "results.csv").write_text("old")
    assert [p.name for p in regenerate(tmp_path, check=True)] == ["summary.json", "results.csv"]
    assert summary.read_text() != fresh
    regenerate(tmp_path)
    assert summary.read_text() == fresh
    assert regenerate(tmp_path, check=True) == []


def test_check_names_what_is_absent(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no raw\.jsonl at or below"):
        regenerate(tmp_path)
    written = write_results(study(1), SPEC, tmp_path)
    written["report_spec.json"].unlink()
    with pytest.raises(FileNotFoundError, match=r"needs report_spec\.json beside it"):
        regenerate(tmp_path)


def test_the_command_exits_with_one_on_stale_results(tmp_path):
    written = write_results(study(1), SPEC, tmp_path)
    written["summary.json"].write_text("{}")
    command = [sys.executable, "-m", "steelyard.reports", "--check", str(tmp_path)]
    stale = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    assert f"stale: {written['summary.json']}" in stale.stdout
    assert "run: python -m steelyard.reports" in stale.stderr


def test_unlisted_arms_show_under_their_own_name():
    assert SPEC.arm("new") == Arm("new", "new")
