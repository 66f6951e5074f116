"""Laws of the log: nothing is lost, nothing is counted twice, undo is a row."""

import dataclasses
import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest
from label_samples import make_dataset

from steelyard.cli import main
from steelyard.data.segments import PlayedEpisodes, Segments, save_segments
from steelyard.labelling.dataset import open_dataset
from steelyard.labelling.export import export, pair_rows, read_judgements
from steelyard.labelling.records import Answer, ConflictError, LabellingError, Question
from steelyard.labelling.select import Choosing
from steelyard.labelling.session import Session
from steelyard.labelling.store import Store


def answer(task: int, text: str, strength: int = 0, key: str = "") -> Answer:
    return Answer(key or str(uuid.uuid4()), task, text, strength, 900, 2.0, 2.0)


@pytest.fixture
def folder(tmp_path):
    return make_dataset(tmp_path / "2026-11-21-10-00-00", segments=8)


def opened(folder: Path, **choosing) -> Session:
    dataset = open_dataset(folder)
    options = {"kind": "pair", "repeat": 0.0, "overlap": 0.0} | choosing
    store = Store.open(dataset.folder, dataset.sha256)
    try:
        return Session(dataset, store, Choosing(**options))
    except LabellingError:
        store.close()
        raise


@pytest.fixture
def session(folder):
    session = opened(folder)
    yield session
    session.store.close()


def judge(session: Session, name: str, text: str = "left", strength: int = 1) -> int:
    task = session.tasks(name)[0]
    return session.store.judge(name, answer(task.id, text, strength))[0]


def test_an_answer_sent_twice_is_stored_once_and_gets_the_first_reply(session):
    task, other = session.tasks("ana")[:2]
    sent = answer(task.id, "left", 2)
    assert session.store.judge("ana", sent) == (1, False)
    assert session.store.judge("ana", sent) == (1, True)
    assert session.store.judge("ana", dataclasses.replace(sent, task=other.id)) == (1, True)
    assert len(session.store.judgements()) == 1


def test_a_task_takes_one_answer(session):
    task = session.tasks("ana")[0]
    session.store.judge("ana", answer(task.id, "left", 1))
    with pytest.raises(ConflictError, match="done, not open"):
        session.store.judge("ana", answer(task.id, "right", 1))
    assert [e.answer.answer for e in session.store.judgements()] == ["left"]


def test_a_task_takes_answers_of_its_annotator_only(session):
    task = session.tasks("ana")[0]
    with pytest.raises(LabellingError, match="no task"):
        session.store.judge("ben", answer(task.id, "left", 1))


@pytest.mark.parametrize(
    ("text", "strength"),
    [("left", 0), ("tie", 1), ("better", 0), ("5", 0), ("", 0), ("both_bad", 2)],
)
def test_an_answer_that_does_not_fit_leaves_no_trace(session, text, strength):
    task = session.tasks("ana")[0]
    with pytest.raises(LabellingError, match="task|strength"):
        session.store.judge("ana", answer(task.id, text, strength))
    assert session.store.judgements() == []
    assert session.tasks("ana")[0] == task


@pytest.mark.parametrize("text", ["0", "6", "left", "3.5", "-1", "٣"])
def test_a_rating_off_its_scale_is_refused(folder, text):
    session = opened(folder, kind="rate", scale=5)
    task = session.tasks("ana")[0]
    with pytest.raises(LabellingError, match="1 to 5 or skip"):
        session.store.judge("ana", answer(task.id, text))
    session.store.close()


