"""Damaged and hostile files are read or refused by name; none is run, hangs or takes all memory.

The long form is ``python tests/reliability/fuzz.py --inputs 100000``.
"""

import json

import pytest
from fuzz import Run, shares
from fuzz_targets import PLANTED, TARGETS

SLOW_TO_MAKE = ("dynamics model", "sac policies", "clusters")
"""Their samples take longer to write than all other targets take to be read."""


def real(run: Run) -> list[dict]:
    return [found for found in run.findings if found["target"] not in PLANTED]


def told(run: Run) -> str:
    return "\n".join(json.dumps(found) for found in real(run)[:5])


@pytest.fixture(scope="module")
def run() -> Run:
    """1,500 inputs, and behind them readers that do what none may."""
    run = Run(seed=1)
    inputs = shares(1500, [name for name in TARGETS if name not in SLOW_TO_MAKE])
    run.go({name: (0, count) for name, count in inputs.items()} | dict.fromkeys(PLANTED, (0, 1)))
    return run


def test_every_reader_reads_or_refuses_1500_damaged_files(run):
    assert not real(run), told(run)
    counts = [counts for name, counts in run.counts.items() if name not in PLANTED]
    assert all(set(kinds) <= {"read", "refused"} for kinds in counts)
    assert sum(kinds["refused"] for kinds in counts) > 700  # mutations do reach what is read


def test_a_reader_that_fails_acts_or_dies_is_seen(run):
    kinds = {name.removeprefix("planted "): set(run.counts[name]) for name in PLANTED}
    assert kinds == {name: {name} for name in kinds}


@pytest.mark.slow
def test_every_reader_reads_or_refuses_20000_damaged_files():
    run = Run(seed=2)
    run.go({name: (0, count) for name, count in shares(20_000, list(TARGETS)).items()})
    assert not run.findings, told(run)
