"""StoreFile: the connection to the file of an outbox, and its transactions."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ratelimit_mail._util.sqlite_errors import with_next_step
from ratelimit_mail._util.text import show
from ratelimit_mail.exceptions import OutboxError
from ratelimit_mail.outbox.schema import connect

__all__ = ["BATCH", "StoreFile"]

BATCH: Final = 500
"""How many messages a cleaning step changes at most, so that `put` never waits for long."""

_of_parents: Final[Any] = []
"""Connections of parent processes: SQLite does not allow a child to use or to close them."""


class StoreFile:
    """The file of an outbox. Safe for threads; a forked process opens a connection of its own.

    shared: whether the file may have tables of another program.
    """

    def __init__(self, path: Path, *, shared: bool) -> None:
        self.path = path
        self._shared = shared
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = connect(path, shared=shared)

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None and self._pid == os.getpid():
            self._connection.close()  # type: ignore[union-attr] # seen above

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():  # after a fork: the parent's connection must not be used
            _of_parents.append(self._connection)
            self._lock, self._pid, self._connection = threading.RLock(), os.getpid(), None
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.path, shared=self._shared)
            connection = self._connection
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise OutboxError(
                    f"the outbox {show(str(self.path))}: {with_next_step(error)}"
                ) from error
