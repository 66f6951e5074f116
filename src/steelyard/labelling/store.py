"""The one place that speaks SQL: tasks, judgements and undos in ``labels.sqlite``.

What is promised: a reply that says an answer was saved is sent after the commit, and the commit of
an answer waits for the disk (WAL, ``synchronous=FULL``). An answer and the new state of its task
are one transaction. An answer that arrives twice (same ``client_uuid``) is stored once and gets
the first reply. Undo is a row, not a deletion, so the log shows what was thought twice.
"""

import contextlib
import dataclasses
import datetime
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from steelyard.files import reading
from steelyard.labelling import schema
from steelyard.labelling.records import (
    SKIP,
    Answer,
    Clip,
    ConflictError,
    Judgement,
    Kind,
    LabellingError,
    Question,
    StorageError,
    Task,
    check_annotator,
    check_answer,
    check_event,
)
from steelyard.labelling.rows import EVENT, STANDING, TASK, judgement_of, task_of


class Store:
    """Judgements of one data set. Make it with :meth:`open`; usable from several threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path, held: IO[str] | None):
        self.path = path
        self._db = connection
        self._held = held
        self._mutex = threading.RLock()

    @classmethod
    def open(cls, folder: Path, sha256: str, read_only: bool = False) -> "Store":
        """Open the judgements of a data set, making the file where there is none.

        Args:
            folder: The data set.
            sha256: Hash of its ``segments.h5``.
            read_only: Only look: no lock is taken, so a server may go on writing meanwhile.

        Raises:
            LabellingError: Read-only, of another data set or schema, held by another process, no
                such file, or not a database.
        """
        path = folder / schema.FILE
        connection, held = schema.opened(path, sha256, read_only)
        return cls(connection, path, held)

    def close(self) -> None:
        """Close the file and let another process have it."""
        with self._mutex:
            self._db.close()
            if self._held:
                self._held.close()

    @contextlib.contextmanager
    def _transaction(self, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; a lasting one survives a power cut from the moment it returns.

        Which questions are open may be lost by a power cut, not by a kill: they are chosen anew.
        A lasting commit also makes everything before it last.
        """
        with self._mutex, self._explained():
            self._db.execute(f"PRAGMA synchronous={'FULL' if lasting else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # Some errors have ended the transaction themselves.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self.path} cannot be used: {error}") from error

    def _rows(self, query: str, *values: object) -> list[tuple]:
        with self._mutex, self._explained():
            return self._db.execute(query, values).fetchall()

    # Settings and segments

    def settings(self) -> dict:
        """Return what the server last ran with."""
        text = self._rows("SELECT settings FROM meta")[0][0]
        with reading(self.path, "its settings must be JSON", StorageError):
            return dict(json.loads(text))

    def save_settings(self, settings: dict) -> None:
        """Keep what the server runs with, for ``status`` and the exports."""
        with self._transaction() as db:
            db.execute("UPDATE meta SET settings = ?", (json.dumps(settings),))

    def add_segments(self, clips: Sequence[Clip]) -> None:
        """Enter segments that are not known yet; films may be added while people judge."""
        rows = [(c.id, c.episode, c.window, c.start_s, c.duration_s, c.clip) for c in clips]
        with self._transaction(lasting=False) as db:
            db.executemany("INSERT OR IGNORE INTO segments VALUES (?, NULL, ?, ?, ?, ?, ?)", rows)

    def clip(self, segment: int) -> tuple[str, str | None] | None:
        """Return path and known hash of a segment's film, none for an unknown segment."""
        rows = self._rows("SELECT clip, sha256 FROM segments WHERE id = ?", segment)
        return rows[0] if rows else None

    def record_hash(self, segment: int, sha256: str) -> bool:
        """Remember a film's hash; false where judgements refer to another film.

        A film made anew replaces one that nobody judged.
        """
        with self._transaction(lasting=False) as db:
            known = db.execute("SELECT sha256 FROM segments WHERE id = ?", (segment,)).fetchone()
            if known is None or known[0] == sha256:
                return known is not None
            judged = db.execute(
                "SELECT 1 FROM judgements j JOIN tasks t ON t.id = j.task "
                "WHERE t.a = ? OR t.b = ? LIMIT 1",
                (segment, segment),
            ).fetchone()
            if known[0] is not None and judged:
                return False
            db.execute("UPDATE segments SET sha256 = ? WHERE id = ?", (sha256, segment))
            return True

    def hashes(self) -> dict[int, str]:
        """Return the known hash of each film."""
        return dict(self._rows("SELECT id, sha256 FROM segments WHERE sha256 IS NOT NULL"))

    # Annotators and tasks

    def annotators(self) -> list[str]:
        """Return the names, in order of their arrival."""
        return [name for (name,) in self._rows("SELECT name FROM annotators ORDER BY id")]

    def add_annotator(self, name: str) -> None:
        """Enter a name if it is new.

        Raises:
            LabellingError: The name is not legal.
        """
        check_annotator(name)
        if name not in self.annotators():
            with self._transaction(lasting=False) as db:
                db.execute("INSERT OR IGNORE INTO annotators(name) VALUES (?)", (name,))

    def add_task(self, annotator: str, question: Question) -> Task:
        """Put a question to an annotator."""
        with self._transaction(lasting=False) as db:
            cursor = db.execute(
                "INSERT INTO tasks(annotator, kind, scale, a, b, left_is_a, reason, state) "
                "VALUES ((SELECT id FROM annotators WHERE name = ?), ?, ?, ?, ?, ?, ?, 'open')",
                (
                    annotator,
                    question.kind,
                    question.scale,
                    question.a,
                    question.b,
                    question.left_is_a,
                    question.reason,
                ),
            )
            return Task(int(cursor.lastrowid or 0), annotator, question, "open")

    def open_tasks(self, annotator: str, kind: Kind, scale: int) -> list[Task]:
        """Return what is open: what was taken back last comes first, then in order."""
        rows = self._rows(
            f"{TASK} WHERE p.name = ? AND t.kind = ? AND t.scale = ? AND t.state = 'open' "
            "ORDER BY (SELECT max(u.id) FROM undos u JOIN judgements j ON j.id = u.judgement "
            "WHERE j.task = t.id) DESC NULLS LAST, t.id",
            annotator,
            kind,
            scale,
        )
        return [task_of(row) for row in rows]

    def reopen_skipped(self, annotator: str, kind: Kind, scale: int) -> Task | None:
        """Open the oldest skipped task again, none where there is none."""
        with self._transaction(lasting=False) as db:
            row = db.execute(
                f"{TASK} WHERE p.name = ? AND t.kind = ? AND t.scale = ? "
                "AND t.state = 'skipped' ORDER BY t.id LIMIT 1",
                (annotator, kind, scale),
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE tasks SET state = 'open' WHERE id = ?", (row[0],))
            return task_of((*row[:8], "open"))

    def task_log(
        self, annotator: str, kind: Kind, scale: int, answers: bool = False
    ) -> list[tuple]:
        """Return ``(id, a, b, left_is_a, reason, state, answer)`` of all tasks, in order.

        ``answer`` is the standing answer of a task that is done, and none where ``answers`` are not
        wanted.
        """
        standing = (
            f"(SELECT j.answer FROM judgements j WHERE j.task = t.id AND {STANDING} "
            "ORDER BY j.id DESC LIMIT 1)"
        )
        return self._rows(
            f"SELECT t.id, t.a, t.b, t.left_is_a, t.reason, t.state, "
            f"{standing if answers else 'NULL'} "
            "FROM tasks t WHERE t.annotator = (SELECT id FROM annotators WHERE name = ?) "
            "AND t.kind = ? AND t.scale = ? ORDER BY t.id",
            annotator,
            kind,
            scale,
        )

    def shared(self, annotator: str, kind: Kind, scale: int) -> list[tuple[int, int | None]]:
        """Return what was asked of others to be shared and not yet of this annotator."""
        return self._rows(
            "WITH me AS (SELECT id FROM annotators WHERE name = ?1) "
            "SELECT t.a, t.b FROM tasks t "
            "WHERE t.reason = 'shared' AND t.kind = ?2 AND t.scale = ?3 "
            "AND t.annotator <> (SELECT id FROM me) "
            "AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.annotator = (SELECT id FROM me) "
            "AND o.kind = ?2 AND o.scale = ?3 AND o.a = t.a AND o.b IS t.b) "
            "GROUP BY t.a, t.b ORDER BY min(t.id) LIMIT 50",
            annotator,
            kind,
            scale,
        )

    # Judgements

    def judge(self, annotator: str, answer: Answer) -> tuple[int, bool]:
        """Save an answer; return its number and whether it had been saved before.

        Raises:
            LabellingError: No such task of this annotator, or an answer that does not fit it.
            ConflictError: The task is not open any more.
        """
        with self._transaction() as db:
            known = db.execute(
                "SELECT id FROM judgements WHERE client_uuid = ?", (answer.client_uuid,)
            ).fetchone()
            if known:
                return known[0], True
            row = db.execute(f"{TASK} WHERE t.id = ?", (answer.task,)).fetchone()
            if row is None or row[1] != annotator:
                raise LabellingError(f"there is no task {answer.task} of annotator {annotator}")
            task = task_of(row)
            check_answer(task.question, answer)
            if task.state != "open":
                raise ConflictError(
                    f"task {task.id} is {task.state}, not open: it was answered in another window"
                )
            cursor = db.execute(
                "INSERT INTO judgements(client_uuid, task, answer, strength, response_ms, "
                "watched_left_s, watched_right_s, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    answer.client_uuid,
                    answer.task,
                    answer.answer,
                    answer.strength,
                    answer.response_ms,
                    answer.watched_left_s,
                    answer.watched_right_s,
                    now(),
                ),
            )
            state = "done"
            if answer.answer == SKIP:
                (skips,) = db.execute(
                    f"SELECT count(*) FROM judgements j WHERE j.task = ? AND {STANDING}",
                    (answer.task,),
                ).fetchone()
                state = "skipped" if skips == 1 else "dropped"
            db.execute("UPDATE tasks SET state = ? WHERE id = ?", (state, answer.task))
            return int(cursor.lastrowid or 0), False

    def undo(self, annotator: str, judgement: int) -> bool:
        """Take back an annotator's last standing answer; its task is open again.

        Returns:
            Whether it had been taken back before, by the same request sent twice.

        Raises:
            LabellingError: No such answer of this annotator.
            ConflictError: A later answer to the same kind of question still stands.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT j.task, t.annotator, t.kind, t.scale, u.id FROM judgements j "
                "JOIN tasks t ON t.id = j.task JOIN annotators p ON p.id = t.annotator "
                "LEFT JOIN undos u ON u.judgement = j.id WHERE j.id = ? AND p.name = ?",
                (judgement, annotator),
            ).fetchone()
            if row is None:
                raise LabellingError(f"annotator {annotator} has given no answer {judgement}")
            task, person, kind, scale, undone = row
            if undone is not None:
                return True
            later = db.execute(
                "SELECT 1 FROM judgements j JOIN tasks t ON t.id = j.task WHERE j.id > ? "
                f"AND t.annotator = ? AND t.kind = ? AND t.scale = ? AND {STANDING} LIMIT 1",
                (judgement, person, kind, scale),
            ).fetchone()
            if later:
                raise ConflictError(f"answer {judgement} is not the last one that stands")
            db.execute("INSERT INTO undos(judgement, created) VALUES (?, ?)", (judgement, now()))
            db.execute("UPDATE tasks SET state = 'open' WHERE id = ?", (task,))
            return False

    def recent(self, annotator: str, kind: Kind, scale: int, count: int) -> list[Judgement]:
        """Return the last standing answers, the newest first; skips are among them."""
        rows = self._rows(
            f"{EVENT} WHERE p.name = ? AND t.kind = ? AND t.scale = ? AND u.id IS NULL "
            "ORDER BY j.id DESC LIMIT ?",
            annotator,
            kind,
            scale,
            count,
        )
        return [judgement_of(row) for row in rows]

    def judgements(self) -> list[Judgement]:
        """Return every event of every annotator in order, undone ones marked.

        Raises:
            StorageError: One is none that the app could have written.
        """
        events = [judgement_of(row) for row in self._rows(f"{EVENT} ORDER BY j.id")]
        for event in events:
            with reading(self.path, f"judgement {event.id} is none", StorageError):
                check_event(event)
        return events

    def counts(self, annotator: str, kind: Kind, scale: int) -> dict[str, int]:
        """Return the number of tasks in each state, and of ``repeats`` among them."""
        rows = self._rows(
            "SELECT t.state, count(*), sum(t.reason = 'repeat') FROM tasks t "
            "WHERE t.annotator = (SELECT id FROM annotators WHERE name = ?) "
            "AND t.kind = ? AND t.scale = ? GROUP BY t.state",
            annotator,
            kind,
            scale,
        )
        counts = dict.fromkeys(("open", "done", "skipped", "dropped"), 0)
        counts.update({state: count for state, count, _ in rows})
        return counts | {"repeats": sum(repeats for _, _, repeats in rows)}

    def restore(self, events: Sequence[Judgement]) -> None:
        """Enter the events of an export into an empty file, numbers and times as they were.

        Raises:
            LabellingError: The file holds judgements already.
        """
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM judgements LIMIT 1").fetchone():
                raise LabellingError(f"{self.path} holds judgements already; nothing was changed")
            db.execute("DELETE FROM tasks")
            for event in events:
                name, q, a = event.task.annotator, event.task.question, event.answer
                db.execute("INSERT OR IGNORE INTO annotators(name) VALUES (?)", (name,))
                task = (q.kind, q.scale, q.a, q.b, q.left_is_a, q.reason, event.task.state)
                db.execute(
                    "INSERT OR IGNORE INTO tasks VALUES (?, "
                    "(SELECT id FROM annotators WHERE name = ?), ?, ?, ?, ?, ?, ?, ?)",
                    (event.task.id, name, *task),
                )
                answer = dataclasses.astuple(a)
                db.execute(
                    "INSERT INTO judgements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (event.id, *answer, event.created),
                )
            undone = sorted((e.undone, -e.id) for e in events if e.undone is not None)
            db.executemany(
                "INSERT INTO undos(created, judgement) VALUES (?, ?)",
                [(created, -negative) for created, negative in undone],
            )


def now() -> str:
    """Return the time, ISO 8601 in UTC to the microsecond."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
