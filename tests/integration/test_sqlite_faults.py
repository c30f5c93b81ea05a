"""A SQLite file that is locked, full, read-only, damaged or another program's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ratelimit_mail import AsyncLimiter, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import AsyncSQLiteBackend, MemoryBackend, SQLiteBackend
from ratelimit_mail.backends.outage import circuit_breaker
from ratelimit_mail.exceptions import BackendError, BackendUnavailable
from ratelimit_mail.testing import ManualClock

POLICY = Policy(
    name="test",
    limits=[MessageRateLimit("100/day"), MessageRateLimit("100000/day", scope="global")],
)
ENVELOPE = Envelope("ann@uwo.ca", ["bob@example.com"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counts.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(path, timeout=60)
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE)
    yield backend
    backend.close()


def connection_of(backend: SQLiteBackend) -> sqlite3.Connection:
    connection = backend._database._connection
    assert connection is not None
    return connection


def used(path: Path) -> list[int]:
    backend = SQLiteBackend(path, timeout=60)
    limiter = Limiter(POLICY, backend)
    counts = [limiter.usage("ann@uwo.ca")[0].used, limiter.usage(scope="global")[0].used]
    backend.close()
    return counts


def locked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def full(backend: SQLiteBackend) -> None:
    """Let the file not grow any more."""
    connection = connection_of(backend)
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}").fetchone()


def of_many_senders(limiter: Limiter) -> None:
    """Send what needs more pages in the file."""
    for i in range(500):
        limiter.try_acquire(Envelope(f"sender-{i}@uwo.ca", ["bob@example.com"]))


def read_only(backend: SQLiteBackend) -> None:
    connection_of(backend).execute("PRAGMA query_only=1")


def test_a_locked_file_is_an_outage_after_the_timeout(backend: SQLiteBackend, path: Path) -> None:
    other = locked(path)
    impatient = SQLiteBackend(path, timeout=0.01)
    limiter = Limiter(POLICY, impatient)
    with pytest.raises(BackendUnavailable, match=r"locked it for 0\.01 seconds") as error:
        limiter.try_acquire(ENVELOPE)
    assert str(path) in str(error.value)
    assert error.value.safe_to_repeat
    assert Limiter(POLICY, impatient).usage("ann@uwo.ca")[0].used == 1, "reading does not wait"
    other.execute("ROLLBACK")
    other.close()
    assert Limiter(POLICY, impatient).try_acquire(ENVELOPE)
    assert used(path) == [2, 2]
    impatient.close()


def test_a_file_that_cannot_grow_is_an_outage_that_charges_nothing(
    backend: SQLiteBackend, path: Path
) -> None:
    full(backend)
    with pytest.raises(BackendUnavailable, match="full") as error:
        of_many_senders(Limiter(POLICY, backend))
    assert str(path) in str(error.value)
    counted = used(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [senders] = connection.execute("SELECT count(*) FROM subject_counts").fetchone()
    assert counted == [1, senders - 1], "each sender whose message was counted, and ann"
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE), "the connection is a new one"


LIMITED = """
import resource, sys
from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.exceptions import BackendUnavailable
policy = Policy(name="test", limits=[MessageRateLimit("100/day"),
                                     MessageRateLimit("100000/day", scope="global")])
limiter = Limiter(policy, SQLiteBackend(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1))
sent = 0
try:
    while True:
        assert limiter.try_acquire(Envelope(f"s{sent}@uwo.ca", ["bob@example.com"]))
        sent += 1
except BackendUnavailable as error:
    assert sys.argv[1] in str(error), error
    print(sent, error)
