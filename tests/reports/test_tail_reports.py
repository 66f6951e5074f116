import dataclasses
import json
import pathlib

import pytest
from report_samples import SPEC as PLAIN
from report_samples import study as plain_study
from tail_samples import SPEC, arm, run, study
from test_report_files import Balance

from steelyard.reports import (
    dump_spec,
    load_spec,
    summarise,
    write_report,
    write_results,
)
from steelyard.reports.freshness import regenerate
from steelyard.reports.html import report_html
from steelyard.reports.report import texts
from steelyard.reports.tables import results_markdown, results_text, summary_json
from steelyard.reports.tail_figures import tail_drawings
from steelyard.reports.theme import LIGHT, png
from steelyard.reports.words import headline

FIGURES = ["slopes.png", "exceedance_wood.png", "quantile_ratio.png", "frontier.png"]
COMMITTED = pathlib.Path(__file__).parents[2] / "results" / "imitation"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_report(study(), SPEC, tmp_path_factory.mktemp("tails"))


@pytest.fixture(scope="module")
def page(written):
    return written["report.html"].read_text()


def test_the_report_has_the_figures_of_tails_beside_the_others(written):
    assert [name for name in written if name.endswith(".png")] == [
        "comparison.png", "curves.png", "floor.png", *FIGURES,
    ]  # fmt: skip
    folder = written["report.html"].parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(written)


def test_the_summary_says_all_about_tails(written):
    content = json.loads(written["summary.json"].read_text())
    first = content["tails"][0]
    assert {k: first[k] for k in ("arm", "baseline", "title", "declared", "outcome")} == {
        "arm": "sharp", "baseline": "mean", "title": "Sharp", "declared": True,
        "outcome": "success",
    }  # fmt: skip
    assert first["tail"] == {
        "ratio": 0.5, "low": 0.5, "high": 0.5, "n": 6, "per_seed": [0.5] * 6,
    }  # fmt: skip
    assert (first["p_value"], first["p_holm"], first["least_p"]) == (0.03125, 0.0625, 0.03125)
    assert first["failures"]["arm"] == {"runs": 0, "of": 6, "low": 0.0, "high": 0.390334}
    mean = content["tail_arms"]["mean"]
    assert (mean["items"], mean["max"], mean["max_over_min"]) == (10, 15.0, 1.5)
    assert mean["p95_ci"] == "not estimable (n=10 < 73)"
    assert set(mean["cvar20"]) == {"mean", "low", "high", "n"}
    assert content["tail_interval"]["draws"] == {"ratios": 10000, "arms": 2000}


@pytest.mark.parametrize(
    ("factor", "claim"),
    [
        (0.5, "Sharp: better tail at acceptable cost."),
        (1.0, "Sharp: no difference shown."),
        (1.2, "Sharp: worse tail."),
    ],
)
def test_the_verdict_is_printed_plainly_whatever_it_is(factor, claim):
    spec = dataclasses.replace(SPEC, tails=SPEC.tails[:1])
    found = summarise(arm("mean", 1.0) + arm("sharp", factor), spec)
    assert headline(found)[0] == claim
    for text in (results_text(found), results_markdown(found)):
        assert claim in text
        assert f"Tail × {factor:.3f} [{factor:.3f}, {factor:.3f}], mean × {factor:.3f}" in text
        assert "6 paired seeds; sign-flip p = " in text


def test_a_verdict_says_how_often_the_method_diverged():
    records = [r for r in study() if (r.arm, r.seed) != ("sharp", 0)]
    records.append(run("sharp", 0, (), status="diverged"))
    text = results_text(summarise(records, SPEC))
    assert "Sharp: the method diverges more often." in text
    assert "diverged runs 1 against 0" in text
    assert "1 / 0 of 6" in text
    assert "1 of 6 [3 %, 56 %]" in text


def test_text_holds_both_tables_and_how_to_read_them(written):
    text = written["results.txt"].read_text()
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("Setting"))
    cells = [cell.strip() for cell in head.split("  ") if cell.strip()]
    assert cells == [
        "Setting", "Tail ratio", "95 %", "p (Holm)", "Mean ratio", "95 %", "Diverged", "Pairs",
        "Verdict",
    ]  # fmt: skip
    assert any(line.startswith("Sharp (floor = felt)") and "(exploratory)" in line
               for line in lines)  # fmt: skip
    for part in (
        "not estimable (n=10 < 73)",
        "10,000 draws",
        "those of single arms are 2,000 draws",
        "Tail 0.5 / Mean loss: better tail at acceptable cost.",
        "(Holm; 2 here)",
        "Pushes",
    ):
        assert part in text
    assert "Episodes" not in text


