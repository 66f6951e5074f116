"""How far a study is, read from its folders alone."""

import json
import re

import pytest
from toy_runs import cells_of
from toy_study import ToyConfig

from steelyard.cli import main
from steelyard.studies.cells import Store
from steelyard.studies.engine import study_folder
from steelyard.studies.status import (
    RunStatus,
    duration,
    headline,
    last_row,
    seconds_left,
    study_status,
)
from steelyard.training.holds import Hold


def run_of(state, step=0, of=100, seconds=None, together=1, arm="a"):
    return RunStatus("a", 1, state, step, of, seconds, together, arm, "id", "")


def test_a_run_that_says_it_runs_while_nobody_holds_it_was_killed(tmp_path):
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    cell = cells["start", 1]
    store.folder(cell).set_status("running", step=10, checkpoint="state_10.safetensors")
    assert study_status([cell], store)[0].state == "stopped"
    with Hold([store.folder(cell).path]):
        assert study_status([cell], store)[0].state == "running"


def test_steps_since_the_last_checkpoint_count(tmp_path):
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    folder = store.folder(cells["start", 1])
    folder.set_status("running", step=10, checkpoint="x", seconds=1.0)
    folder.metrics.write_text(
        '{"step": 10, "seconds": 1}\n{"step": 25, "seconds": 2.5}\n{"step": 2'
    )
    (run,) = study_status([cells["start", 1]], store)
    assert (run.step, run.seconds) == (25, 2.5)


@pytest.mark.parametrize("text", ["", "\n", "nonsense", '{"no": 1}\n[1]\n', '{"step": "x"}'])
def test_metrics_without_a_row_tell_nothing(text, tmp_path):
    (tmp_path / "m").write_text(text)
    assert last_row(tmp_path / "m") is None
    assert last_row(tmp_path / "missing") is None


def test_what_is_left_is_the_shares_of_all_unfinished_runs_over_those_that_run_at_once():
    runs = [
        run_of("running", 50, 100, seconds=40.0, together=2),  # costs 40 whole, 20 left
        run_of("running", 50, 100, seconds=40.0, together=2),
        run_of("waiting", of=100),  # as its arm: 40
        run_of("waiting", of=7, arm="b"),  # of an arm that never moved: as the others, 40
        run_of("done", 100, seconds=40.0),
    ]
    whole = (40 + 40 + 40) / 3
    assert seconds_left(runs) == pytest.approx(20 + 20 + whole + whole)
    assert seconds_left([run_of("waiting")]) is None
    assert seconds_left([run_of("done", 100, seconds=9.0)]) is None


def test_the_headline_counts_states_and_tells_the_time_left():
    runs = [
        run_of("running", 50, seconds=600.0),
        run_of("done", 100, seconds=600.0),
        run_of("failed"),
    ]
    told = headline(runs)
    assert re.fullmatch(
        r"1 running, 1 failed, 1 done; about \d+ min left, until \d\d:\d\d", told
    ), told
    assert headline([run_of("waiting")]) == "1 waiting"


@pytest.mark.parametrize("command", ["run", "report"])
def test_only_the_status_can_be_watched(command, children, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["study", command, "toy", "--preset", "only", "--runs", str(tmp_path), "--watch", "5"])
    assert "--watch is an option of `study status`" in capsys.readouterr().err
    assert not list(tmp_path.glob("toy"))


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(5.0, "5 s"), (89.4, "89 s"), (90.0, "2 min"), (5300.0, "88 min"), (11100.0, "3 h 05 min")],
)
def test_durations_are_told_as_people_do(seconds, told):
    assert duration(seconds) == told


def test_watching_ends_where_nobody_works_and_zero_seconds_are_refused(children, finished, capsys):
    words = ["study", "status", "toy", "--preset", "only", "--runs", str(finished)]
    main([*words, "--watch", "0.1"])
    out = capsys.readouterr().out
    assert out.count(" done ") == 9
    assert out.splitlines()[9] == "9 done"
    assert str(study_folder(Store(finished, "toy"), "only", ToyConfig())) in out
    with pytest.raises(SystemExit):
        main([*words, "--watch", "0"])
    assert "watch must be above 0 seconds, got 0.0" in capsys.readouterr().err


def test_the_table_is_made_of_folders_that_a_stranger_damaged(tmp_path):
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    folder = store.folder(cells["start", 1])
    folder.set_status("running", step=10)
    folder.metrics.write_bytes(b"\xff\xfe\n" + json.dumps({"step": 12}).encode() + b"\n\x00")
    assert study_status([cells["start", 1]], store)[0].step == 12
