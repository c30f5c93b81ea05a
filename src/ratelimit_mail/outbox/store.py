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

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail._util.text import show
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import OutboxError
from ratelimit_mail.outbox.message import (
    FINISHED,
    OutboxMessage,
    OutboxRecipient,
    OutboxStats,
    OutgoingMessage,
    State,
)
from ratelimit_mail.outbox.schema import connect
from ratelimit_mail.outbox.worker_lock import is_dead

__all__ = ["Claim", "Finish", "NewMessage", "OutstandingCharge", "Store", "Withdrawn", "Worker"]

QUEUED, SENDING, HELD = State.QUEUED, State.SENDING, State.HELD

_INSERTS: Final = (
    "INSERT INTO {schema}.outbox_messages (uid, key, sender, lane, priority, state, put_at,"
    " next_at, deadline, expires_at, changed_at, client, message_id, size)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO {schema}.outbox_bodies VALUES (?, ?)",
    "INSERT INTO {schema}.outbox_recipients (message, number, address, state)"
    " VALUES (?, ?, ?, 'queued')",
    "INSERT INTO {schema}.outbox_holds (message, list) VALUES (?, ?)",
)
_WAKE_LANE: Final = (
    "INSERT INTO {schema}.outbox_lanes (subject, ready_at) VALUES (?, ?)"
    " ON CONFLICT (subject) DO UPDATE SET"
    " ready_at = min(ifnull(ready_at, excluded.ready_at), excluded.ready_at),"
    " wait_until = CASE WHEN ? THEN 0 ELSE wait_until END"
)
"""The last value: whether this message goes before the one for which the lane waits."""

_MOST_WAITING: Final = 100_000
"""How many messages of one sender an estimate looks at."""

_BATCH: Final = 500
"""How many messages a cleaning step changes at most, so that `put` never waits for long."""

_MOST_EXPIRED: Final = 100
"""How many messages expire in one transaction, which makes a notice of each."""

_of_parents: Final[Any] = []
"""Connections of parent processes: SQLite does not allow a child to use or to close them."""


class Withdrawn(Exception):
    """The message was cancelled after it was claimed; nothing was sent."""


@attrs.frozen(kw_only=True)
class NewMessage:
    """A message that is to be inserted; times are milliseconds since the epoch.

    deadline: when it is too late to send it. expires_at: when it ends if it is still held.
    """

    uid: str
    key: str | None
    envelope: Envelope
    lane: str
    priority: int
    put_at: int
    next_at: int
    deadline: int | None
    expires_at: int | None
    message_id: str
    body: bytes = attrs.field(repr=False)
    held_by: Sequence[str] = ()


NoticeOf = Callable[[OutboxMessage, Callable[[], bytes]], NewMessage | None]
"""Returns the notice to the sender of a message that has ended, by its first bytes; or None."""


@attrs.frozen(kw_only=True)
class Worker:
    """A program that sends. id: the name of its lock."""

    id: str
    pid: int


@attrs.frozen(kw_only=True)
class Claim:
    """A message that a worker has claimed.

    envelope: its sender, the recipients that have not got it yet, and the id of this round.
    stale: the envelope of another message of the lane for which a place may be booked.
    """

    id: int
    uid: str
    key: str | None
    lane: str
    round: int
    envelope: Envelope
    message_id: str
    put_at: int
    first_attempt_at: int | None
    attempts: int
    delayed_at: int | None
    stale: Envelope | None = None


@attrs.frozen(kw_only=True)
class Finish:
    """What became of a round.

    state: of the message. recipients: the state and the reply of each recipient that was tried.
    next_at, attempts: of a message that is queued again. reply: of the message.
    charge: what the limiter must do next: `"settle"` or `"refund"`.
    wait_until: when the lane may go on; None for at once.
    notices: messages that are put at the same time.
    """

    state: State
    recipients: Mapping[str, tuple[State, str | None]]
    charge: str | None
    next_at: int | None = None
    attempts: int = 0
    first_attempt_at: int | None = None
    reply: str | None = None
    wait_until: int | None = None
    notices: Sequence[NewMessage] = ()


@attrs.frozen(kw_only=True)
class OutstandingCharge:
    """A round of which the limiter does not know the end. action: `"settle"` or `"refund"`."""

    id: int
    envelope: Envelope
    action: str