def test_the_log_cannot_be_changed_even_by_sql(session):
    judge(session, "ana")
    session.store.undo("ana", 1)
    db = sqlite3.connect(session.store.path)
    for statement in (
        "UPDATE judgements SET answer = 'right'",
        "DELETE FROM judgements",
        "DELETE FROM undos",
        "UPDATE undos SET created = ''",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_the_commit_of_an_answer_waits_for_the_disk(session):
    statements = []
    session.tasks("ana")
    session.store._db.set_trace_callback(statements.append)
    judge(session, "ana")
    session.store.undo("ana", 1)
    session.store._db.set_trace_callback(None)
    for written in ("INSERT INTO judgements", "INSERT INTO undos"):
        (place,) = [n for n, text in enumerate(statements) if text.startswith(written)]
        before = [text for text in statements[:place] if text.startswith("PRAGMA synchronous")]
        assert before[-1] == "PRAGMA synchronous=FULL"
    assert session.store._rows("PRAGMA journal_mode")[0][0] == "wal"


def test_undo_goes_back_as_far_as_one_likes_also_after_a_restart(folder):
    session = opened(folder)
    asked = []
    for text in ("left", "right", "tie", "left"):
        asked.append(session.tasks("ana")[0].id)
        judge(session, "ana", text, 0 if text == "tie" else 1)
    session.store.undo("ana", 4)
    session.store.undo("ana", 3)
    session.store.close()
    session = opened(folder)
    assert session.progress("ana")["last"] == 2
    session.store.undo("ana", 2)
    assert [t.id for t in session.tasks("ana")][:3] == [asked[1], asked[2], asked[3]]
    assert session.progress("ana")["done"] == 1
    assert [e.undone is None for e in session.store.judgements()] == [True, False, False, False]
    judge(session, "ana", "both_bad", 0)
    assert session.tasks("ana")[0].id == asked[2]
    session.store.close()


def test_undo_is_idempotent_and_takes_the_last_answer_only(session):
    for _ in range(2):
        judge(session, "ana")
    judge(session, "ben")
    with pytest.raises(ConflictError, match="not the last"):
        session.store.undo("ana", 1)
    with pytest.raises(LabellingError, match="has given no answer 3"):
        session.store.undo("ana", 3)
    assert session.store.undo("ana", 2) is False
    assert session.store.undo("ana", 2) is True
    assert session.progress("ana")["last"] == 1


def test_a_skipped_task_comes_back_once_at_the_end(folder):
    session = opened(folder, target=4)
    first = session.tasks("ana")[0]
    judge(session, "ana", "skip", 0)
    seen = []
    while session.tasks("ana"):
        task = session.tasks("ana")[0]
        seen.append(task.id)
        judge(session, "ana", "skip" if task.id == first.id else "tie", 0)
    assert seen[-1] == first.id
    assert seen.count(first.id) == 1
    assert len(seen) == 4
    assert session.progress("ana")["done"] == 3
    assert session.progress("ana")["left"] == 0
    session.store.undo("ana", session.progress("ana")["last"])
    assert session.tasks("ana")[0].id == first.id
    session.store.close()


def test_sides_are_recorded_and_translated(session):
    for _ in range(10):
        task = session.tasks("ana")[0]
        judge(session, "ana", "left", 1)
        event = session.store.judgements()[-1]
        left = session.describe(task)["clips"][0]["media"]
        winner = event.task.question.b if event.preference == 1 else event.task.question.a
        assert winner == left
    assert len({e.preference for e in session.store.judgements()}) == 2


def test_a_page_is_told_nothing_that_would_unblind(session):
    told = json.dumps([session.describe(t) for t in session.tasks("ana")])
    judge(session, "ana")
    told += json.dumps(session.history("ana", 5)) + json.dumps(session.progress("ana"))
    for word in ("checkpoint", "noise", "window", "episode", "reward", "return", "reason"):
        assert word not in told


def test_threads_share_a_store_without_losing_anything(session):
    for name in ("a", "b", "c", "d"):
        session.tasks(name)
    errors = []

    def work(name: str) -> None:
        try:
            for _ in range(15):
                judge(session, name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(session.store.judgements()) == 60


@pytest.mark.parametrize("name", ["", "a b", "x" * 33, "ana'--", "é", "a/b", "<b>"])
def test_names_are_plain(session, name):
    with pytest.raises(LabellingError, match="A-Z a-z 0-9"):
        session.tasks(name)


# Files that cannot be used


def refusal(folder: Path) -> str:
    with pytest.raises(LabellingError) as caught:
        opened(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_second_process_is_refused_and_told_who_holds_the_file(folder):
    code = (
        "import sys, pathlib; from steelyard.labelling.store import Store;"
        "from steelyard.labelling.dataset import open_dataset;"
        "d = open_dataset(pathlib.Path(sys.argv[1]));"
        "s = Store.open(d.folder, d.sha256); print('open', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    assert f"process {other.pid}" in refusal(folder)
    other.kill()
    other.communicate()
    opened(folder).store.close()  # the system took the lock back


def test_a_read_only_file_is_refused(folder):
    opened(folder).store.close()
    (folder / "labels.sqlite").chmod(0o444)
    assert "read-only" in refusal(folder)


def test_a_newer_schema_is_refused_and_left_alone(folder):
    opened(folder).store.close()
    with sqlite3.connect(folder / "labels.sqlite") as db:
        db.execute("UPDATE meta SET schema_version = 7")
    db.close()
    message = refusal(folder)
    assert "schema 7" in message
    assert "reads 1" in message


def test_judgements_of_another_data_set_are_refused(folder):
    opened(folder).store.close()
    info = json.loads((folder / "segment_info.json").read_text())
    before = info["sha256"]
    info["sha256"] = "ab" * 32
    (folder / "segment_info.json").write_text(json.dumps(info))
    message = refusal(folder)
    assert before[:12] in message
    assert "abababababab" in message


def test_what_is_no_database_is_refused(folder):
    (folder / "labels.sqlite").write_text("not a database, " * 100)
    assert "no database" in refusal(folder)


@pytest.mark.parametrize("damage", ["{", '{"schema": 1}', '{"schema": 9, "segments": []}'])
def test_a_broken_description_is_refused(folder, damage):
    (folder / "segment_info.json").write_text(damage)
    assert "segment_info.json" in refusal(folder)


def test_a_data_set_without_films_says_how_to_make_them(tmp_path):
    folder = make_dataset(tmp_path / "d", filmed=False)
    assert "steelyard data film" in refusal(folder)


def test_a_film_that_was_judged_may_not_change(folder):
    session = opened(folder)
    session.verify()
    task = session.tasks("ana")[0]
    judge(session, "ana")
    judged = task.question.a
    free = next(n for n in range(8) if n not in (judged, task.question.b))
    for number in (judged, free):
        path = folder / f"videos/segment_{number:06d}.webm"
        content = path.read_bytes()
        path.unlink()  # the films of these tests are links
        path.write_bytes(content + b"\0")
    session.film(free)  # nobody judged it: a film made anew is fine
    with pytest.raises(LabellingError, match="not the one that was judged"):
        session.film(judged)
    with pytest.raises(LabellingError, match="--only ID"):
        session.verify()
    session.store.close()


# Export


def test_an_export_read_back_into_an_empty_file_is_equal(folder, tmp_path, capsys):
    session = opened(folder, repeat=0.2)
    for text in ("left", "right", "skip", "tie", "both_bad", "left") * 3:
        judge(session, "ana", text, 2 if text in ("left", "right") else 0)
    judge(session, "ben", "right", 1)
    session.store.undo("ana", session.progress("ana")["last"])
    events = session.store.judgements()
    export(session.store, session.dataset)
    session.store.close()
    exported = (folder / "export/judgements.jsonl").read_bytes()
    assert read_judgements(folder / "export/judgements.jsonl") == events

    fresh = make_dataset(tmp_path / "fresh", segments=8)
    command = ["label", "import", str(fresh), str(folder / "export/judgements.jsonl")]
    main(command)
    again = opened(fresh, repeat=0.2)
    assert again.store.judgements() == events
    export(again.store, again.dataset)
    assert (fresh / "export/judgements.jsonl").read_bytes() == exported
    assert again.tasks("ana")[0].id == events[-2].task.id  # what was taken back is open again
    again.store.close()
    with pytest.raises(SystemExit):
        main(command)
    assert "holds judgements already" in capsys.readouterr().err
    small = make_dataset(tmp_path / "small", segments=4)
    with pytest.raises(SystemExit):
        main(["label", "import", str(small), command[-1]])
    assert "does not have" in capsys.readouterr().err


def test_pairs_and_ratings_hold_what_stands(folder):
    session = opened(folder)
    plan = [("left", 2), ("tie", 0), ("skip", 0), ("both_bad", 0), ("right", 1), ("right", 1)]
    for text, strength in plan:
        judge(session, "ana", text, strength)
    session.store.undo("ana", 6)
    events = session.store.judgements()
    export(session.store, session.dataset)
    session.store.close()
    rows = [json.loads(x) for x in (folder / "export/pairs.jsonl").read_text().splitlines()]
    assert [r["strength"] for r in rows] == [1, 0, 0, 0.5]
    assert [r["both_bad"] for r in rows] == [False, False, True, False]
    assert [r["label"] for r in rows] == [events[n].preference for n in (0, 1, 3, 4)]
    assert [(r["a"], r["b"]) for r in rows] == [
        (events[n].task.question.a, events[n].task.question.b) for n in (0, 1, 3, 4)
    ]
    assert list(rows[0]) == ["a", "b", "label", "strength", "annotator", "both_bad", "created"]
    rate = opened(folder, kind="rate", scale=5)
    for _ in range(8):
        judge(rate, "ana", "4", 0)
    repeat = Question("rate", 3, None, True, "repeat", 5)
    task = rate.store.add_task("ana", repeat)  # measures consistency, counts no opinion twice
    rate.store.judge("ana", answer(task.id, "2"))
    export(rate.store, rate.dataset)
    rate.store.close()
    rows = [json.loads(x) for x in (folder / "export/ratings.jsonl").read_text().splitlines()]
    assert sorted(r["segment"] for r in rows) == list(
        range(8)
    )  # a repetition counts no opinion twice
    assert {(r["scale"], r["annotator"]) for r in rows} == {(5, "ana")}
    assert all(r["rating"] == 4 for r in rows)


def test_arrays_are_exported_under_cpl_s_names(folder):
    steps, width = 5, 3
    numbers = np.arange(8 * steps * width, dtype=np.float32).reshape(8, steps, width)
    zeros, never = np.zeros((8, steps), np.float32), np.zeros((8, steps), bool)
    at = np.zeros(8, np.int64)
    segments = Segments(
        "Pendulum-v1", {}, 0.05, numbers, numbers[..., :1] / 1000, zeros, never, never, ~never,
        never, zeros, numbers[:, 0], at, at, at, np.zeros(8, np.float32), ("one",),
        PlayedEpisodes(np.array([0]), np.zeros((1, steps, 1), np.float32), np.array([steps])),
    )  # fmt: skip
    save_segments(folder, segments)
    session = opened(folder)
    for text, strength in (("left", 2), ("tie", 0), ("right", 1)):
        judge(session, "ana", text, strength)
    rows = pair_rows(session.store.judgements())
    written = {path.name for path in export(session.store, session.dataset)}
    session.store.close()
    assert {"pairs.npz", "ratings.npz"} <= written
    with np.load(folder / "export/pairs.npz", allow_pickle=False) as file:
        for number, row in enumerate(rows):
            for side, name in (("a", 1), ("b", 2)):
                assert (file[f"obs_{name}"][number] == numbers[row[side]]).all()
                assert (file[f"action_{name}"][number] == segments.action[row[side]]).all()
        assert file["label"].tolist() == [row["label"] for row in rows]
        assert file["valid_1"].all()
    rate = opened(folder, kind="rate", scale=5)
    judge(rate, "ana", "4", 0)
    rated = rate.store.judgements()[-1].task.question.a
    export(rate.store, rate.dataset)
    rate.store.close()
    with np.load(folder / "export/ratings.npz", allow_pickle=False) as file:
        assert (file["obs"][0] == numbers[rated]).all()
        assert (file["score"].tolist(), file["annotator"].tolist()) == ([4.0], ["ana"])
