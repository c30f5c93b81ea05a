"""The durable queue: what an outbox has in its file, and each step that changes it.

Each method is one transaction, which is on the disk when it returns. How a message goes:

1. `insert`: it is queued, in the lane of its sender. With a held list, it waits for a moderator.
2. `claim`: a worker takes a lane, and the first message in it that is due. The message is still
   queued. If the worker dies, nothing has been sent, and the lane is free again.
3. `begin_sending`: the last step before the server may accept the message. If the worker dies now,
   the message is uncertain.
4. `finish`: what became of it, and the lane is free again.

A worker that died is known by its lock (`worker_lock.py`), not by a time: one that is only slow or
stopped never loses its messages to another.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from typing import Any

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail._util.text import show
from ratelimit_mail.outbox.message import OutboxMessage, OutboxStats, OutgoingMessage, State
from ratelimit_mail.outbox.records import Claim, NewMessage
from ratelimit_mail.outbox.rows import (
    existing_row,
    fetch_row,
    insert_message,
    read_headers,
    read_message,
    stored_integer,
)
from ratelimit_mail.outbox.store_changes import ChangesStore
from ratelimit_mail.outbox.store_sending import SendingStore
from ratelimit_mail.outbox.worker_lock import is_dead

__all__ = ["Store"]


class Store(SendingStore, ChangesStore):
    """The queue in one file. Safe for threads; a forked process opens a connection of its own.

    shared: whether the file may have tables of another program.
    """

    # Putting.

    def insert(self, new: NewMessage) -> tuple[OutboxMessage, bool]:
        """Insert a message, and return it; with a key that exists, return the message that has it.

        Also return whether it is new.
        """
        with self._transaction() as connection:
            return insert_message(connection, "main", new)

    def insert_with(
        self, connection: sqlite3.Connection, new: NewMessage
    ) -> tuple[OutboxMessage, bool]:
        """Insert a message in the transaction of a connection that the caller has.

        Raises ValueError if the connection has not opened this file, or has no transaction and
        would not begin one.
        """
        if not isinstance(connection, sqlite3.Connection):
            raise TypeError(f"connection: a sqlite3.Connection is needed, not {show(connection)}")
        schema = self._schema_of(connection)
        if not connection.in_transaction:
            # Python 3.12 has `autocommit`: where it is True, no transaction begins by itself.
            if connection.isolation_level is None or getattr(connection, "autocommit", 0) is True:
                raise ValueError(
                    "connection: no transaction has begun, and it begins none by itself:"
                    " execute BEGIN first"
                )
            connection.execute("BEGIN")
        connection.execute("SAVEPOINT outbox_put")
        factory, connection.row_factory = connection.row_factory, sqlite3.Row
        try:
            result = insert_message(connection, schema, new)
        except BaseException:
            connection.execute("ROLLBACK TO outbox_put")
            raise
        finally:
            connection.execute("RELEASE outbox_put")
            connection.row_factory = factory
        return result

    def _schema_of(self, connection: sqlite3.Connection) -> str:
        """Return the quoted name under which a connection has opened the file of this outbox."""
        for row in connection.execute("PRAGMA database_list"):
            _, name, file = tuple(row)
            if file and os.path.samefile(file, self.path):
                return '"' + str(name).replace('"', '""') + '"'
        raise ValueError(
            f"connection: it has not opened the file of the outbox, {show(str(self.path))}"
        )

    # Looking.

    def get(self, id: int) -> OutboxMessage | None:  # noqa: A002
        """Return a message; None if there is none."""
        with self._transaction(write=False) as connection:
            return read_message(connection, "main", id)

    def list(
        self,
        state: State | None,
        lane: str | None,
        held_by: Iterable[str] | None,
        after: int,
        limit: int,
    ) -> tuple[OutboxMessage, ...]:
        """Return messages in the order in which they were put, from the one behind `after` on."""
        conditions = ["id > ?"]
        arguments: Any = [stored_integer(after)]
        if state is not None:
            conditions.append("state = ?")
            arguments.append(state)
        if lane is not None:
            conditions.append("lane = ?")
            arguments.append(lane)
        if held_by is not None:
            lists = [*held_by]
            marks = ", ".join("?" * len(lists))
            conditions.append(
                "id IN (SELECT message FROM outbox_holds WHERE decided_at IS NULL"  # noqa: S608
                f" AND list IN ({marks}))"
            )
            arguments += lists
        arguments.append(stored_integer(limit))
        query = f"SELECT id FROM outbox_messages WHERE {' AND '.join(conditions)}"  # noqa: S608
        with self._transaction(write=False) as connection:
            ids = connection.execute(f"{query} ORDER BY id LIMIT ?", arguments).fetchall()
            messages = [read_message(connection, "main", row[0]) for row in ids]
        return tuple(each for each in messages if each is not None)

    def pending_holds(self) -> frozenset[str]:
        """Return the mailing lists of which a message is held."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT DISTINCT list FROM outbox_holds WHERE decided_at IS NULL"
            )
            return frozenset(row[0] for row in rows)

    def stats(self) -> OutboxStats:
        """Return how many messages there are."""
        with self._transaction(write=False) as connection:
            counts = dict.fromkeys(State, 0)
            for row in connection.execute(
                "SELECT state, count(*) FROM outbox_messages GROUP BY state"
            ):
                counts[State(row[0])] = row[1]
            [senders] = fetch_row(
                connection, "SELECT count(*) FROM outbox_lanes WHERE ready_at IS NOT NULL"
            )
            [oldest] = fetch_row(
                connection, "SELECT min(put_at) FROM outbox_messages WHERE state = 'queued'"
            )
            noted = [row[0] for row in connection.execute("SELECT id FROM outbox_workers")]
        workers = sum(not is_dead(self.path, each) for each in noted)  # a killed one is still noted
        moment = None if oldest is None else datetime_of(oldest)
        return OutboxStats(counts=counts, senders=senders, oldest=moment, workers=workers)

    def is_empty(self) -> bool:
        """Return whether nothing is queued and nothing is being sent."""
        with self._transaction(write=False) as connection:
            query = "SELECT 1 FROM outbox_messages WHERE state = ? LIMIT 1"
            return not any(
                connection.execute(query, (each,)).fetchone()
                for each in (State.QUEUED, State.SENDING)
            )

    def content(self, claim: Claim) -> OutgoingMessage:
        """Return what a transport gets of a claimed message."""
        with self._transaction(write=False) as connection:
            row = fetch_row(
                connection, "SELECT body FROM outbox_bodies WHERE message = ?", claim.id
            )
        return OutgoingMessage(
            id=claim.id,
            key=claim.key,
            message_id=claim.message_id,
            sender=claim.envelope.sender,
            recipients=claim.envelope.recipients,
            content=row["body"],
        )

    def text(self, id: int) -> bytes | None:  # noqa: A002
        """Return the text of a message; None if it is not stored any more.

        Raises KeyError if there is no such message.
        """
        with self._transaction(write=False) as connection:
            existing_row(connection, id)
            row = connection.execute(
                "SELECT body FROM outbox_bodies WHERE message = ?", (id,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def headers_text(self, id: int) -> bytes:  # noqa: A002
        """Return the first bytes of a stored message, with most of its headers."""
        with self._transaction(write=False) as connection:
            return read_headers(connection, id)

    def sent_since(self, moment: int) -> int:
        """Return how many messages were sent, or perhaps were, at or after a moment."""
        with self._transaction(write=False) as connection:
            [count] = fetch_row(
                connection,
                "SELECT count(*) FROM outbox_messages"
                " WHERE state IN ('sent', 'uncertain') AND changed_at >= ?",
                moment,
            )
            return int(count)
