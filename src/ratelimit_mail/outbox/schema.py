"""The tables of an outbox, and how its file is created and opened.

An outbox has a file of its own, or stands beside the tables of an application in the application's
file. Its tables all begin with `outbox_`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from ratelimit_mail._util.sqlite_errors import with_next_step
from ratelimit_mail._util.text import show
from ratelimit_mail.exceptions import OutboxError

__all__ = ["APPLICATION_ID", "VERSION", "connect", "create_file"]

APPLICATION_ID: Final = 0x524C4D4F
""""RLMO", in the header of a file that only has an outbox."""

VERSION: Final = 1

SYNCHRONOUS: Final = "FULL"
"""Every commit is on the disk when it returns."""

BUSY_SECONDS: Final = 30.0
"""How long a transaction waits for those of other processes."""

_LARGEST_WAL: Final = 64 * 1024 * 1024

_TABLES: Final = """
CREATE TABLE outbox_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE outbox_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    key TEXT UNIQUE,
    sender TEXT NOT NULL,
    lane TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    put_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    deadline INTEGER,
    expires_at INTEGER,
    first_attempt_at INTEGER,
    changed_at INTEGER NOT NULL,
    expected_at INTEGER,
    delayed_at INTEGER,
    notified_at INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    round INTEGER NOT NULL DEFAULT 0,
    charge TEXT,
    owner TEXT,
    client TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    reply TEXT
);
CREATE INDEX outbox_heads ON outbox_messages (lane, state, priority DESC, id, next_at);
CREATE INDEX outbox_due ON outbox_messages (lane, state, next_at);
CREATE INDEX outbox_states ON outbox_messages (state, changed_at);
CREATE INDEX outbox_expiries ON outbox_messages (expires_at)
    WHERE expires_at IS NOT NULL AND state IN ('queued', 'held');
CREATE INDEX outbox_unreported ON outbox_messages (lane, next_at)
    WHERE state = 'queued' AND delayed_at IS NULL;
CREATE INDEX outbox_unannounced ON outbox_messages (put_at)
    WHERE state = 'queued' AND notified_at IS NULL;
CREATE INDEX outbox_charges ON outbox_messages (id) WHERE charge IS NOT NULL;

CREATE TABLE outbox_bodies (message INTEGER PRIMARY KEY, body BLOB NOT NULL);

CREATE TABLE outbox_recipients (
    message INTEGER NOT NULL,
    number INTEGER NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    round INTEGER,
    reply TEXT,
    PRIMARY KEY (message, number)
) WITHOUT ROWID;

CREATE TABLE outbox_holds (
    message INTEGER NOT NULL,
    list TEXT NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    PRIMARY KEY (message, list)
) WITHOUT ROWID;

CREATE TABLE outbox_lanes (
    subject TEXT PRIMARY KEY,
    owner TEXT,
    claimed INTEGER,
    booked INTEGER,
    ready_at INTEGER,
    wait_until INTEGER NOT NULL DEFAULT 0,
    delayed_until INTEGER,
    served INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX outbox_served ON outbox_lanes (served, owner, ready_at, wait_until);

CREATE TABLE outbox_workers (id TEXT PRIMARY KEY, pid INTEGER NOT NULL, started_at INTEGER NOT NULL)
    WITHOUT ROWID;
"""
"""The tables of version 1; times are milliseconds since the epoch.

outbox_messages: `lane` is the sender as limits count it; the messages of a lane go one after the
    other. `next_at` is when a queued message may be tried. `deadline` is when it is too late to
    send it, and `expires_at` when it ends, which for a held one may be earlier.
    `round` numbers its admissions: `uid` and it are the id with which the limiter is asked.
    `charge` is what the limiter does not know yet of the last round: `settle` or `refund`. `owner`
    is the worker that is sending it.
outbox_recipients: `round` is the last round in which the recipient was tried.
outbox_lanes: `owner` is the worker that works on the lane, on the message `claimed`. `booked` is
    the message for which a place may be booked. `ready_at` is the earliest `next_at` of the
    lane's queued messages. `wait_until` is when the lane is looked at again, and `delayed_until`
    when its limits allow the next message, if that is what it waits for.
"""


def create_file(path: Path) -> None:
    """Create an empty file that only its owner may read; leave a file that exists as it is."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise OutboxError(f"the outbox {show(str(path))} cannot be created: {error}") from error


def connect(path: Path, *, shared: bool) -> sqlite3.Connection:
    """Return a connection to the outbox at `path`, whose tables are created if they are missing.

    shared: whether the file may have tables of another program.

    Raises ValueError for a file of another program, and OutboxError for one that cannot be used.
    """
    create_file(path)
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _open(connection, path, shared=shared)
    except sqlite3.Error as error:
        connection.close()
        raise OutboxError(
            f"the outbox {show(str(path))} cannot be opened: {with_next_step(error)}"
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _open(connection: sqlite3.Connection, path: Path, *, shared: bool) -> None:
    connection.row_factory = sqlite3.Row
    tables = _table_names(connection)
    _check_program(tables, path, shared=shared)
    if not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _set_wal(connection)
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
    if "outbox_meta" not in tables:
        _create(connection, path, shared=shared)
    [version] = connection.execute("SELECT value FROM outbox_meta WHERE name = 'version'")
    if version[0] != VERSION:
        raise OutboxError(
            f"the outbox {show(str(path))} has version {version[0]}; this library reads {VERSION}"
        )


def _table_names(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in rows if not row[0].startswith("sqlite_")}


def _check_program(tables: set[str], path: Path, *, shared: bool) -> None:
    """Raise ValueError if the file belongs to another program, and is not shared with it."""
    if shared or not tables or "outbox_meta" in tables:
        return
    raise ValueError(
        f"path: {show(str(path))} has tables of another program;"
        " with shared=True, those of the outbox are created beside them"
    )


def _set_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite does not wait by itself if another process does so."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _create(connection: sqlite3.Connection, path: Path, *, shared: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        tables = _table_names(connection)  # another process may have created them meanwhile
        if "outbox_meta" not in tables:
            _check_program(tables, path, shared=shared)
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO outbox_meta VALUES ('version', ?)", (VERSION,))
            if not tables:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
