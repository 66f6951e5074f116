import csv
import dataclasses
import io
import json

import pytest
from report_samples import SPEC, record, study

from steelyard.reports import Arm, Metric, Panel, summarise
from steelyard.reports import tables as t


@pytest.fixture(scope="module")
def summary():
    return summarise(study(), SPEC)


def test_text_table_has_the_columns_of_the_reference_in_line(summary):
    lines = t.results_text(summary).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Method"))
    assert lines[head].split()[:5] == ["Method", "Reward", "Training", "vs", "Expert"]
    bc = next(line for line in lines if line.startswith("BC  "))
    cells = [cell.strip() for cell in bc.split("  ") if cell.strip()]
    assert cells[:5] == ["BC", "−110.8", "100 epochs", "0.988", "[0.987, 0.989]"]
    ends = {len(line) for line in lines[head : head + 8] if line}
    assert len(ends) == 1


def test_text_names_comparison_command_versions_seeds_and_limits(summary):
    text = t.results_text(summary)
    for part in (
        "IPMD is worse than BC.",
        "IPMD − BC (demonstrations = 1)",
        "Command: steelyard study run imitation --preset quick",
        "Versions: steelyard 0.1.0, numpy 2.4.6",
        "Seeds: 0, 1, 2, 3, 4",
        "2/seed",
        "Pendulum only.",
        "83 % of cases at 5 seeds",
    ):
        assert part in text


def test_comparisons_in_other_metrics_have_tables_of_their_own_where_they_are_asked_for(summary):
    assert len(t.comparison_tables(summary)) == 1
    spec = dataclasses.replace(SPEC, also_compared=("return",))
    text = t.results_text(summarise(study(), spec))
    assert "Comparison in return" in text
    assert text.count("IPMD − BC (demonstrations = 1)") == 2
    with pytest.raises(ValueError, match="also_compared must name metrics of .*got 'speed'"):
        dataclasses.replace(SPEC, also_compared=("speed",))


def test_csv_is_tidy_and_keeps_axes_as_columns(summary):
    rows = list(csv.DictReader(io.StringIO(t.results_csv(summary))))
    assert len(rows) == 6 * 3
    row = next(r for r in rows if (r["label"], r["metric"]) == ("ipmd[demonstrations=1]", "score"))
    assert (row["arm"], row["demonstrations"], row["seeds"]) == ("ipmd", "1", "5")
    assert float(row["mean"]) == pytest.approx(0.902)
    assert {r["demonstrations"] for r in rows if r["arm"] == "expert"} == {""}


def test_json_keeps_every_return_of_every_run(summary):
    runs = json.loads(t.results_json(study(), summary))["runs"]
    assert len(runs) == 30
    run = next(r for r in runs if (r["arm"], r["seed"]) == ("bc[demonstrations=1]", 2))
    assert run["per_start_returns"] == pytest.approx(
        [-1000 + 900 * 0.402 - 1, -1000 + 900 * 0.402 + 1]
    )


def test_markdown_rows_have_equal_cells_even_with_pipes_in_names():
    arms = (Arm("bc", "BC | clone", role="baseline"), *SPEC.arms[2:])
    summary = summarise(study(), dataclasses.replace(SPEC, arms=arms))
    text = t.results_markdown(summary)
    table = [line for line in text.splitlines() if line.startswith("|")]
    cells = [line.replace("\\|", "").count("|") for line in table]
    assert cells[:8] == [cells[0]] * 8
    assert "BC \\| clone" in text


def test_a_command_with_backticks_stays_code():
    records = [record("bc", 0, 0.5, 10, command="run `date`")]
    assert "- Command: `` run `date` ``" in t.results_markdown(summarise(records, SPEC))


def test_absent_numbers_are_dashes_in_text_and_null_in_json():
    records = [record("bc", s, None, 10, status="diverged") for s in range(2)]
    summary = summarise(records, SPEC)
    row = next(line for line in t.results_text(summary).splitlines() if line.startswith("BC "))
    assert "–" in row
    assert "2 (2 diverged)" in row
    cell = json.loads(t.summary_json(summary))["arms"]["bc"]["score"]
    assert cell == {"mean": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize(("seconds", "text"), [(33.2, "33 s"), (1320.0, "22 min"), (9000, "2.5 h")])
def test_durations_have_the_unit_that_suits_them(seconds, text):
    assert t.duration(seconds) == text


def test_a_panel_holds_the_arms_at_its_axis_values_with_metrics_of_its_own():
    panel = Panel("With one", {"demonstrations": 1}, (Metric("extra", "extra", decimals=1),))
    spec = dataclasses.replace(SPEC, panels=(panel,))
    records = [
        dataclasses.replace(r, metrics={**r.metrics, "extra": 3.0 + r.seed}) for r in study(3)
    ]
    found = summarise(records, spec)
    assert t.panel_tables(found) == [
        (panel, (["Method", "Extra"], [["BC", "4.0"], ["IPMD", "4.0"]]))
    ]
    assert "With one" in t.results_text(found)
    assert "| BC | 4.0 |" in t.results_markdown(found)
    assert json.loads(t.summary_json(found))["arms"]["bc[demonstrations=1]"]["extra"]["mean"] == 4.0
    assert "extra" not in json.loads(t.summary_json(found))["arms"]["bc"]
    assert t.panel_tables(summarise(study(3), spec)) == []
