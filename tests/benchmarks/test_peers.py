"""The comparison with other libraries: its registry stands without them, its table is whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SUMMARY = json.loads((ROOT / "results" / "benchmarks" / "peers" / "summary.json").read_text())


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_rows

    return peer_rows


@pytest.fixture
def summary(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peer_summary

    return peer_summary


def test_help_names_every_row_without_any_peer(rows):
    command = [sys.executable, BENCHMARKS / "peers.py", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in told for name in (*rows.ROWS, *rows.ENVIRONMENTS))


def test_every_row_names_what_is_there(rows):
    for name, row in rows.ROWS.items():
        scripts = [contender.script for contender in row.contenders.values()]
        for script in (*scripts, *([row.prepare] if row.prepare else [])):
            assert (BENCHMARKS / "contenders" / script).exists(), name
        for ours, peer in row.pairs:
            assert not row.contenders[ours].is_peer
            assert row.contenders[peer].is_peer
        peers = [key for key, contender in row.contenders.items() if contender.is_peer]
        assert {peer for _, peer in row.pairs} == set(peers), name
    used = {c.environment for row in rows.ROWS.values() for c in row.contenders.values()}
    assert used == {rows.OURS, *rows.ENVIRONMENTS}
    assert all((BENCHMARKS / file).exists() for file in rows.ENVIRONMENTS.values())


def test_ratios_are_taken_within_a_round_and_above_one_is_ours_ahead(rows, summary):
    ours, peer = {0: {"ms": 1.0}, 1: {"ms": 4.0}}, {0: {"ms": 3.0}, 1: {"ms": 8.0}}
    found = summary._compared(rows.Measure("ms", "lower"), "ms", ours, peer)
    assert found["ratio"] == {"median": 2.5, "low": 2.0, "high": 3.0}
    found = summary._compared(rows.Measure("ms", "score"), "ms", ours, peer)
    assert found["difference"]["median"] == -3.0


def test_a_contender_of_fewer_rounds_stands_beside_the_same_rounds(rows, summary):
    ours, peer = {0: {"ms": 1.0}, 1: {"ms": 100.0}}, {0: {"ms": 3.0}}
    found = summary._compared(rows.Measure("ms", "lower"), "ms", ours, peer)
    assert found["rounds"] == 1
    assert found["ours_value"]["high"] == 1.0


def test_the_summary_is_made_from_the_raw_lines(summary):
    place = ROOT / "results" / "benchmarks"
    raw = (place / "peers" / "raw.jsonl").read_text().splitlines()
    assert summary.summarise([json.loads(line) for line in raw], place) == SUMMARY


@pytest.mark.parametrize("name", SUMMARY["rows"])
def test_every_row_of_the_summary_stands_in_the_docs(name):
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    row = SUMMARY["rows"][name]
    assert page.count(f"| {row['title']} |") == len(row["lines"]) + len(row["absent"])
    assert f"`{row['command']}`" in page


def test_every_row_has_been_measured(rows):
    assert set(SUMMARY["rows"]) >= set(rows.ROWS)
