"""Database: one connection to the file, for one thread at a time.

A transaction that finds the file locked tries again until the timeout. Errors of SQLite become
BackendUnavailable or BackendError that name the file and say what to do; whatever was begun is
rolled back, so an operation has happened as a whole or not at all.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from weakref import WeakSet

from ratelimit_mail._util.sqlite_errors import BUSY, DAMAGED, REASONS, primary_code
from ratelimit_mail.backends.sqlite.schema import APPLICATION_ID, SCHEMA, VERSION
from ratelimit_mail.backends.sqlite.upgrade import upgrade
from ratelimit_mail.exceptions import BackendError, BackendUnavailable

__all__ = ["Database", "Durability"]

Durability = Literal["process", "power"]

T = TypeVar("T")

SYNCHRONOUS: Final[dict[str, str]] = {"process": "NORMAL", "power": "FULL"}

LOOK_EVERY: Final = 1.0
"""How many seconds pass before the path is looked at again: the file may have been replaced."""


class Database:
    """The file, and what is known of it in this process.

    path: of the file. timeout: the most seconds to wait for other threads and processes.
    durability: what a committed transaction survives. reconnected: called when the file may be
        another than before.
    """

    def __init__(
        self,
        path: str,
        timeout: float,
        durability: Durability,
        reconnected: Callable[[], None],
    ) -> None:
        self.path = path
        self._timeout = timeout
        self._durability = durability
        self._reconnected = reconnected
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._identity: tuple[int, int] | None = None
        self._look_at = 0.0
        self._lock = threading.Lock()
        self._take_lock = partial(self._lock.acquire, True, self._timeout)
        self._owner = 0
        self._forking_thread = 0
        """The thread that holds the lock while it forks."""
        _databases.add(self)

    def __del__(self) -> None:
        self._drop_connection()

    def is_busy_here(self) -> bool:
        """Return whether this very thread is inside a transaction."""
        return self._owner == threading.get_ident()

    def transaction(
        self,
        work: Callable[..., T],
        arguments: tuple[Any, ...],
        committed: Callable[[], None],
        rolled_back: Callable[[], None],
        *,
        writes: bool = True,
    ) -> T:
        """Return `work(cursor, *arguments)`, which is committed, or rolled back by an error.

        writes: whether it may write; other processes wait then.
        """
        if self._forking_thread:
            self._end_fork()
        lock = self._lock  # a fork replaces it
        # As safe as `with`: no signal is handled between the lock and the `try`.
        for _ in iter(self._take_lock, False):
            try:
                self._owner = threading.get_ident()
                cursor = self._cursor
                if cursor is None or time.monotonic() >= self._look_at:
                    cursor = self._connect()
                try:
                    if writes:
                        try:
                            cursor.execute("BEGIN IMMEDIATE")
                        except sqlite3.OperationalError as error:
                            self._begin_later(cursor, error)
                    else:
                        cursor.execute("BEGIN")
                    result = work(cursor, *arguments)
                    cursor.execute("COMMIT")
                except BaseException:
                    rolled_back()
                    self._roll_back()
                    raise
                committed()
                return result
            except sqlite3.Error as error:
                raise self._translated(error) from error
            finally:
                self._owner = 0
                lock.release()
        raise self._used_by_threads()

    def _used_by_threads(self) -> BackendUnavailable:
        return self._unavailable(
            f"other threads of this process have used it for {self._timeout:g} seconds"
        )

    def _begin_later(self, cursor: sqlite3.Cursor, error: sqlite3.Error) -> None:
        """Try again to begin a transaction, until the timeout."""
        deadline = time.monotonic() + self._timeout
        pause = 0.0002
        while True:
            if primary_code(error) not in BUSY or time.monotonic() >= deadline:
                raise error
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads processes
            pause = min(2 * pause, 0.005)
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as again:
                error = again
            else:
                return

    def _roll_back(self) -> None:
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        if self._forking_thread:
            self._end_fork()
        for _ in iter(self._take_lock, False):
            try:
                return self._drop_connection()
            finally:
                self._lock.release()
        raise self._used_by_threads()

    # Opening.

    def _connect(self) -> sqlite3.Cursor:
        """Return a cursor of a connection to the file that the path names now."""
        self._look_at = time.monotonic() + LOOK_EVERY
        if self._cursor is not None:
            if self._identity == self._current_identity():
                return self._cursor
            self._drop_connection()  # the file was moved, deleted or replaced
        self._reconnected()
        deadline = time.monotonic() + self._timeout
        while True:
            self._create_file()
            connection = sqlite3.connect(
                f"{Path(self.path).as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
            )
            try:
                self._set_up(connection)
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.close()
                is_busy = isinstance(error, sqlite3.Error) and primary_code(error) in BUSY
                if not is_busy or time.monotonic() >= deadline:
                    raise
                time.sleep(0.001 + 0.004 * random.random())  # noqa: S311 - spreads processes
            else:
                self._identity = self._current_identity()
                self._connection = connection
                self._cursor = connection.cursor()
                return self._cursor

    def _current_identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _create_file(self) -> None:
        """Create an empty file that only its owner can read, because it will hold addresses."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise self._error("it is not a regular file; name another path") from None
        except FileNotFoundError:
            directory = Path(self.path).parent
            raise self._unavailable(f"the directory {str(directory)!r} does not exist") from None
        except OSError as error:
            raise self._unavailable(f"it cannot be opened or created: {error.strerror}") from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        execute(f"PRAGMA synchronous={SYNCHRONOUS[self._durability]}")
        version = self._version(connection)
        if version:
            execute("PRAGMA journal_mode=WAL").fetchall()
        else:
            execute("PRAGMA auto_vacuum=INCREMENTAL")
            [mode] = execute("PRAGMA journal_mode=WAL").fetchone()
            if mode != "wal":
                raise self._error(
                    "its file system cannot share memory between processes, as a write-ahead log"
                    " needs; use a local disk"
                )
        if version != VERSION:
            with _write_transaction(connection):
                version = self._version(connection)  # another process may have been quicker
                if not version:
                    for statement in SCHEMA:
                        execute(statement)
                    execute(f"PRAGMA application_id={APPLICATION_ID}")
                    execute(f"PRAGMA user_version={VERSION}")
                elif version != VERSION:
                    upgrade(connection)
        execute("PRAGMA journal_size_limit=8388608").fetchall()

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables in the file; 0 if it is empty.

        Raises BackendError if it is another program's, or of a newer version of this library.
        """
        [application] = connection.execute("PRAGMA application_id").fetchone()
        version = _version_of(connection)
        if application == APPLICATION_ID:
            if not 1 <= version <= VERSION:
                raise self._error(
                    f"it was written by another version of ratelimit-mail: its tables have version"
                    f" {version}, and this one reads version {VERSION}; upgrade, or name another"
                    " file"
                )
            return int(version)
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise self._error(
                "it is a SQLite database of another program; nothing was changed. Name another file"
            )
        return 0

    # Errors.

    def _translated(self, error: sqlite3.Error) -> BackendError:
        code = primary_code(error)
        if code in BUSY:
            return self._unavailable(f"another process has locked it for {self._timeout:g} seconds")
        if code in DAMAGED:
            self._drop_connection()
            return self._error(
                f"{error}; nothing was changed. Restore it from a copy, or name another file"
            )
        if code in REASONS:
            self._drop_connection()
            return self._unavailable(f"{error}: {REASONS[code]}")
        return self._error(str(error))

    def _unavailable(self, reason: str) -> BackendUnavailable:
        error = BackendUnavailable(f"the SQLite file {self.path!r} is unavailable: {reason}")
        error.safe_to_repeat = True  # it was rolled back
        return error

    def _error(self, reason: str) -> BackendError:
        return BackendError(f"the SQLite file {self.path!r} cannot be used: {reason}")

    # A connection must not be used on both sides of a fork, nor be closed in the child.

    def before_fork(self) -> None:
        """Close the connection, once the transaction of another thread has ended."""
        self._end_fork()
        if self.is_busy_here():
            return
        thread = threading.get_ident()
        for _ in iter(self._take_lock, False):
            self._forking_thread = thread  # no signal is handled between the lock and this
            self._drop_connection()
            return

    def after_fork_in_parent(self) -> None:
        """Let other threads go on."""
        self._end_fork()

    def _end_fork(self) -> None:
        """Free the lock if this thread holds it for a fork.

        A signal may have broken off the end of that fork: the next call of the thread ends it.
        """
        if self._forking_thread != threading.get_ident():
            return
        for _ in iter(self._lock.release, True):
            self._forking_thread = 0  # no signal is handled between the lock and this
            return

    def after_fork_in_child(self) -> None:
        """Start without a connection."""
        if self._connection is not None:
            _abandoned.append(self._connection)
            self._connection = self._cursor = None
        self._lock = threading.Lock()
        self._take_lock = partial(self._lock.acquire, True, self._timeout)
        self._owner = self._forking_thread = 0


@contextmanager
def _write_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or roll it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _version_of(connection: sqlite3.Connection) -> int:
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


_databases: WeakSet[Database] = WeakSet()

_abandoned: list[sqlite3.Connection] = []
"""Connections of a parent process, which the child must not close."""


def _for_all(method: Callable[[Database], None]) -> Callable[[], None]:
    def call() -> None:
        for database in list(_databases):
            method(database)

    return call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(Database.before_fork),
        after_in_parent=_for_all(Database.after_fork_in_parent),
        after_in_child=_for_all(Database.after_fork_in_child),
    )