def test_the_page_shows_verdicts_tables_and_figures_of_tails(page):
    parsed = Balance(page)
    assert parsed.open == []
    assert parsed.wrong == []
    assert '<div class="verdict better">' in page
    assert "Tails of the errors over pushes" in " ".join(parsed.text)
    words = [value for _, name, value in parsed.attributes if name == "alt"]
    assert len(words) == 3 + len(FIGURES)
    assert "Sharp: ratio 0.50 over 6 seeds." in " ".join(words)
    assert page.count('media="(prefers-color-scheme: dark)"') == len(words)
    section = page[page.index("Tails of the errors") : page.index("<h2>Results</h2>")]
    assert section.count("<figure>") == len(FIGURES)


def test_texts_about_tails_are_escaped():
    evil = "<script>x</script>"
    tails = (dataclasses.replace(SPEC.tails[0], title=evil),)
    spec = dataclasses.replace(SPEC, tails=tails, item=evil, item_heading=evil, frontier=())
    records = study()
    assert "<script" not in report_html(records, summarise(records, spec), [])


def test_figures_without_a_finished_run_or_a_positive_error_are_left_out():
    lost = [run(name, s, (), status="diverged") for name in ("mean", "sharp") for s in range(2)]
    assert tail_drawings(summarise(lost, SPEC)) == {}
    zero = [run(name, s, range(9)) for name in ("mean", "sharp") for s in range(2)]
    assert list(tail_drawings(summarise(zero, SPEC))) == [
        "slopes.png", "exceedance_wood.png", "frontier.png",
    ]  # fmt: skip


def test_figures_follow_the_spec():
    summary = summarise(study(), dataclasses.replace(SPEC, frontier=(), tails=SPEC.tails[:1]))
    drawings = tail_drawings(summary)
    assert list(drawings) == FIGURES[:3]
    assert "Mean loss against Tail 0.2" in drawings["slopes.png"].alt
    assert "Huber: 50 % above" in drawings["exceedance_wood.png"].alt


def test_a_report_about_tails_is_the_same_bytes_again(written):
    records = list(reversed(study()))
    summary = summarise(records, SPEC)
    for name, text in texts(records, summary).items():
        if name != "results.json":
            assert written[name].read_text() == text, name
    drawing = tail_drawings(summary)["quantile_ratio.png"]
    assert written["quantile_ratio.png"].read_bytes() == png(drawing.make(LIGHT), drawing.alt)


def test_check_covers_the_tails(tmp_path):
    records = arm("mean", 1.0, 2) + arm("sharp", 0.5, 2)
    written = write_results(records, SPEC, tmp_path / "pushes" / "quick")
    assert load_spec(written["report_spec.json"]) == SPEC
    summary = written["summary.json"]
    fresh = summary.read_text()
    summary.write_text(fresh.replace('"outcome": "preliminary"', '"outcome": "success"'))
    assert regenerate(tmp_path, check=True) == [summary]
    regenerate(tmp_path)
    assert summary.read_text() == fresh
    assert regenerate(tmp_path, check=True) == []


def test_a_study_without_tails_says_nothing_about_them(tmp_path):
    summary = summarise(plain_study(), PLAIN)
    assert summary.tails is None
    assert tail_drawings(summary) == {}
    assert "tail" not in summary_json(summary)
    assert "Episodes" in results_text(summary)
    fields = json.loads(dump_spec(PLAIN, tmp_path / "report_spec.json").read_text())
    assert not {"tails", "item", "item_heading", "frontier", "controls"} & set(fields)


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*/report_spec.json")), ids=str)
def test_specs_committed_before_there_were_tails_are_written_with_the_same_content(path, tmp_path):
    written = dump_spec(load_spec(path), tmp_path / "x.json").read_text("utf-8")
    assert json.loads(written) == json.loads(path.read_text("utf-8"))
