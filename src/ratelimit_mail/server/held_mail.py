"""The messages in Postfix's hold queue that are booked, in one small SQLite file.

A message is in the list before Postfix holds it, and leaves the list after Postfix has released it.
A crash in between leaves a line too many, never one too few: releasing a message that is not held
does nothing.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import attrs

from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.server.postfix import QUEUE_ID

__all__ = ["HeldMail", "HeldMessage"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS held (
    queue_id TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    client TEXT NOT NULL,
    direction TEXT NOT NULL,
    size INTEGER,
    redeemed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS held_at ON held (redeemed DESC, at);
"""

_COLUMNS: Final = "queue_id, id, at, sender, recipients, client, direction, size, redeemed"

VERSION: Final = 1
BUSY_SECONDS: Final = 5.0


@attrs.frozen
class HeldMessage:
    """A message in the hold queue.

    at: the time for which it is booked, in milliseconds. is_redeemed: whether it was counted as
        sent, so that it only has to be released.
    """

    queue_id: str
    envelope: Envelope
    at: int
    is_redeemed: bool


class HeldMail:
    """The list of held messages; its methods may be called from any thread.

    Raises OSError or sqlite3.Error if the file cannot be used.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._lock = threading.Lock()
        file = Path(fspath(path))
        if not file.exists():
            file.touch(mode=0o600)
        self._database = sqlite3.connect(
            file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            [version] = self._database.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise OSError(f"{file}: the list of held messages has version {version}")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            self._database.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __len__(self) -> int:
        [number] = self._one("SELECT count(*) FROM held", ())
        return int(number)

    def add(self, queue_id: str, envelope: Envelope, at: int) -> None:
        """Add a message; durable when this returns. Raises ValueError for a wrong queue id."""
        if not QUEUE_ID.fullmatch(queue_id):
            raise ValueError("queue_id: it is not one of Postfix's")
        client = envelope.client
        row = (
            queue_id,
            envelope.id or "",
            at,
            _escaped(envelope.sender),
            _escaped(list(envelope.recipients)),
            _escaped([client.address, client.user, client.protocol, sorted(client.tags)]),
            envelope.direction,
            envelope.size,
        )
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row
            )

    def due(self, now: int, most: int) -> list[HeldMessage]:
        """Return the messages whose time has come, those that are redeemed already first."""
        return self._list("WHERE at <= ? ORDER BY redeemed DESC, at LIMIT ?", now, most)

    def find(self, queue_id: str) -> HeldMessage | None:
        """Return the message that has a queue id; None if there is none in the list."""
        return next(iter(self._list("WHERE queue_id = ?", queue_id)), None)

    def all(self, most: int) -> list[HeldMessage]:
        """Return the messages, the one that goes first at the beginning."""
        return self._list("ORDER BY at LIMIT ?", most)

    def rebook(self, queue_id: str, at: int) -> None:
        """Note another time for a message."""
        self._change("UPDATE held SET at = ? WHERE queue_id = ?", [(at, queue_id)])

    def redeem(self, queue_id: str) -> None:
        """Note that a message is counted as sent, and is to be released."""
        self._change("UPDATE held SET redeemed = 1 WHERE queue_id = ?", [(queue_id,)])

    def remove(self, queue_ids: Iterable[str]) -> None:
        """Forget messages that were released.

        Postfix uses their queue ids again: a new message that is held by one stays in the list.
        """
        self._change(
            "DELETE FROM held WHERE queue_id = ? AND redeemed", [(each,) for each in queue_ids]
        )

    def replace(self, queue_id: str) -> None:
        """Forget the message that had a queue id, because another one has it now."""
        self._change("DELETE FROM held WHERE queue_id = ?", [(queue_id,)])

    def _one(self, query: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        with self._lock:
            row: tuple[Any, ...] = self._database.execute(query, values).fetchone()
        return row

    def _change(self, query: str, rows: list[tuple[Any, ...]]) -> None:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(query, rows)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _list(self, clause: str, *values: int | str) -> list[HeldMessage]:
        query = f"SELECT {_COLUMNS} FROM held {clause}"  # noqa: S608 - constants of this module
        with self._lock:
            rows = self._database.execute(query, values).fetchall()
        messages = []
        for queue_id, id_, at, sender, recipients, client, direction, size, redeemed in rows:
            address, user, protocol, tags = json.loads(client)
            envelope = Envelope.from_smtp(
                json.loads(sender),
                json.loads(recipients),
                client=Client(address=address, user=user, protocol=protocol, tags=tags),
                id=id_ or None,
                direction=direction,
                size=size,
            )
            messages.append(HeldMessage(queue_id, envelope, at, bool(redeemed)))
        return messages


def _escaped(value: Any) -> str:
    """Return `value` as JSON in ASCII, in which surrogates survive."""
    return json.dumps(value)
