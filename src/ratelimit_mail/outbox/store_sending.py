"""SendingStore: the steps of workers, and the messages that wait for their limits."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from ratelimit_mail.envelope import Envelope
from ratelimit_mail.outbox.message import OutboxMessage, State
from ratelimit_mail.outbox.records import (
    Claim,
    Finish,
    NewMessage,
    OutstandingCharge,
    WaitingMessage,
    Withdrawn,
    Worker,
)
from ratelimit_mail.outbox.rows import (
    envelope_of,
    fetch_row,
    free_lane,
    insert_message,
    pending_envelope,
    read_message,
    set_ready,
)
from ratelimit_mail.outbox.store_file import BATCH, StoreFile

__all__ = ["SendingStore"]

_MOST_WAITING: Final = 100_000
"""How many messages of one sender an estimate looks at."""


class SendingStore(StoreFile):
    """The steps of a store that workers take. Each is one transaction."""

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
                state = State.QUEUED if resend else State.UNCERTAIN
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
                free_lane(connection, subject, worker_id)
            connection.execute("DELETE FROM outbox_workers WHERE id = ?", (worker_id,))
            messages = [read_message(connection, "main", row["id"]) for row in rows]
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
                    set_ready(connection, lane["subject"])
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
                    envelope=pending_envelope(connection, head),
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
                *fetch_row(
                    connection,
                    "SELECT min(max(ready_at, wait_until)) FROM outbox_lanes"
                    " WHERE owner IS NULL AND ready_at IS NOT NULL",
                ),
                *fetch_row(
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
            free_lane(connection, claim.lane, worker.id)

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
                insert_message(connection, "main", notice)
            free_lane(connection, claim.lane, worker.id)

    def outstanding_charges(self, worker: Worker) -> tuple[OutstandingCharge, ...]:
        """Return the ends of rounds that the limiter does not know, of lanes no other worker has.

        Another worker reports those of its own lanes.
        """
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT *, (SELECT count(*) FROM outbox_recipients AS r WHERE r.message ="
                " outbox_messages.id AND r.round = outbox_messages.round - 1) AS recipients"
                " FROM outbox_messages WHERE charge IS NOT NULL AND NOT EXISTS"
                " (SELECT 1 FROM outbox_lanes WHERE subject = lane AND owner IS NOT NULL"
                " AND owner != ?) ORDER BY id LIMIT ?",
                (worker.id, BATCH),
            ).fetchall()
            return tuple(
                OutstandingCharge(
                    id=row["id"],
                    envelope=envelope_of(
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
                (now + least, now, now, BATCH),
            ).fetchall()
        return tuple((row[0], row[1]) for row in rows)

    def waiting_in(self, lane: str, now: int) -> tuple[WaitingMessage, ...]:
        """Return the due messages of a lane in their order; none if all delays are reported."""
        with self._transaction(write=False) as connection:
            unreported = fetch_row(
                connection,
                "SELECT 1 FROM outbox_messages WHERE lane = ? AND state = 'queued'"
                " AND delayed_at IS NULL AND next_at <= ? LIMIT 1",
                lane,
                now,
            )
            if unreported is None:
                return ()
            rows = connection.execute(
                "SELECT id, size, delayed_at, (SELECT count(*) FROM outbox_recipients AS r"
                " WHERE r.message = m.id AND r.state = 'queued') AS recipients"
                " FROM outbox_messages AS m WHERE lane = ? AND state = 'queued'"
                " AND next_at <= ? ORDER BY priority DESC, id LIMIT ?",
                (lane, now, _MOST_WAITING),
            ).fetchall()
        return tuple(
            WaitingMessage(row["id"], row["recipients"], row["size"], row["delayed_at"])
            for row in rows
        )

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
                    delayed.append(read_message(connection, "main", message))
        return tuple(each for each in delayed if each is not None)

    def unannounced(self, put_before: int) -> tuple[OutboxMessage, ...]:
        """Return delayed messages, put at or before a moment, whose sender has no notice of it."""
        with self._transaction(write=False) as connection:
            rows = connection.execute(
                "SELECT id FROM outbox_messages WHERE state = 'queued' AND notified_at IS NULL"
                " AND put_at <= ? AND (delayed_at IS NOT NULL OR attempts > 0)"
                " AND sender != '<>' ORDER BY put_at LIMIT ?",
                (put_before, BATCH),
            ).fetchall()
            messages = [read_message(connection, "main", row[0]) for row in rows]
        return tuple(each for each in messages if each is not None)

    def next_unannounced(self) -> int | None:
        """Return when the oldest queued message without a notice was put; None if there is none."""
        with self._transaction(write=False) as connection:
            [moment] = fetch_row(
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
                insert_message(connection, "main", notice)


def _next_lane(connection: sqlite3.Connection, now: int) -> Any:
    return fetch_row(
        connection,
        "SELECT subject, booked FROM outbox_lanes WHERE owner IS NULL AND ready_at <= ?"
        " AND wait_until <= ? ORDER BY served LIMIT 1",
        now,
        now,
    )


def _booked_envelope(connection: sqlite3.Connection, id: int) -> Envelope | None:  # noqa: A002
    row = fetch_row(connection, "SELECT * FROM outbox_messages WHERE id = ?", id)
    if row is None or row["state"] not in (State.QUEUED, State.CANCELLED, State.EXPIRED):
        return None  # its round has ended, or it is not known any more
    return pending_envelope(connection, row)
