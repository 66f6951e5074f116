import dataclasses
import json

import pytest
from report_samples import SPEC, record, study

from steelyard.reports import dump_records, dump_spec, label, load_records, load_spec
from steelyard.reports.files import write_atomic
from steelyard.reports.records import validate
from steelyard.reports.schema import SchemaError


def write_line(path, **changes):
    dump_records([record("bc", 0, 0.5, 10)], path)
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not ...}))
    return path


def test_records_survive_writing_and_reading(tmp_path):
    records = study(2)
    assert load_records(dump_records(records, tmp_path / "deep" / "raw.jsonl")) == records


def test_spec_survives_writing_and_reading(tmp_path):
    assert load_spec(dump_spec(SPEC, tmp_path / "report_spec.json")) == SPEC


def test_numbers_that_are_not_finite_are_written_and_read_as_null(tmp_path):
    broken = record("bc", 0, 0.5, 10, metrics={"score": float("nan"), "return": float("-inf")})
    path = dump_records([broken], tmp_path / "raw.jsonl")
    assert "NaN" not in path.read_text()
    assert load_records(path)[0].metrics == {"score": None, "return": None}
    path.write_text(path.read_text().replace('"score": null', '"score": NaN'))
    assert load_records(path)[0].metric("score") is None


def test_axis_values_name_an_arm_only_where_they_are_not_primary():
    primary = {"demonstrations": 10, "quality": "expert"}
    assert label(record("expert", 0, 1.0), primary) == "expert"
    assert label(record("bc", 0, 1.0, 10), primary) == "bc"
    assert label(record("bc", 0, 1.0, 1), primary) == "bc[demonstrations=1]"
    both = record("bc", 0, 1.0, axes={"quality": "half_random", "demonstrations": 1})
    assert label(both, primary) == "bc[demonstrations=1,quality=half_random]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": "0"}, r"raw\.jsonl:1: seed: must be int, got '0'"),
        ({"seed": True}, r"seed: must be int, got True"),
        ({"status": "crashed"}, r"status: must be one of \['done', 'diverged'\], got 'crashed'"),
        ({"hardware": ...}, r"raw\.jsonl:1: missing 'hardware'"),
        ({"framse": 1}, r"unknown field 'framse'; did you mean 'frames'\?"),
        (
            {"metrics": {"score": "good"}},
            r"metrics\.score: must be int or float or null, got 'good'",
        ),
        (
            {"per_start_returns": [1.0, "x"]},
            r"per_start_returns\[1\]: must be int or float or null",
        ),
    ],
)
def test_a_bad_field_is_refused_with_place_rule_and_value(tmp_path, changes, message):
    with pytest.raises(SchemaError, match=message):
        load_records(write_line(tmp_path / "raw.jsonl", **changes))


def test_a_line_cut_off_by_a_kill_is_named(tmp_path):
    path = dump_records(study(1), tmp_path / "raw.jsonl")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(SchemaError, match=r"raw\.jsonl:6: must be one JSON object a line"):
        load_records(path)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "at least one record"),
        ([record("bc", 0, 1.0, preset="smoke"), record("bc", 1, 1.0)], "share one preset"),
        ([record("bc", 3, 1.0, 1), record("bc", 3, 0.9, 1)], r"bc\[demonstrations=1\] seed 3"),
        ([record("bc", 0, 1.0, axes={"../x": 1})], "identifier"),
    ],
)
def test_records_that_make_no_comparison_are_refused(records, message):
    with pytest.raises(ValueError, match=message):
        validate(records)


def test_a_spec_that_names_an_undefined_arm_or_metric_is_refused():
    with pytest.raises(ValueError, match=r"primary_metric must be one of .*got 'socre'"):
        dataclasses.replace(SPEC, primary_metric="socre")
    with pytest.raises(ValueError, match=r"comparisons must name arms of .*got 'bc'"):
        dataclasses.replace(SPEC, arms=tuple(a for a in SPEC.arms if a.name != "bc"))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_atomic(tmp_path / "a.txt", "old")
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="b"):
        write_atomic(tmp_path / "b", "cannot replace a folder")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b"]


def test_records_that_would_make_a_large_file_go_on_in_the_next_and_no_old_one_is_left(
    tmp_path, monkeypatch
):
    records, path = study(4), tmp_path / "raw.jsonl"
    one = len(dump_records(records[:1], path).read_bytes())
    monkeypatch.setattr("steelyard.reports.records.MOST_BYTES", 5 * one)
    dump_records(records, path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) >= 5
    assert names[:2] == ["raw-2.jsonl", "raw-3.jsonl"]
    assert max(p.stat().st_size for p in tmp_path.iterdir()) <= 5 * one
    assert load_records(path) == records
    dump_records(records[:2], path)
    assert [p.name for p in tmp_path.iterdir()] == ["raw.jsonl"]
    assert load_records(path) == records[:2]