class Store:
    """The queue in one file. Safe for threads; a forked process opens a connection of its own.

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
        if self._pid != os.getpid():  # after a fork: the parent's connection must not be touched
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
                raise OutboxError(f"the outbox {show(str(self.path))}: {error}") from error

    # Putting.

    def insert(self, new: NewMessage) -> tuple[OutboxMessage, bool]:
        """Insert a message, and return it; with a key that exists, return the message that has it.

        Also return whether it is new.
        """
        with self._transaction() as connection:
            return _insert(connection, "main", new)

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
            result = _insert(connection, schema, new)
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
            return _message(connection, "main", id)

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
        arguments: Any = [after]
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
        arguments.append(limit)
        query = f"SELECT id FROM outbox_messages WHERE {' AND '.join(conditions)}"  # noqa: S608
        with self._transaction(write=False) as connection:
            ids = connection.execute(f"{query} ORDER BY id LIMIT ?", arguments).fetchall()
            messages = [_message(connection, "main", row[0]) for row in ids]
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
            [senders] = _row(
                connection, "SELECT count(*) FROM outbox_lanes WHERE ready_at IS NOT NULL"
            )
            [oldest] = _row(
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
                connection.execute(query, (each,)).fetchone() for each in (QUEUED, SENDING)
            )

    def content(self, claim: Claim) -> OutgoingMessage:
        """Return what a transport gets of a claimed message."""
        with self._transaction(write=False) as connection:
            row = _row(connection, "SELECT body FROM outbox_bodies WHERE message = ?", claim.id)
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
            _existing(connection, id)
            row = connection.execute(
                "SELECT body FROM outbox_bodies WHERE message = ?", (id,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def headers_text(self, id: int) -> bytes:  # noqa: A002
        """Return the first bytes of a stored message, with most of its headers."""
        with self._transaction(write=False) as connection:
            return _headers_text(connection, id)

    def sent_since(self, moment: int) -> int:
        """Return how many messages were sent, or perhaps were, at or after a moment."""
        with self._transaction(write=False) as connection:
            [count] = _row(
                connection,
                "SELECT count(*) FROM outbox_messages"
                " WHERE state IN ('sent', 'uncertain') AND changed_at >= ?",
                moment,
            )
            return int(count)

    # Workers.

    def register(self, worker: Worker, now: int) -> None:
        """Note a worker, whose lock is held already."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO outbox_workers VALUES (?, ?, ?)", (worker.id, worker.pid, now)
            )

    def worker_ids(self) -> frozenset[str]:
        """Return the workers that are noted, or that own something."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT id FROM outbox_workers"
                " UNION SELECT owner FROM outbox_lanes WHERE owner IS NOT NULL"
                " UNION SELECT owner FROM outbox_messages WHERE state = 'sending'"
            )
            return frozenset(row[0] for row in rows)

    def forget_worker(
        self, worker_id: str, now: int, *, resend: bool, reason: str
    ) -> tuple[OutboxMessage, ...]:
        """Free what a worker that has ended or died owned. Return what it was sending.

        resend: whether that is queued again; otherwise it is uncertain.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, lane, round FROM outbox_messages WHERE owner = ? AND state = 'sending'",
                (worker_id,),
            ).fetchall()
            for row in rows:
                state = QUEUED if resend else State.UNCERTAIN
                connection.execute(
                    "UPDATE outbox_recipients SET state = ?, round = ?, reply = ?"
                    " WHERE message = ? AND state = 'queued'",
                    (state, row["round"], reason, row["id"]),
                )
                connection.execute(
                    "UPDATE outbox_messages SET state = ?, owner = NULL, charge = 'settle',"
                    " round = round + 1, next_at = ?, changed_at = ?, reply = ?,"
                    " first_attempt_at = ifnull(first_attempt_at, ?) WHERE id = ?",
                    (state, now, now, reason, now, row["id"]),
                )
                connection.execute(
                    "UPDATE outbox_lanes SET booked = NULL WHERE subject = ?", (row["lane"],)
                )
            lanes = connection.execute(
                "SELECT subject FROM outbox_lanes WHERE owner = ?", (worker_id,)
            ).fetchall()
            for subject in {each[0] for each in lanes} | {row["lane"] for row in rows}:
                _free_lane(connection, subject, worker_id)
            connection.execute("DELETE FROM outbox_workers WHERE id = ?", (worker_id,))
            messages = [_message(connection, "main", row["id"]) for row in rows]
        return tuple(each for each in messages if each is not None)

    # Sending.

    def claim(self, worker: Worker, now: int) -> Claim | None:
        """Claim the first message that is due, of the sender served longest ago; None if none."""
        with self._transaction(write=False) as connection:
            if _next_lane(connection, now) is None:
                return None
        with self._transaction() as connection:
            while (lane := _next_lane(connection, now)) is not None:
                head = connection.execute(
                    "SELECT * FROM outbox_messages INDEXED BY outbox_heads WHERE lane = ?"
                    " AND state = 'queued' AND next_at <= ? ORDER BY priority DESC, id LIMIT 1",
                    (lane["subject"], now),
                ).fetchone()
                if head is None:
                    _set_ready(connection, lane["subject"])
                    continue
                stale = None
                if lane["booked"] not in (None, head["id"]):
                    stale = _booked_envelope(connection, lane["booked"])
                connection.execute(
                    "UPDATE outbox_lanes SET owner = ?, claimed = ?, booked = ?, served ="
                    " (SELECT max(served) + 1 FROM outbox_lanes) WHERE subject = ?",
                    (worker.id, head["id"], head["id"], lane["subject"]),
                )
                return Claim(
                    id=head["id"],
                    uid=head["uid"],
                    key=head["key"],
                    lane=lane["subject"],
                    round=head["round"],
                    envelope=_pending_envelope(connection, head),
                    message_id=head["message_id"],
                    put_at=head["put_at"],
                    first_attempt_at=head["first_attempt_at"],
                    attempts=head["attempts"],
                    delayed_at=head["delayed_at"],
                    stale=stale,
                )
        return None

    def next_due(self) -> int | None:
        """Return the first moment at which there may be something to do; None if there is none."""
        with self._transaction(write=False) as connection:
            moments = [
                *_row(
                    connection,
                    "SELECT min(max(ready_at, wait_until)) FROM outbox_lanes"
                    " WHERE owner IS NULL AND ready_at IS NOT NULL",
                ),
                *_row(
                    connection,
                    "SELECT min(expires_at) FROM outbox_messages"
                    " WHERE expires_at IS NOT NULL AND state IN ('queued', 'held')",
                ),
            ]
        return min((each for each in moments if each is not None), default=None)

    def release(
        self,
        claim: Claim,
        worker: Worker,
        wait_until: int | None = None,
        *,
        is_limited: bool = False,
    ) -> None:
        """Give a claimed lane back: its message waits, at least until `wait_until`.

        is_limited: whether the limits allow it then.
        """
        with self._transaction() as connection:
            if wait_until is not None:
                connection.execute(
                    "UPDATE outbox_lanes SET wait_until = ?,"
                    " delayed_until = CASE WHEN ? THEN ? END WHERE subject = ?",
                    (wait_until, is_limited, wait_until, claim.lane),
                )
            _free_lane(connection, claim.lane, worker.id)

    def begin_sending(self, claim: Claim, worker: Worker, now: int) -> None:
        """Note that the message is about to reach the server.

        Raises Withdrawn if it was cancelled meanwhile.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE outbox_messages SET state = 'sending', owner = ?, changed_at = ?"
                " WHERE id = ? AND state = 'queued'",
                (worker.id, now, claim.id),
            ).rowcount
            if not changed:
                raise Withdrawn(claim.id)

    def finish(self, claim: Claim, worker: Worker, finish: Finish, now: int) -> None:
        """Note what became of a claimed message, and give its lane back."""
        with self._transaction() as connection:
            numbers = dict(
                connection.execute(
                    "SELECT address, number FROM outbox_recipients WHERE message = ?", (claim.id,)
                ).fetchall()
            )
            connection.executemany(
                "UPDATE outbox_recipients SET state = ?, reply = ?, round = ?"
                " WHERE message = ? AND number = ?",
                [
                    (state, reply, claim.round, claim.id, numbers[address])
                    for address, (state, reply) in finish.recipients.items()
                ],
            )
            connection.execute(
                "UPDATE outbox_messages SET state = ?, owner = NULL, charge = ?,"
                " round = round + 1, attempts = ?, first_attempt_at = ?, reply = ?,"
                " next_at = ifnull(?, next_at), changed_at = ?"
                # A message that was cancelled before it reached the server stays so.
                " WHERE id = ? AND state IN ('queued', 'sending')",
                (
                    finish.state,
                    finish.charge,
                    finish.attempts,
                    finish.first_attempt_at,
                    finish.reply,
                    finish.next_at,
                    now,
                    claim.id,
                ),
            )
            connection.execute(
                "UPDATE outbox_lanes SET booked = NULL, wait_until = ifnull(?, wait_until)"
                " WHERE subject = ?",
                (finish.wait_until, claim.lane),
            )
            for notice in finish.notices:
                _insert(connection, "main", notice)
            _free_lane(connection, claim.lane, worker.id)

    def outstanding_charges(self, worker: Worker) -> tuple[OutstandingCharge, ...]:
        """Return the ends of rounds that the limiter does not know, of lanes that nobody else has.

        Those of lanes that another worker has are its own to report.
        """
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT *, (SELECT count(*) FROM outbox_recipients AS r WHERE r.message ="
                " outbox_messages.id AND r.round = outbox_messages.round - 1) AS recipients"
                " FROM outbox_messages WHERE charge IS NOT NULL AND NOT EXISTS"
                " (SELECT 1 FROM outbox_lanes WHERE subject = lane AND owner IS NOT NULL"
                " AND owner != ?) ORDER BY id LIMIT ?",
                (worker.id, _BATCH),
            ).fetchall()
            return tuple(
                OutstandingCharge(
                    id=row["id"],
                    envelope=_envelope(
                        row,
                        row["round"] - 1,
                        connection.execute(
                            "SELECT address FROM outbox_recipients"
                            " WHERE message = ? AND round = ? ORDER BY number",
                            (row["id"], row["round"] - 1),
                        ).fetchall(),
                    ),
                    action=row["charge"],
                )
                for row in rows
                if row["recipients"]
            )

    def charge_done(self, id: int) -> None:  # noqa: A002
        """Note that the limiter knows the end of a message's last round."""
        with self._transaction() as connection:
            connection.execute("UPDATE outbox_messages SET charge = NULL WHERE id = ?", (id,))

    # Waiting messages.

    def unreported_lanes(self, now: int, least: int) -> tuple[tuple[str, int], ...]:
        """Return lanes that wait for their limits and have a message that is not reported.

        Each with the time until which it waits, at least `least` milliseconds.
        """
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT subject, delayed_until FROM outbox_lanes AS l WHERE owner IS NULL"
                " AND delayed_until >= ? AND delayed_until = wait_until AND ready_at <= ?"
                " AND EXISTS (SELECT 1 FROM outbox_messages AS m WHERE m.lane = l.subject"
                " AND state = 'queued' AND delayed_at IS NULL AND next_at <= ?) LIMIT ?",
                (now + least, now, now, _BATCH),
            ).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def waiting_in(self, lane: str, now: int) -> tuple[tuple[int, int, int | None], ...]:
        """Return the due messages of a lane in their order; none if all delays are reported.

        Each with its number of recipients, and when its delay was reported.
        """
        with self._transaction(write=False) as connection:
            unreported = _row(
                connection,
                "SELECT 1 FROM outbox_messages WHERE lane = ? AND state = 'queued'"
                " AND delayed_at IS NULL AND next_at <= ? LIMIT 1",
                lane,
                now,
            )
            if unreported is None:
                return ()
            rows = connection.execute(
                "SELECT id, delayed_at, (SELECT count(*) FROM outbox_recipients AS r"
                " WHERE r.message = m.id AND r.state = 'queued') AS recipients"
                " FROM outbox_messages AS m WHERE lane = ? AND state = 'queued'"
                " AND next_at <= ? ORDER BY priority DESC, id LIMIT ?",
                (lane, now, _MOST_WAITING),
            ).fetchall()
        return tuple((row["id"], row["recipients"], row["delayed_at"]) for row in rows)

    def set_expected(
        self, expected: Mapping[int, int | None], now: int
    ) -> tuple[OutboxMessage, ...]:
        """Note when messages are expected to go; return those of which it is new that they wait."""
        delayed = []
        with self._transaction() as connection:
            for message, moment in expected.items():
                connection.execute(
                    "UPDATE outbox_messages SET expected_at = ? WHERE id = ? AND state = 'queued'",
                    (moment, message),
                )
                changed = connection.execute(
                    "UPDATE outbox_messages SET delayed_at = ?"
                    " WHERE id = ? AND state = 'queued' AND delayed_at IS NULL",
                    (now, message),
                ).rowcount
                if changed:
                    delayed.append(_message(connection, "main", message))
        return tuple(each for each in delayed if each is not None)

    def unannounced(self, put_before: int) -> tuple[OutboxMessage, ...]:
        """Return delayed messages, put at or before a moment, whose sender has no notice of it."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT id FROM outbox_messages WHERE state = 'queued' AND notified_at IS NULL"
                " AND put_at <= ? AND (delayed_at IS NOT NULL OR attempts > 0)"
                " AND sender != '<>' ORDER BY put_at LIMIT ?",
                (put_before, _BATCH),
            ).fetchall()
            messages = [_message(connection, "main", row[0]) for row in rows]
        return tuple(each for each in messages if each is not None)

    def next_unannounced(self) -> int | None:
        """Return when the oldest queued message without a notice was put; None if there is none."""
        with self._transaction(write=False) as connection:
            [moment] = _row(
                connection,
                "SELECT min(put_at) FROM outbox_messages WHERE state = 'queued'"
                " AND notified_at IS NULL AND (delayed_at IS NOT NULL OR attempts > 0)"
                " AND sender != '<>'",
            )
        return None if moment is None else int(moment)

    def announce(self, id: int, notice: NewMessage | None, now: int) -> None:  # noqa: A002
        """Note that a sender got a notice that the message is delayed, and put the notice."""
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE outbox_messages SET notified_at = ?"
                " WHERE id = ? AND notified_at IS NULL AND state = 'queued'",
                (now, id),
            ).rowcount
            if changed and notice is not None:
                _insert(connection, "main", notice)

    # Changes by hand, and by time.

    def cancel(self, id: int, now: int) -> Envelope | None:  # noqa: A002
        """Cancel a message that is not being sent. Return the envelope that may be booked for it.

        Raises KeyError if there is no such message, and ValueError if it is too late.
        """
        with self._transaction() as connection:
            row = _existing(connection, id)
            if row["state"] not in (QUEUED, HELD, State.UNCERTAIN):
                raise ValueError(f"message {id} is {row['state']}: it cannot be cancelled")
            booked = _booking(connection, row)
            _end(connection, row, State.CANCELLED, "cancelled", now)
            return booked

    def booking_given_back(self, id: int) -> None:  # noqa: A002
        """Note that no place is booked for a message that has ended.

        As long as this is not noted, the next message of its lane gives the place back.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox_lanes SET booked = NULL WHERE booked = ? AND owner IS NULL", (id,)
            )

    def retry(self, id: int, now: int) -> None:  # noqa: A002
        """Queue a message again that has ended, or try a queued one now.

        Raises KeyError if there is no such message, and ValueError if it cannot be tried.
        """
        with self._transaction() as connection:
            row = _existing(connection, id)
            if row["state"] in (SENDING, HELD, State.SENT):
                raise ValueError(f"message {id} is {row['state']}: it cannot be tried again")
            if (
                connection.execute(
                    "SELECT 1 FROM outbox_bodies WHERE message = ?", (id,)
                ).fetchone()
                is None
            ):
                raise ValueError(f"message {id}: its text is not stored any more")
            connection.execute(
                "UPDATE outbox_recipients SET state = 'queued'"
                " WHERE message = ? AND state != 'sent'",
                (id,),
            )
            connection.execute(
                "UPDATE outbox_messages SET state = 'queued', next_at = ?, attempts = 0,"
                " first_attempt_at = NULL, changed_at = ?, expected_at = NULL,"
                " expires_at = CASE WHEN deadline > ? THEN deadline END WHERE id = ?",
                (now, now, now, id),
            )
            connection.execute(_WAKE_LANE.format(schema="main"), (row["lane"], now, True))

    def decide_hold(
        self,
        id: int,  # noqa: A002
        lists: Iterable[str] | None,
        by: str | None,
        now: int,
        client: Client | None,
        reply: str | None,
        notice_of: NoticeOf | None = None,
    ) -> None:
        """Approve a held message for some mailing lists, or reject it.

        lists: those that the moderator `by` may decide on; None for all.
        client: of an approved message. reply: of a rejected one; None approves it.
        notice_of: returns the notice of a rejection, which is put in the same transaction.

        Raises KeyError if there is no such message, and ValueError if it is not held, or if `by`
        may not decide on it.
        """
        with self._transaction() as connection:
            row = _existing(connection, id)
            if row["state"] != HELD:
                raise ValueError(f"message {id} is {row['state']}: it is not held")
            pending = _pending_lists(connection, "main", id)
            decided = pending if lists is None else [each for each in pending if each in set(lists)]
            if not decided:
                raise ValueError(
                    f"by: {show(by)} is not a moderator of {', '.join(map(show, pending))}"
                )
            connection.executemany(
                "UPDATE outbox_holds SET decided_by = ?, decided_at = ?"
                " WHERE message = ? AND list = ?",
                [(by, now, id, each) for each in decided],
            )
            if reply is not None:
                _end(connection, row, State.FAILED, reply, now)
                if notice_of is not None:
                    _put_notice(connection, id, notice_of)
            elif len(decided) == len(pending) and client is not None:
                connection.execute(
                    "UPDATE outbox_messages SET state = 'queued', client = ?, changed_at = ?,"
                    " next_at = max(next_at, ?), expires_at = deadline WHERE id = ?",
                    (_client_text(client), now, now, id),
                )
                connection.execute(
                    _WAKE_LANE.format(schema="main"),
                    (row["lane"], max(row["next_at"], now), True),
                )

    def client_of(self, id: int) -> Client:  # noqa: A002
        """Return the client that put a message. Raises KeyError if there is no such message."""
        with self._transaction(write=False) as connection:
            return _client(_existing(connection, id)["client"])

    def hold(
        self, claim: Claim, worker: Worker, lists: Sequence[str], until: int, now: int
    ) -> None:
        """Hold a claimed message: a list among its recipients has become moderated."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE outbox_messages SET state = 'held', changed_at = ?,"
                " expires_at = min(?, ifnull(deadline, ?)) WHERE id = ? AND state = 'queued'",
                (now, until, until, claim.id),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO outbox_holds (message, list) VALUES (?, ?)",
                [(claim.id, each) for each in lists],
            )
            _free_lane(connection, claim.lane, worker.id)

    def expire(
        self, now: int, notice_of: NoticeOf
    ) -> tuple[tuple[OutboxMessage, Envelope | None], ...]:
        """End the messages whose time is over, and that are not claimed; return some of them.

        Each with the envelope that may be booked for it. `booking_given_back` notes that it is not.

        notice_of: returns the notice of each, which is put in the same transaction.
        """
        query = (
            "SELECT m.* FROM outbox_messages AS m WHERE expires_at IS NOT NULL"
            " AND state IN ('queued', 'held') AND expires_at <= ? AND NOT EXISTS"
            " (SELECT 1 FROM outbox_lanes WHERE subject = m.lane AND claimed = m.id)"
            " ORDER BY expires_at LIMIT ?"
        )
        with self._transaction(write=False) as connection:
            if connection.execute(query, (now, 1)).fetchone() is None:
                return ()
        expired = []
        with self._transaction() as connection:
            for row in connection.execute(query, (now, _MOST_EXPIRED)).fetchall():
                booking = _booking(connection, row)
                reason = (
                    "no moderator decided in time" if row["state"] == HELD else "it is too late"
                )
                _end(connection, row, State.EXPIRED, reason, now)
                expired.append((_put_notice(connection, row["id"], notice_of), booking))
        return tuple(expired)

    def purge(self, bodies_before: int, records_before: int) -> int:
        """Delete the texts, and then the records, of messages that ended before two moments.

        Return how many texts and records were deleted.
        """
        marks = ", ".join("?" * len(FINISHED))
        deleted = 0
        while True:
            with self._transaction() as connection:
                bodies = connection.execute(
                    "SELECT message FROM outbox_bodies WHERE message IN"  # noqa: S608
                    f" (SELECT id FROM outbox_messages WHERE state IN ({marks})"
                    " AND changed_at < ? AND charge IS NULL) LIMIT ?",
                    (*FINISHED, bodies_before, _BATCH),
                ).fetchall()
                records = connection.execute(
                    f"SELECT id FROM outbox_messages WHERE state IN ({marks})"  # noqa: S608
                    " AND changed_at < ? AND charge IS NULL LIMIT ?",
                    (*FINISHED, records_before, _BATCH),
                ).fetchall()
                ids = [tuple(row) for row in records]
                connection.executemany(
                    "DELETE FROM outbox_bodies WHERE message = ?",
                    [*(tuple(row) for row in bodies), *ids],
                )
                connection.executemany("DELETE FROM outbox_recipients WHERE message = ?", ids)
                connection.executemany("DELETE FROM outbox_holds WHERE message = ?", ids)
                connection.executemany("DELETE FROM outbox_messages WHERE id = ?", ids)
                connection.execute(
                    "DELETE FROM outbox_lanes WHERE owner IS NULL AND ready_at IS NULL"
                    " AND (booked IS NULL"
                    " OR NOT EXISTS (SELECT 1 FROM outbox_messages WHERE id = booked))"
                )
            deleted += len(bodies) + len(records)
            if len(bodies) < _BATCH and len(records) < _BATCH:
                break
        if deleted:
            with self._lock:
                if self._connection is not None:
                    # Of a pragma without columns, `execute` takes the first step alone.
                    self._connection.executescript("PRAGMA incremental_vacuum")
        return deleted


def _row(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    return connection.execute(query, values).fetchone()


def _existing(connection: sqlite3.Connection, id: int) -> Any:  # noqa: A002
    row = _row(connection, "SELECT * FROM outbox_messages WHERE id = ?", id)
    if row is None:
        raise KeyError(id)
    return row


def _insert(
    connection: sqlite3.Connection, schema: str, new: NewMessage
) -> tuple[OutboxMessage, bool]:
    if new.key is not None:
        row = connection.execute(_SELECT_KEY.format(schema=schema), (new.key,)).fetchone()
        if row is not None:
            existing = _message(connection, schema, row[0])
            assert existing is not None  # noqa: S101 - in the same transaction
            return existing, False
    messages, bodies, recipients, holds = (each.format(schema=schema) for each in _INSERTS)
    number = connection.execute(
        messages,
        (
            new.uid,
            new.key,
            new.envelope.sender,
            new.lane,
            new.priority,
            HELD if new.held_by else QUEUED,
            new.put_at,
            new.next_at,
            new.deadline,
            new.expires_at,
            new.put_at,
            _client_text(new.envelope.client),
            new.message_id,
            len(new.body),
        ),
    ).lastrowid
    assert number is not None  # noqa: S101 - of an INSERT
    connection.execute(bodies, (number, new.body))
    connection.executemany(
        recipients, [(number, i, each) for i, each in enumerate(new.envelope.recipients)]
    )
    connection.executemany(holds, [(number, each) for each in new.held_by])
    if not new.held_by:
        connection.execute(
            _WAKE_LANE.format(schema=schema), (new.lane, new.next_at, new.priority > 0)
        )
    message = _message(connection, schema, number)
    assert message is not None  # noqa: S101 - in the same transaction
    return message, True


_SELECT_KEY: Final = "SELECT id FROM {schema}.outbox_messages WHERE key = ?"
_SELECT: Final = "SELECT * FROM {schema}.outbox_messages WHERE id = ?"
_SELECT_RECIPIENTS: Final = (
    "SELECT address, state, reply FROM {schema}.outbox_recipients WHERE message = ? ORDER BY number"
)
_SELECT_HOLDS: Final = (
    "SELECT list FROM {schema}.outbox_holds WHERE message = ? AND decided_at IS NULL ORDER BY list"
)


def _message(connection: sqlite3.Connection, schema: str, id: int) -> OutboxMessage | None:  # noqa: A002
    row = connection.execute(_SELECT.format(schema=schema), (id,)).fetchone()
    if row is None:
        return None
    recipients = connection.execute(_SELECT_RECIPIENTS.format(schema=schema), (id,))
    return OutboxMessage(
        id=row["id"],
        key=row["key"],
        state=State(row["state"]),
        sender=row["sender"],
        recipients=tuple(
            OutboxRecipient(each["address"], State(each["state"]), each["reply"])
            for each in recipients
        ),
        client=_client(row["client"]),
        priority=row["priority"],
        message_id=row["message_id"],
        size=row["size"],
        put_at=datetime_of(row["put_at"]),
        next_at=datetime_of(row["next_at"]),
        expires_at=None if row["expires_at"] is None else datetime_of(row["expires_at"]),
        changed_at=datetime_of(row["changed_at"]),
        expected_at=None if row["expected_at"] is None else datetime_of(row["expected_at"]),
        attempts=row["attempts"],
        reply=row["reply"],
        held_by=tuple(_pending_lists(connection, schema, id)) if row["state"] == HELD else (),
    )


def _headers_text(connection: sqlite3.Connection, id: int) -> bytes:  # noqa: A002
    row = _row(connection, "SELECT substr(body, 1, 65536) FROM outbox_bodies WHERE message = ?", id)
    return b"" if row is None else bytes(row[0])


def _put_notice(
    connection: sqlite3.Connection,
    id: int,  # noqa: A002
    notice_of: NoticeOf,
) -> OutboxMessage:
    """Put the notice of a message that has ended, if there is one; return the message."""
    message = _message(connection, "main", id)
    assert message is not None  # noqa: S101 - in the same transaction
    notice = notice_of(message, partial(_headers_text, connection, id))
    if notice is not None:
        _insert(connection, "main", notice)
    return message


def _pending_lists(connection: sqlite3.Connection, schema: str, id: int) -> Sequence[str]:  # noqa: A002
    return [row[0] for row in connection.execute(_SELECT_HOLDS.format(schema=schema), (id,))]


def _next_lane(connection: sqlite3.Connection, now: int) -> Any:
    return _row(
        connection,
        "SELECT subject, booked FROM outbox_lanes WHERE owner IS NULL AND ready_at <= ?"
        " AND wait_until <= ? ORDER BY served LIMIT 1",
        now,
        now,
    )


def _set_ready(connection: sqlite3.Connection, lane: str) -> None:
    connection.execute(
        "UPDATE outbox_lanes SET ready_at = (SELECT min(next_at) FROM outbox_messages"
        " WHERE lane = ? AND state = 'queued') WHERE subject = ?",
        (lane, lane),
    )


def _free_lane(connection: sqlite3.Connection, lane: str, worker_id: str) -> None:
    connection.execute(
        "UPDATE outbox_lanes SET owner = NULL, claimed = NULL WHERE subject = ? AND owner = ?",
        (lane, worker_id),
    )
    _set_ready(connection, lane)


def _end(connection: sqlite3.Connection, row: Any, state: State, reply: str, now: int) -> None:
    connection.execute(
        "UPDATE outbox_messages SET state = ?, reply = ?, changed_at = ? WHERE id = ?",
        (state, reply, now, row["id"]),
    )
    connection.execute(
        "UPDATE outbox_recipients SET state = ?, reply = ? WHERE message = ? AND state = 'queued'",
        (state, reply, row["id"]),
    )
    _set_ready(connection, row["lane"])


def _pending_envelope(connection: sqlite3.Connection, row: Any) -> Envelope:
    """Return the envelope of a message's present round.

    It is for the recipients that are still queued, or were so when the message was ended by hand.
    """
    recipients = connection.execute(
        "SELECT address FROM outbox_recipients WHERE message = ?"
        " AND state IN ('queued', 'cancelled', 'expired') ORDER BY number",
        (row["id"],),
    ).fetchall()
    return _envelope(row, row["round"], recipients)


def _booking(connection: sqlite3.Connection, row: Any) -> Envelope | None:
    """Return the envelope of a queued message if a place may be booked for it.

    Its lane does not wait for that place any more.
    """
    waits = connection.execute(
        "UPDATE outbox_lanes SET wait_until = 0 WHERE subject = ? AND booked = ? AND owner IS NULL",
        (row["lane"], row["id"]),
    ).rowcount
    if row["state"] != QUEUED or not waits:
        return None
    return _pending_envelope(connection, row)


def _booked_envelope(connection: sqlite3.Connection, id: int) -> Envelope | None:  # noqa: A002
    row = _row(connection, "SELECT * FROM outbox_messages WHERE id = ?", id)
    if row is None or row["state"] not in (QUEUED, State.CANCELLED, State.EXPIRED):
        return None  # its round has ended, or it is not known any more
    return _pending_envelope(connection, row)


def _envelope(row: Any, round_number: int, recipients: Iterable[Any]) -> Envelope:
    return Envelope(
        row["sender"],
        [each["address"] for each in recipients],
        _client(row["client"]),
        id=f"outbox {row['uid']} {round_number}",
        size=row["size"],
    )


def _client_text(client: Client) -> str:
    fields = {
        "address": client.address,
        "user": client.user,
        "protocol": client.protocol,
        "tags": sorted(client.tags),
    }
    return json.dumps({name: value for name, value in fields.items() if value})


def _client(text: str) -> Client:
    return Client(**json.loads(text))