"""


def test_a_file_at_its_largest_allowed_size_is_an_outage(path: Path) -> None:
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sent, _, error = done.stdout.partition(" ")
    assert "unavailable" in error
    assert int(sent) > 0
    assert used(path) == [0, int(sent)]


def test_a_file_that_cannot_be_written_is_an_outage(backend: SQLiteBackend, path: Path) -> None:
    read_only(backend)
    with pytest.raises(BackendUnavailable, match="writable") as error:
        Limiter(POLICY, backend).try_acquire(ENVELOPE)
    assert str(path) in str(error.value)
    assert used(path) == [1, 1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
@pytest.mark.parametrize("mode", [0o400, 0o000])
def test_a_file_without_permissions_is_an_outage(path: Path, mode: int) -> None:
    backend = SQLiteBackend(path)
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE)
    backend.close()
    path.chmod(mode)
    with pytest.raises(BackendUnavailable) as error:
        Limiter(POLICY, backend).try_acquire(ENVELOPE)
    assert str(path) in str(error.value)
    path.chmod(0o600)
    assert used(path) == [1, 1]


@pytest.mark.parametrize("fault", [full, read_only])
@pytest.mark.parametrize(
    ("policy", "allowed"), [("allow", True), ("deny", False), (MemoryBackend(), True)]
)
def test_on_backend_error_decides_in_an_outage(
    backend: SQLiteBackend,
    fault: Callable[[SQLiteBackend], None],
    policy: Any,
    allowed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # On a slow machine the limiter would try the file again, by a connection without the fault.
    monkeypatch.setattr(circuit_breaker, "FIRST_PAUSE", 1e9)
    limiter = Limiter(POLICY, backend, on_backend_error=policy)
    fault(backend)
    if fault is full:
        of_many_senders(limiter)
    decision = limiter.try_acquire(ENVELOPE)
    assert decision.degraded
    assert bool(decision) is allowed


async def test_the_async_backend_has_the_same_outages(path: Path) -> None:
    backend = AsyncSQLiteBackend(path, timeout=0.01)
    assert await AsyncLimiter(POLICY, backend).try_acquire(ENVELOPE)
    other = locked(path)
    with pytest.raises(BackendUnavailable, match="locked"):
        await AsyncLimiter(POLICY, backend).try_acquire(ENVELOPE)
    other.close()
    await backend.aclose()
    assert await AsyncLimiter(POLICY, backend).try_acquire(ENVELOPE)
    await backend.aclose()


async def test_a_call_whose_task_is_cancelled_charges_nothing(path: Path) -> None:
    backend = AsyncSQLiteBackend(path, timeout=60)
    limiter = AsyncLimiter(POLICY, backend)
    assert await limiter.try_acquire(ENVELOPE)
    other = locked(path)
    tasks = [asyncio.create_task(limiter.try_acquire(ENVELOPE)) for _ in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    other.close()
    assert (await limiter.usage("ann@uwo.ca"))[0].used in (1, 2), "the refund may be on its way"
    assert (await limiter.usage("ann@uwo.ca"))[0].used == 1
    await backend.aclose()


async def test_a_settlement_whose_task_is_cancelled_is_refunded_where_it_is_then(
    path: Path,
) -> None:
    clock = ManualClock()
    backend = AsyncSQLiteBackend(path, timeout=60, clock=clock)
    limiter = AsyncLimiter(POLICY, backend)
    decision = await limiter.try_acquire(ENVELOPE)
    assert await limiter.try_acquire(ENVELOPE)
    clock.advance(10)
    other = locked(path)
    task = asyncio.create_task(limiter.settle(decision))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    other.close()
    await asyncio.gather(task, return_exceptions=True)
    await limiter.refund(decision)
    [usage] = await limiter.usage("ann@uwo.ca")
    assert (usage.used, usage.resets_in) == (1, 86_400 - 10)
    await backend.aclose()


def write_nonsense(path: Path) -> None:
    path.write_bytes(b"Dear Bob, this is a letter and not a database." * 100)


def write_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mail(id)")
    connection.commit()
    connection.close()


def write_newer_version(path: Path) -> None:
    used(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=3")
    connection.close()


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (write_nonsense, "file is not a database"),
        (write_another_program, "another program"),
        (write_newer_version, "its tables have version 3"),
    ],
)
@pytest.mark.parametrize("policy", ["raise", "allow"])
def test_a_file_that_is_not_ours_is_an_error_and_stays_as_it_is(
    path: Path, write: Callable[[Path], None], problem: str, policy: Any
) -> None:
    write(path)
    before = path.read_bytes()
    limiter = Limiter(POLICY, SQLiteBackend(path), on_backend_error=policy)
    with pytest.raises(BackendError, match=problem) as error:
        limiter.try_acquire(ENVELOPE)
    assert not isinstance(error.value, BackendUnavailable)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="not a regular file"):
        Limiter(POLICY, SQLiteBackend(tmp_path)).try_acquire(ENVELOPE)


def test_a_directory_that_does_not_exist_is_an_outage(tmp_path: Path) -> None:
    limiter = Limiter(POLICY, SQLiteBackend(tmp_path / "mail" / "counts.db"))
    with pytest.raises(BackendUnavailable, match="mail' does not exist"):
        limiter.try_acquire(ENVELOPE)
    (tmp_path / "mail").mkdir()
    assert Limiter(POLICY, SQLiteBackend(tmp_path / "mail" / "counts.db")).try_acquire(ENVELOPE)


@pytest.mark.skipif(os.name != "posix", reason="other systems have other permissions")
def test_only_its_owner_may_read_a_new_file(backend: SQLiteBackend, path: Path) -> None:
    files = list(path.parent.iterdir())
    assert len(files) > 1, "the write-ahead log stands beside it"
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


def test_a_file_that_was_deleted_is_noticed(backend: SQLiteBackend, path: Path) -> None:
    for each in path.parent.iterdir():
        each.unlink()
    backend._database._look_at = 0.0  # a second later
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE)
    assert used(path) == [1, 1]


def test_a_relative_path_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = SQLiteBackend("counts.db")
    monkeypatch.chdir("/")
    assert Limiter(POLICY, backend).try_acquire(ENVELOPE)
    assert (tmp_path / "counts.db").exists()
    backend.close()


def test_an_interrupted_transaction_charges_nothing(backend: SQLiteBackend, path: Path) -> None:
    """Also if it is interrupted between its charges."""
    plan = POLICY.plan(ENVELOPE)
    fast_path = backend._core._fast_path
    original = fast_path.take

    def interrupted(cursor: Any, charges: Any, now: int, rows: Any) -> Any:
        original(cursor, charges[:1], now, rows)
        raise KeyboardInterrupt

    fast_path.take = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        backend.apply(plan.charges)
    fast_path.take = original  # type: ignore[method-assign]
    assert used(path) == [1, 1]
    assert backend.apply(plan.charges).receipt is not None
    assert used(path) == [2, 2]


def test_a_refund_inside_a_transaction_of_the_same_thread_comes_after_it(
    backend: SQLiteBackend, path: Path
) -> None:
    """The garbage collector may close a coroutine at any moment, which gives its place back."""
    charges = POLICY.plan(ENVELOPE).charges
    receipt = backend.apply(charges).receipt
    fast_path = backend._core._fast_path
    original = fast_path.take

    def collected(*arguments: Any) -> Any:
        backend.refund(receipt)
        return original(*arguments)

    fast_path.take = collected  # type: ignore[method-assign,assignment]
    backend.apply(charges)
    fast_path.take = original  # type: ignore[method-assign]
    assert used(path) == [2, 2]
