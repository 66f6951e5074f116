"""The engine: what is unfinished runs, parents first; what is done, or cannot be, does not."""

import dataclasses
import json
import re

import jax
import pytest
from toy_runs import Killed, cells_of, dying_in, outcome, run, states
from toy_study import LENGTH, STUDY, ToyConfig

from steelyard import studies
from steelyard.cli import main
from steelyard.studies import get_study
from steelyard.studies.cells import Cell, Saved, Store, load, save
from steelyard.studies.engine import groups_to_run, study_folder
from steelyard.studies.status import study_status
from steelyard.training.metrics import SinkOptions


def test_all_cells_run_and_children_begin_where_their_parents_ended(finished):
    assert set(states(finished).values()) == {"done"}
    for (arm, seed), (result, rows) in outcome(finished).items():
        steps = LENGTH[arm] + (LENGTH["start"] if arm == "go_on" else 0)
        assert result == {"total": float(seed * steps)}
        assert len(rows) == LENGTH[arm]


def test_a_child_names_its_parent_in_its_folder(finished):
    store, cells = Store(finished, "toy"), cells_of(finished)
    assert store.folder(cells["go_on", 2]).status()["parent"] == cells["start", 2].id
    assert store.folder(cells["start", 2]).status()["parent"] is None


def test_running_again_trains_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json*")}
    changed = run(finished, progress=dying_in(1, 1)) / "study.json"
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json*")}
    assert {path for path in after if before.get(path) != after[path]} <= {changed}


@pytest.mark.parametrize(("number", "step"), [(1, 5), (1, 10), (1, 25), (2, 1), (3, 15)])
def test_a_study_that_is_killed_goes_on_to_the_same_end(number, step, finished, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, progress=dying_in(number, step))
    assert "failed" in states(tmp_path).values()
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)
    assert set(states(tmp_path).values()) == {"done"}


def test_an_error_that_was_overcome_is_no_longer_shown(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, progress=dying_in(1, 5))
    store = Store(tmp_path, "toy")
    notes = [run.note for run in study_status(list(cells_of(tmp_path).values()), store)]
    assert notes.count("Killed: ") == 3
    run(tmp_path)
    assert {run.note for run in study_status(list(cells_of(tmp_path).values()), store)} == {""}


def test_what_is_stopped_by_hand_was_interrupted_and_goes_on_to_the_same_end(finished, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, progress=dying_in(1, 25, KeyboardInterrupt))
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    status = store.folder(cells["start", 1]).status()
    assert (status["state"], status["step"], status.get("error")) == ("interrupted", 20, None)
    assert "failed" not in states(tmp_path).values()
    run(tmp_path)
    assert outcome(tmp_path) == outcome(finished)


def test_a_device_that_is_full_is_told_in_the_status_with_what_to_do(tmp_path):
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError):
        run(tmp_path, progress=dying_in(1, 5, full))
    status = Store(tmp_path, "toy").folder(cells_of(tmp_path)["start", 1]).status()
    assert status["state"] == "failed"
    assert "--seed-group 1" in status["error"]


def test_a_study_that_has_begun_keeps_what_it_began_with_until_it_has_ended(tmp_path):
    config, wind = ToyConfig(wind="of today"), tmp_path / "wind"
    wind.write_text("north")
    with pytest.raises(Killed):
        run(tmp_path, config, dying_in(1, 5))
    wind.write_text("south")
    folder = run(tmp_path, config)
    assert load(folder, ToyConfig).config.wind == "north"
    assert folder == run(tmp_path, config)  # all has ended, so this is a new beginning
    assert load(folder, ToyConfig).config.wind == "south"


def test_unfinished_cells_are_grouped_by_progress_and_finished_ones_left_out(tmp_path):
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    store.folder(cells["alone", 1]).set_status("done")
    store.folder(cells["alone", 2]).set_status("diverged")
    store.folder(cells["start", 2]).set_status("running", step=10, checkpoint="state_10")
    store.folder(cells["start", 3]).set_status("failed", step=7)  # died before its checkpoint
    groups = groups_to_run(STUDY, list(cells.values()), store, None)
    assert [[(c.arm, c.seed) for c in group] for group in groups] == [
        [("start", 1), ("start", 3)],
        [("start", 2)],
        [("alone", 3)],
        [("go_on", 1), ("go_on", 2), ("go_on", 3)],
    ]


@pytest.mark.parametrize("size", [1, 2])
def test_groups_hold_as_many_seeds_as_were_asked_and_change_no_result(size, finished, tmp_path):
    groups = groups_to_run(STUDY, list(cells_of(tmp_path).values()), Store(tmp_path, "toy"), size)
    assert max(len(group) for group in groups) == size
    run(tmp_path, seed_group=size)
    assert outcome(tmp_path) == outcome(finished)


def test_no_child_is_run_before_its_parent_however_the_plan_is_ordered(tmp_path):
    config = ToyConfig(interleaved=True)
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path, config)
    for seed in (2, 3):  # the first parent stands elsewhere, so there are two groups of parents
        store.folder(cells["start", seed]).set_status("pending", step=0)
    with pytest.raises(Killed):
        run(tmp_path, dataclasses.replace(config, seeds=(1,)), dying_in(1, 25))
    run(tmp_path, config)
    assert set(states(tmp_path, config).values()) == {"done"}


