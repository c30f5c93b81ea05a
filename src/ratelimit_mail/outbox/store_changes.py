"""ChangesStore: what moderators, administrators and the time change in an outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.outbox.message import FINISHED, OutboxMessage, State
from ratelimit_mail.outbox.records import Claim, NoticeOf, Worker
from ratelimit_mail.outbox.rows import (
    WAKE_LANE,
    client_from_text,
    client_to_text,
    existing_row,
    free_lane,
    insert_message,
    pending_envelope,
    pending_lists,
    read_headers,
    read_message,
    set_ready,
)
from ratelimit_mail.outbox.store_file import BATCH, StoreFile

__all__ = ["ChangesStore"]

QUEUED, SENDING, HELD = State.QUEUED, State.SENDING, State.HELD

_MOST_EXPIRED: Final = 100
"""How many messages expire in one transaction, which makes a notice of each."""


class ChangesStore(StoreFile):
    """The changes of a store by hand, and by time. Each is one transaction."""

    # Changes by hand, and by time.

    def cancel(self, id: int, now: int) -> Envelope | None:  # noqa: A002
        """Cancel a message that is not being sent. Return the envelope that may be booked for it.

        Raises KeyError if there is no such message, and ValueError if it is too late.
        """
        with self._transaction() as connection:
            row = existing_row(connection, id)
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
            row = existing_row(connection, id)
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
            connection.execute(WAKE_LANE.format(schema="main"), (row["lane"], now, True))

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
            row = existing_row(connection, id)
            if row["state"] != HELD:
                raise ValueError(f"message {id} is {row['state']}: it is not held")
            pending = pending_lists(connection, "main", id)
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
                    (client_to_text(client), now, now, id),
                )
                connection.execute(
                    WAKE_LANE.format(schema="main"),
                    (row["lane"], max(row["next_at"], now), True),
                )

    def client_of(self, id: int) -> Client:  # noqa: A002
        """Return the client that put a message. Raises KeyError if there is no such message."""
        with self._transaction(write=False) as connection:
            return client_from_text(existing_row(connection, id)["client"])

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
            free_lane(connection, claim.lane, worker.id)

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
                    (*FINISHED, bodies_before, BATCH),
                ).fetchall()
                records = connection.execute(
                    f"SELECT id FROM outbox_messages WHERE state IN ({marks})"  # noqa: S608
                    " AND changed_at < ? AND charge IS NULL LIMIT ?",
                    (*FINISHED, records_before, BATCH),
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
            if len(bodies) < BATCH and len(records) < BATCH:
                break
        if deleted:
            with self._lock:
                if self._connection is not None:
                    # Of a pragma without columns, `execute` takes the first step alone.
                    self._connection.executescript("PRAGMA incremental_vacuum")
        return deleted


def _put_notice(
    connection: sqlite3.Connection,
    id: int,  # noqa: A002
    notice_of: NoticeOf,
) -> OutboxMessage:
    """Put the notice of a message that has ended, if there is one; return the message."""
    message = read_message(connection, "main", id)
    assert message is not None  # noqa: S101 - in the same transaction
    notice = notice_of(message, partial(read_headers, connection, id))
    if notice is not None:
        insert_message(connection, "main", notice)
    return message


def _end(connection: sqlite3.Connection, row: Any, state: State, reply: str, now: int) -> None:
    connection.execute(
        "UPDATE outbox_messages SET state = ?, reply = ?, changed_at = ? WHERE id = ?",
        (state, reply, now, row["id"]),
    )
    connection.execute(
        "UPDATE outbox_recipients SET state = ?, reply = ? WHERE message = ? AND state = 'queued'",
        (state, reply, row["id"]),
    )
    set_ready(connection, row["lane"])


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
    return pending_envelope(connection, row)
