"""A file that an earlier version has written is read, and goes on."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from rlm_testkit.builders import envelope_to

from ratelimit_mail import (
    ByteRateLimit,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import MemoryBackend, SQLiteBackend
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.testing import ManualClock

VERSION_1: Final = Path(__file__).with_name("sqlite_version_1.db.gz")
"""A file with tables of version 1, after `fill`."""

POLICY: Final = Policy(
    name="test",
    limits=[
        MessageRateLimit("300/hour"),
        MessageRateLimit("2/second"),
        ByteRateLimit("40 kB/day"),
        RecipientRateLimit("500/day", scope="sender_domain", denied="count"),
    ],
)
SENDERS: Final = ("ann@uwo.ca", "bob@uwo.ca", "kim@uwo.ca")


def fill(limiter: Limiter, clock: ManualClock) -> None:
    """Send, book and block: long logs, two queues, an answer to an id, and a block."""
    for i in range(290):
        limiter.try_acquire(Envelope("ann@uwo.ca", ["r@example.com"], size=100 + i % 3))
        clock.advance(0.5 if i % 2 else 0.7)
    for sender in SENDERS:
        limiter.try_acquire(Envelope(sender, ["r@example.com"], id="sent", size=1))
        for _ in range(8):
            limiter.reserve(Envelope(sender, ["r@example.com"], size=1))
    limiter.reserve(Envelope("bob@uwo.ca", ["r@example.com"], id="booked", size=1))
    limiter.block("dan@uwo.ca", 3600, reason="test")


def go_on(limiter: Limiter, clock: ManualClock) -> list[Any]:
    """Use all that was counted; return the answers."""
    seen: list[Any] = []
    for _ in range(3):
        for sender in SENDERS:
            seen.append(limiter.usage(sender))
            for name in ("sent", "booked"):
                envelope = Envelope(sender, ["r@example.com"], id=name, size=1)
                seen.append(limiter.reserve(envelope).delay)
            seen.append(limiter.reserve(Envelope(sender, ["r@example.com"], size=2)).delay)
            seen.append(limiter.check(Envelope(sender, ["r@example.com"] * 20, size=9)).retry_after)
            seen.append(limiter.try_acquire(envelope_to(3, sender, size=30)).retry_after)
        seen.append([(each.subject, each.reason) for each in limiter.blocks()])
        clock.advance(1750)
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "counts.db"
    path.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    return path


def open_file(path: Path) -> None:
    backend = SQLiteBackend(path, clock=ManualClock())
    Limiter(POLICY, backend).usage("ann@uwo.ca")
    backend.close()


def expected() -> list[Any]:
    clock = ManualClock()
    limiter = Limiter(POLICY, MemoryBackend(clock))
    fill(limiter, clock)
    return go_on(limiter, clock)


def test_a_file_of_version_1_goes_on(path: Path) -> None:
    clock = ManualClock()
    fill(Limiter(POLICY, MemoryBackend(clock)), clock)  # for its time
    backend = SQLiteBackend(path, clock=clock)
    assert go_on(Limiter(POLICY, backend), clock) == expected()
    backend.close()


def test_a_file_that_was_brought_to_this_version_is_like_a_new_one(path: Path) -> None:
    open_file(path)
    new = path.with_name("new.db")
    open_file(new)
    schemas = []
    for each in (path, new):
        connection = sqlite3.connect(each)
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        schemas.append((sorted(map(str, rows)), *connection.execute("PRAGMA user_version")))
        connection.close()
    assert schemas[0] == schemas[1]


def test_an_earlier_version_that_has_the_file_open_changes_no_other_log(path: Path) -> None:
    earlier = sqlite3.connect(path)
    open_file(path)
    with pytest.raises(sqlite3.OperationalError, match="no such table: chunk"):
        earlier.execute("INSERT INTO chunk VALUES(800, 0, 0, 0, NULL, x'')")
    earlier.close()


def test_a_file_that_cannot_be_brought_to_this_version_stays_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE member(a)")  # is in the way
    connection.commit()
    before = list(connection.iterdump())
    with pytest.raises(BackendError, match="member already exists"):
        open_file(path)
    assert list(connection.iterdump()) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