def test_children_of_a_diverged_parent_are_skipped_and_named_and_the_others_go_on(
    finished, tmp_path
):
    config = ToyConfig(falls=(2,))
    run(tmp_path, config)
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    assert states(tmp_path) == states(finished) | {
        ("start", 2): "diverged",
        ("go_on", 2): "skipped",
    }
    parent = store.folder(cells["start", 2]).status()["error"]
    assert parent == "total is nan in arm 'start', seed 2, at step 16; the run stopped there"
    child = store.folder(cells["go_on", 2]).status()["error"]
    assert child == f"its parent {cells['start', 2].id} is diverged"
    for key in (("go_on", 1), ("go_on", 3), ("alone", 2)):
        assert outcome(tmp_path)[key] == outcome(finished)[key]
    run(tmp_path, config)
    assert states(tmp_path)["go_on", 2] == "skipped"


def test_a_group_in_which_all_diverge_does_not_stop_the_study(tmp_path, capsys):
    config = ToyConfig(seeds=(1, 2), falls=(1, 2))
    run(tmp_path, config)
    assert {arm: state for (arm, _), state in states(tmp_path, config).items()} == {
        "start": "diverged",
        "go_on": "skipped",
        "alone": "done",
    }
    assert "diverged: total is nan in arm 'start', seed 1" in capsys.readouterr().err


def test_what_fails_is_marked_with_its_error_and_ends_the_study_but_not_what_diverged(tmp_path):
    with pytest.raises(RuntimeError, match="stumbled"):
        run(tmp_path, ToyConfig(raises=(2,), falls=(1,)))
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path)
    status = store.folder(cells["start", 2]).status()
    assert (status["state"], status["error"]) == ("failed", "RuntimeError: a walker stumbled")
    assert status["step"] == 10
    assert store.folder(cells["start", 1]).status()["state"] == "diverged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "threads"}, "executor is one of 'inline', 'process', 'ray', got 'threads'"),
        ({"executor": "process", "workers": 0}, "workers must be at least 1, got 0"),
        ({"seed_group": 0}, "seed_group must be at least 1, got 0"),
        ({"seed_group": -2}, "seed_group must be at least 1, got -2"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_folder_is_made(options, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_a_config_that_is_refused_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="walkers need seeds"):
        run(tmp_path / "runs", ToyConfig(seeds=()))
    assert not (tmp_path / "runs").exists()


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ValueError, match=r"no study 'imitations'.*Did you mean 'imitation'\?"):
        get_study("imitations")


def test_a_cell_is_named_by_what_decides_its_outcome_and_nothing_else():
    cell = Cell("toy", "arm", 1, ToyConfig(), {"n": 1}, None, 10)
    assert dataclasses.replace(cell, size=99).id == cell.id
    changes = [
        {"study": "other"},
        {"arm": "other"},
        {"seed": 2},
        {"config": ToyConfig(seeds=(9,))},
        {"axes": {"n": 2}},
        {"parent": cell},
    ]
    names = [dataclasses.replace(cell, **change).id for change in changes]
    assert len({cell.id, *names}) == 7


def test_cells_that_differ_in_seed_and_parent_only_share_a_program():
    cell = Cell("toy", "arm", 1, ToyConfig(), {"n": 1})
    assert dataclasses.replace(cell, seed=2, parent=cell).program == cell.program
    assert dataclasses.replace(cell, axes={"n": 2}).program != cell.program
    assert cell.label == "arm (n 1)"
    assert dataclasses.replace(cell, axes={}).label == "arm"


def test_what_a_worker_needs_is_read_as_it_was_saved(tmp_path):
    saved = Saved("toy", "only", "cmd", SinkOptions(wandb_project="p"), ToyConfig(falls=(1,)))
    save(tmp_path, saved)
    assert load(tmp_path, ToyConfig) == saved


def test_the_table_of_a_plan_shows_how_far_each_run_is(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, progress=dying_in(1, 25))
    store = Store(tmp_path, "toy")
    rows = {(run.run, run.seed): run for run in study_status([*cells_of(tmp_path).values()], store)}
    first = rows["start", 1]
    assert (first.state, first.step, first.of) == ("failed", 20, 30)
    alone = rows["alone", 1]
    assert (alone.state, alone.step, alone.of) == ("waiting", 0, 10)
    assert study_folder(store, "only", ToyConfig()).exists()


def test_the_table_shows_a_total_that_was_found_out_and_a_done_run_as_whole(tmp_path):
    store, cells = Store(tmp_path, "toy"), cells_of(tmp_path, ToyConfig(seeds=(1,)))
    store.folder(cells["start", 1]).set_status("done")  # counts no steps
    store.folder(cells["go_on", 1]).set_status("running", step=10, total=70)
    store.folder(cells["alone", 1]).set_status("done", step=12)
    shown = [(run.step, run.of) for run in study_status([*cells.values()], store)]
    assert shown == [(30, 30), (10, 70), (12, 12)]


def test_a_mistake_of_ours_keeps_its_traceback_on_the_command_line(finished, monkeypatch):
    monkeypatch.setitem(studies.STUDIES, "toy", "toy_study")
    with pytest.raises(NotImplementedError):  # a RuntimeError, as are those that are explained
        main(["study", "report", "toy", "--preset", "only", "--runs", str(finished)])


def test_json_of_a_study_is_json(finished):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    for path in finished.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
