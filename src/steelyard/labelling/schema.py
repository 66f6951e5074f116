"""The tables of ``labels.sqlite``, and the rules under which such a file is opened.

The log is append-only: triggers refuse to change or delete a judgement or an undo, so that nothing
a person once answered can get lost by a program's mistake. One process writes; a lock that the
system releases when the process dies keeps a second one out.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
from pathlib import Path
from typing import IO

from steelyard.files import regular_file
from steelyard.labelling.records import LabellingError

SCHEMA = 1
FILE = "labels.sqlite"

TABLES = """
CREATE TABLE meta(
  schema_version INTEGER NOT NULL, dataset_sha256 TEXT NOT NULL, settings TEXT NOT NULL);
CREATE TABLE segments(
  id INTEGER PRIMARY KEY, sha256 TEXT, episode INTEGER NOT NULL, "window" INTEGER NOT NULL,
  start_s REAL NOT NULL, duration_s REAL NOT NULL, clip TEXT NOT NULL);
CREATE TABLE annotators(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE tasks(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  annotator INTEGER NOT NULL REFERENCES annotators(id),
  kind TEXT NOT NULL CHECK (kind IN ('rate', 'pair')),
  scale INTEGER NOT NULL,
  a INTEGER NOT NULL REFERENCES segments(id),
  b INTEGER REFERENCES segments(id),
  left_is_a INTEGER NOT NULL CHECK (left_is_a IN (0, 1)),
  reason TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('open', 'done', 'skipped', 'dropped')));
CREATE INDEX tasks_of_annotator ON tasks(annotator, kind, scale, state);
CREATE INDEX tasks_of_question ON tasks(kind, scale, a, b, annotator);
CREATE INDEX tasks_shared ON tasks(kind, scale) WHERE reason = 'shared';
CREATE TABLE judgements(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  client_uuid TEXT NOT NULL UNIQUE,
  task INTEGER NOT NULL REFERENCES tasks(id),
  answer TEXT NOT NULL,
  strength INTEGER NOT NULL,
  response_ms INTEGER NOT NULL,
  watched_left_s REAL NOT NULL,
  watched_right_s REAL NOT NULL,
  created TEXT NOT NULL);
CREATE INDEX judgements_of_task ON judgements(task);
CREATE TABLE undos(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  judgement INTEGER NOT NULL UNIQUE REFERENCES judgements(id),
  created TEXT NOT NULL);
"""
GUARDS = "".join(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;\n"
    for table in ("judgements", "undos")
    for verb in ("update", "delete")
)


def connect(path: Path, read_only: bool) -> sqlite3.Connection:
    """Open the file; transactions are begun by hand, and a commit waits for the disk."""
    mode = "ro" if read_only else "rwc"
    settled = not path.with_name(f"{path.name}-wal").exists()
    if read_only and settled and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"  # WAL wants to write beside the file, which nobody else can either
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10,
    )
    return connection


def prepare(connection: sqlite3.Connection, path: Path, sha256: str, read_only: bool) -> None:
    """Set the rules of a connection, make the tables of a new file, check those of an old one.

    Raises:
        LabellingError: See :func:`check`.
        sqlite3.DatabaseError: The file is no database.
    """
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    if not read_only:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            _create(connection, sha256, {})
    check(connection, path, sha256)


def _create(connection: sqlite3.Connection, sha256: str, settings: dict) -> None:
    """Make the tables of a new file, all or none of them."""
    connection.executescript(f"BEGIN IMMEDIATE; {TABLES} {GUARDS}")
    connection.execute("INSERT INTO meta VALUES (?, ?, ?)", (SCHEMA, sha256, json.dumps(settings)))
    connection.execute("COMMIT")


def check(connection: sqlite3.Connection, path: Path, sha256: str) -> None:
    """Raise unless the file is of this schema and of this data set.

    Raises:
        LabellingError: Says both versions, or both hashes; nothing is migrated. Or it holds other
            tables, or is damaged.
    """
    row = connection.execute(
        "SELECT schema_version, CAST(dataset_sha256 AS TEXT) FROM meta"
    ).fetchone()
    if row is None or row[0] != SCHEMA:
        found = "none" if row is None else repr(row[0])
        raise LabellingError(
            f"{path} has schema {found}, this version reads {SCHEMA}; nothing was changed. "
            "Use the version of steelyard that wrote it."
        )
    if row[1] != sha256:
        raise LabellingError(
            f"{path} belongs to another data set: its segments.h5 has SHA-256 {row[1][:12]}…, "
            f"the one beside it {sha256[:12]}…; judgements of one are no judgements of the other"
        )
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(TABLES + GUARDS)
        wanted = _definitions(fresh)
    strange = _definitions(connection) ^ wanted
    if strange:
        raise LabellingError(
            f"{path}: its tables must be those that this version makes; different: "
            f"{', '.join(sorted({name for _, name, _ in strange}))[:200]}"
        )
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise LabellingError(f"{path} is damaged: {found}")


def _definitions(connection: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Kind, name and text of all tables, indices and triggers; a stranger's could be anything."""
    rows = connection.execute(
        "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite~_%' "
        "ESCAPE '~'"
    )
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


def opened(path: Path, sha256: str, read_only: bool) -> tuple[sqlite3.Connection, IO[str] | None]:
    """Open, or make, a file of judgements; what holds it comes with it unless it is only looked at.

    Raises:
        LabellingError: See ``Store.open``.
    """
    if read_only and not path.exists():
        raise LabellingError(
            f"nothing was judged yet: {path} does not exist. "
            f"`steelyard label serve {path.parent}` makes it."
        )
    refuse_strange(path)
    with contextlib.ExitStack() as unless_done:
        held = None
        if not read_only:
            refuse_unwritable(path)
            held = unless_done.enter_context(lock(path))
        try:
            connection = connect(path, read_only)
            unless_done.callback(connection.close)
            prepare(connection, path, sha256, read_only)
        except sqlite3.DatabaseError as error:
            raise LabellingError(f"{path} is no database of judgements: {error}") from error
        unless_done.pop_all()
    return connection, held


def refuse_strange(path: Path) -> None:
    """Raise where the file, or one that SQLite keeps beside it, is none or lies elsewhere.

    A pipe makes SQLite wait without end, and through a link it would write outside the data set.

    Raises:
        LabellingError: Names the file.
    """
    for name in (path.name, *(path.name + end for end in ("-wal", "-shm", "-journal", ".lock"))):
        place = path.with_name(name)
        inside = os.path.realpath(path.parent) + os.sep
        if place.is_symlink() and not os.path.realpath(place).startswith(inside):
            raise LabellingError(f"{place} is a link that leads out of the data set")
        if os.path.exists(place):
            regular_file(place, LabellingError)


def refuse_unwritable(path: Path) -> None:
    """Raise where judgements could not be saved.

    Raises:
        LabellingError: The file or its folder is read-only.
    """
    folder = path.parent
    # A file without any write bit is meant to stay as it is, even where root could write.
    frozen = path.exists() and not path.stat().st_mode & 0o222
    if frozen or not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise LabellingError(
            f"{path} is read-only, so no judgement could be saved: chmod u+w {path.name}, "
            "or copy the data set"
        )


def lock(path: Path) -> IO[str]:
    """Take the file for this process; the system lets go of it when the process ends.

    Raises:
        LabellingError: Another process holds it; names that process.
    """
    place = path.with_name(f"{path.name}.lock")
    handle = place.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise LabellingError(
            f"{path} is already open in process {holder}; one process at a time writes it. "
            "Several annotators share one server: each opens its page and gives a name."
        ) from error
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
