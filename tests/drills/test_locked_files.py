"""Another program locks the SQLite files for ten seconds, in real time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from rlm_testkit.outbox import Sink, WorkerProcess
from rlm_testkit.outbox_kills import put_letters

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.exceptions import BackendUnavailable
from ratelimit_mail.outbox import Outbox, State

pytestmark = pytest.mark.drill

LOCKED: Final = 10.0
"""Seconds."""

POLICY: Final = Policy(name="test", limits=[MessageRateLimit("100000/day")])
ENVELOPE: Final = Envelope("ann@uwo.ca", ["bob@example.com"])


@contextlib.contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Lock the files; they are free again after `LOCKED` seconds, or earlier at the end."""
    connections = [
        sqlite3.connect(path, isolation_level=None, check_same_thread=False) for path in paths
    ]
    for connection in connections:
        connection.execute("BEGIN IMMEDIATE")

    def release() -> None:
        for connection in connections:
            connection.execute("ROLLBACK")
            connection.close()

    timer = threading.Timer(LOCKED, release)
    timer.start()
    yield
    timer.join()


def test_a_call_waits_or_says_why_it_cannot_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "counts.db"
    patient, usual = SQLiteBackend(path, timeout=60), SQLiteBackend(path)
    assert Limiter(POLICY, patient).try_acquire(ENVELOPE)
    assert Limiter(POLICY, usual).try_acquire(ENVELOPE)
    with locked(path):
        start = time.monotonic()
        with pytest.raises(BackendUnavailable, match="another process has locked it") as error:
            Limiter(POLICY, usual).try_acquire(ENVELOPE)
        refused_after = time.monotonic() - start
        assert Limiter(POLICY, usual).usage("ann@uwo.ca")[0].used == 2, "reading waits for nobody"
        assert Limiter(POLICY, patient).try_acquire(ENVELOPE)
        accepted_after = time.monotonic() - start
    assert refused_after >= 5
    assert accepted_after >= LOCKED - 0.1
    assert Limiter(POLICY, usual).try_acquire(ENVELOPE)
    used = Limiter(POLICY, usual).usage("ann@uwo.ca")[0].used
    print(f"\ntimeout 5: after {refused_after:.1f} s: {error.value}")
    print(f"timeout 60: accepted after {accepted_after:.1f} s; {used} of 4 counted")
    assert used == 4
    patient.close()
    usual.close()


def test_an_outbox_whose_files_are_locked_sends_each_letter_once(tmp_path: Path) -> None:
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(POLICY.dump())

    def clock() -> int:
        return time.time_ns() // 1_000_000

    outbox, counts = tmp_path / "outbox.db", tmp_path / "counts.db"
    ids = put_letters(outbox, POLICY, 1000, clock, senders=4)
    SQLiteBackend(counts).read_register("")  # makes the file
    sink = Sink(clock)
    arguments = (outbox, policy_file, f"sqlite:///{counts}", sink.port, "real")
    workers = [WorkerProcess(*arguments) for _ in range(2)]
    while len(sink.received) < 50:
        time.sleep(0.01)
    with locked(outbox, counts):
        time.sleep(1)
        before = len(sink.received)
    assert [worker.wait(300) for worker in workers] == [0, 0]
    sink.close()
    pauses = [b.at - a.at for a, b in zip(sink.received, sink.received[1:], strict=False)]
    with Outbox(outbox, Limiter(POLICY)) as box:
        sent = box.stats().counts[State.SENT]
    print(f"\n{before} letters sent before or as the files were locked, {sent} in the end; the")
    print(f"longest pause is {max(pauses) / 1000:.1f} s; each letter arrived once")
    assert sent == len(ids) == len(sink.received)
    assert sink.counts() == dict.fromkeys(ids, 1)
    assert max(pauses) > 1000 * (LOCKED - 2)
