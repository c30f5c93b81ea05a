"""Rows of the outbox's tables as objects, and the changes that several steps share.

Each function works in the transaction of the connection that it gets.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.outbox.message import OutboxMessage, OutboxRecipient, State
from ratelimit_mail.outbox.records import NewMessage

__all__ = [
    "WAKE_LANE",
    "client_from_text",
    "client_to_text",
    "envelope_of",
    "existing_row",
    "fetch_row",
    "free_lane",
    "insert_message",
    "pending_envelope",
    "pending_lists",
    "read_headers",
    "read_message",
    "set_ready",
    "stored_integer",
]

_INSERTS: Final = (
    "INSERT INTO {schema}.outbox_messages (uid, key, sender, lane, priority, state, put_at,"
    " next_at, deadline, expires_at, changed_at, client, message_id, size)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "INSERT INTO {schema}.outbox_bodies VALUES (?, ?)",
    "INSERT INTO {schema}.outbox_recipients (message, number, address, state)"
    " VALUES (?, ?, ?, 'queued')",
    "INSERT INTO {schema}.outbox_holds (message, list) VALUES (?, ?)",
)
WAKE_LANE: Final = (
    "INSERT INTO {schema}.outbox_lanes (subject, ready_at) VALUES (?, ?)"
    " ON CONFLICT (subject) DO UPDATE SET"
    " ready_at = min(ifnull(ready_at, excluded.ready_at), excluded.ready_at),"
    " wait_until = CASE WHEN ? THEN 0 ELSE wait_until END"
)
"""The last value: whether this message goes before the one for which the lane waits."""

_SELECT_KEY: Final = "SELECT id FROM {schema}.outbox_messages WHERE key = ?"
_SELECT: Final = "SELECT * FROM {schema}.outbox_messages WHERE id = ?"
_SELECT_RECIPIENTS: Final = (
    "SELECT address, state, reply FROM {schema}.outbox_recipients WHERE message = ? ORDER BY number"
)
_SELECT_HOLDS: Final = (
    "SELECT list FROM {schema}.outbox_holds WHERE message = ? AND decided_at IS NULL ORDER BY list"
)


def fetch_row(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    """Return the first row of a query; None if it has none."""
    return connection.execute(query, values).fetchone()


def existing_row(connection: sqlite3.Connection, id: int) -> Any:  # noqa: A002
    """Return the row of a message. Raises KeyError if there is no such message."""
    row = None
    if id == stored_integer(id):
        row = fetch_row(connection, "SELECT * FROM outbox_messages WHERE id = ?", id)
    if row is None:
        raise KeyError(id)
    return row


def stored_integer(number: int) -> int:
    """Return the integer nearest to a number that SQLite can store, which has 64 bits."""
    return max(-(2**63), min(number, 2**63 - 1))


def insert_message(
    connection: sqlite3.Connection, schema: str, new: NewMessage
) -> tuple[OutboxMessage, bool]:
    """Insert a message; return it, or the one that has its key, and whether it is new."""
    if new.key is not None:
        row = connection.execute(_SELECT_KEY.format(schema=schema), (new.key,)).fetchone()
        if row is not None:
            existing = read_message(connection, schema, row[0])
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
            State.HELD if new.held_by else State.QUEUED,
            new.put_at,
            new.next_at,
            new.deadline,
            new.expires_at,
            new.put_at,
            client_to_text(new.envelope.client),
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
            WAKE_LANE.format(schema=schema), (new.lane, new.next_at, new.priority > 0)
        )
    message = read_message(connection, schema, number)
    assert message is not None  # noqa: S101 - in the same transaction
    return message, True


def read_message(connection: sqlite3.Connection, schema: str, id: int) -> OutboxMessage | None:  # noqa: A002
    """Return a message; None if there is none."""
    if id != stored_integer(id):
        return None
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
        client=client_from_text(row["client"]),
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
        held_by=tuple(pending_lists(connection, schema, id)) if row["state"] == State.HELD else (),
    )


def read_headers(connection: sqlite3.Connection, id: int) -> bytes:  # noqa: A002
    """Return the first bytes of a stored message, with most of its headers."""
    row = fetch_row(
        connection, "SELECT substr(body, 1, 65536) FROM outbox_bodies WHERE message = ?", id
    )
    return b"" if row is None else bytes(row[0])


def pending_lists(connection: sqlite3.Connection, schema: str, id: int) -> Sequence[str]:  # noqa: A002
    """Return the mailing lists that hold a message and have not decided yet."""
    return [row[0] for row in connection.execute(_SELECT_HOLDS.format(schema=schema), (id,))]


def set_ready(connection: sqlite3.Connection, lane: str) -> None:
    """Note when the earliest queued message of a lane may be tried."""
    connection.execute(
        "UPDATE outbox_lanes SET ready_at = (SELECT min(next_at) FROM outbox_messages"
        " WHERE lane = ? AND state = 'queued') WHERE subject = ?",
        (lane, lane),
    )


def free_lane(connection: sqlite3.Connection, lane: str, worker_id: str) -> None:
    """Give a lane back that a worker has."""
    connection.execute(
        "UPDATE outbox_lanes SET owner = NULL, claimed = NULL WHERE subject = ? AND owner = ?",
        (lane, worker_id),
    )
    set_ready(connection, lane)


def pending_envelope(connection: sqlite3.Connection, row: Any) -> Envelope:
    """Return the envelope of a message's present round.

    It is for the recipients that are still queued, or were so when the message was ended by hand.
    """
    recipients = connection.execute(
        "SELECT address FROM outbox_recipients WHERE message = ?"
        " AND state IN ('queued', 'cancelled', 'expired') ORDER BY number",
        (row["id"],),
    ).fetchall()
    return envelope_of(row, row["round"], recipients)


def envelope_of(row: Any, round_number: int, recipients: Iterable[Any]) -> Envelope:
    """Return the envelope of a round of a message, with the id of that round."""
    return Envelope(
        row["sender"],
        [each["address"] for each in recipients],
        client_from_text(row["client"]),
        id=f"outbox {row['uid']} {round_number}",
        size=row["size"],
    )


def client_to_text(client: Client) -> str:
    """Return a client as the text that is stored."""
    fields = {
        "address": client.address,
        "user": client.user,
        "protocol": client.protocol,
        "tags": sorted(client.tags),
    }
    return json.dumps({name: value for name, value in fields.items() if value})


def client_from_text(text: str) -> Client:
    """Return the client that `client_to_text` has stored."""
    return Client(**json.loads(text))
