"""What the SQLite backend keeps in its file, and for how long."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ratelimit_mail import (
    AsyncLimiter,
    ByteRateLimit,
    Envelope,
    Limiter,
    MessageRateLimit,
    Policy,
    RecipientRateLimit,
)
from ratelimit_mail.backends import AsyncSQLiteBackend, MemoryBackend, SQLiteBackend
from ratelimit_mail.backends.sqlite import fast_path, tidying
from ratelimit_mail.exceptions import BackendError
from ratelimit_mail.testing import ManualClock

HOURLY = Policy(name="test", limits=[MessageRateLimit("5/minute"), MessageRateLimit("5000/hour")])


def letter(sender: str = "ann@uwo.ca", envelope_id: str | None = None) -> Envelope:
    return Envelope(sender, ["bob@example.com"], id=envelope_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def backend(tmp_path: Path, clock: ManualClock) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(tmp_path / "counts.db", clock=clock, timeout=60)
    yield backend
    backend.close()


def rows(backend: SQLiteBackend, query: str) -> list[Any]:
    connection = sqlite3.connect(backend._database.path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def size_of(backend: SQLiteBackend, table: str) -> int:
    [(size,)] = rows(backend, f"SELECT count(*) FROM {table}")
    return int(size)


def test_idle_subjects_and_old_answers_are_forgotten(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    limiter = Limiter(HOURLY, backend)
    for i in range(300):
        limiter.try_acquire(letter(f"sender-{i}@uwo.ca", "job"))
    assert (size_of(backend, "subject_counts"), size_of(backend, "answer")) == (300, 300)
    for i in range(300):
        clock.advance(2 * 86_400 / 100)
        limiter.try_acquire(letter(f"later-{i}@uwo.ca"))
    assert size_of(backend, "subject_counts") < 40
    assert size_of(backend, "answer") == 0


def test_answers_of_one_sender_are_forgotten(backend: SQLiteBackend, clock: ManualClock) -> None:
    limiter = Limiter(HOURLY, backend)
    for i in range(600):
        clock.advance(1200)
        limiter.try_acquire(letter(envelope_id=str(i)))
    in_a_day = 86_400 / 1200
    assert size_of(backend, "answer") < 2 * in_a_day


def test_a_refusal_writes_nothing(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    assert sum(map(bool, limiter.try_acquire_many([letter()] * 7))) == 5
    connection = backend._database._connection
    assert connection is not None
    changes = connection.total_changes
    refused = limiter.try_acquire(letter())
    assert not refused
    assert refused.retry_after == 60
    assert connection.total_changes == changes


def test_a_repeated_refusal_ends_when_another_process_gives_a_place_back(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    other = SQLiteBackend(backend._database.path, clock=clock)
    limiter, other_limiter = Limiter(HOURLY, backend), Limiter(HOURLY, other)
    accepted = [other_limiter.try_acquire(letter()) for _ in range(5)]
    for passed in range(3):
        refused = limiter.try_acquire(letter())
        assert (bool(refused), refused.retry_after) == (False, 60 - passed)
        clock.advance(1)
    other_limiter.refund(accepted[2])
    assert limiter.try_acquire(letter())
    assert not limiter.try_acquire(letter())
    clock.advance(57)
    assert limiter.try_acquire(letter())
    other.close()


def test_a_unit_that_is_charged_for_the_first_time_gives_the_answers_of_memory(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    """The first limit is of recipients alone; the messages come into the file after them."""
    day = RecipientRateLimit("5/day")
    policies = [
        Policy(name="test", limits=[day]),
        Policy(name="test", limits=[MessageRateLimit("2/minute"), day]),
    ]
    answers = []
    for each in (backend, MemoryBackend(clock)):
        limiters = [Limiter(policy, each) for policy in policies]
        decisions = [limiters[i].try_acquire(letter()) for i in (0, 0, 1, 1, 1, 0, 1)]
        answers.append([(bool(d), d.retry_after, d.limit) for d in decisions])
    assert answers[0] == answers[1]
    assert [accepted for accepted, *_ in answers[0]] == [True] * 4 + [False, True, False]


def test_the_refusals_that_are_remembered_are_bounded(
    backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_path, "MOST_REFUSALS", 8)
    limiter = Limiter(HOURLY, backend)
    for i in range(20):
        messages = [letter(f"sender-{i}@uwo.ca")] * 7
        assert sum(map(bool, map(limiter.try_acquire, messages))) == 5
    assert 0 < len(backend._core._fast_path._refusals) <= 8


def test_a_first_message_is_stored_as_the_general_case_stores_it(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(
        name="test",
        limits=[
            MessageRateLimit("5/minute", denied="count"),
            RecipientRateLimit("60/day", resolution="1 minute"),
            MessageRateLimit("9/hour", scope="sender_domain"),
        ],
    )
    stored = []
    for name in ("simple.db", "general.db"):
        backend = SQLiteBackend(tmp_path / name, clock=clock)
        limiter = Limiter(policy, backend)
        decisions = [limiter.try_acquire(letter())]  # a process knows the ledgers afterwards
        decisions += [limiter.try_acquire(letter(f"{each}@uwo.ca")) for each in ("bob", "cy")]
        decisions.append(limiter.try_acquire(letter("dan@a.uwo.ca")))
        limiter.refund(decisions[1])
        stored.append(
            rows(backend, "SELECT id, ledger, name, logs FROM subject_counts ORDER BY id")
        )
        backend.close()
        monkeypatch.setattr(fast_path.FastPath, "take", lambda *_: None)
    assert stored[0] == stored[1]
    assert len(stored[0]) == 6


def test_the_number_of_a_subject_is_never_used_again(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    numbers = []
    for _ in range(3):
        assert limiter.try_acquire(letter())
        numbers += rows(backend, "SELECT id FROM subject_counts")
        limiter.reset("ann@uwo.ca")
    assert len(set(numbers)) == 3


def test_a_file_with_always_new_senders_stops_growing(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    limiter = Limiter(HOURLY, backend)
    sizes = []
    for day in range(6):
        for i in range(200):
            clock.advance(86_400 / 200)
            limiter.try_acquire(letter(f"sender-{day}-{i}@uwo.ca"))
        [[pages]] = rows(backend, "PRAGMA page_count")
        sizes.append(pages)
    assert sizes[-1] <= sizes[1]


def test_the_file_shrinks_by_itself(
    backend: SQLiteBackend, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "FREE_PAGES", 8)
    limiter = Limiter(HOURLY, backend)
    for i in range(2000):
        limiter.try_acquire(letter(f"sender-{i}@uwo.ca"))
    [[large]] = rows(backend, "PRAGMA page_count")
    for i in range(1200):
        clock.advance(600)
        limiter.try_acquire(letter(f"later-{i}@uwo.ca"))
    [[small]] = rows(backend, "PRAGMA page_count")
    assert small < large / 2


def test_a_long_log_is_trimmed(backend: SQLiteBackend, clock: ManualClock) -> None:
    limiter = Limiter(HOURLY, backend)
    for _ in range(3000):
        clock.advance(12.5)
        assert limiter.try_acquire(letter())
    in_an_hour = 3600 / 12.5
    [[nodes]] = rows(backend, "SELECT count(*) FROM log_node")
    assert nodes <= in_an_hour / 64 + 2
    assert limiter.usage("ann@uwo.ca")[1].used == in_an_hour
    limiter.reset("ann@uwo.ca")
    assert size_of(backend, "log_node") == size_of(backend, "subject_counts") == 0


def test_long_logs_of_every_unit_of_several_subjects_are_apart(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("1000/day"), ByteRateLimit("1 GB/day")]),
        backend,
    )
    senders = [f"sender-{i}@uwo.ca" for i in range(3)]
    for _ in range(300):
        clock.advance(1)
        for sender in senders:
            assert limiter.try_acquire(Envelope(sender, ["bob@example.com"], size=1000))
    for sender in senders:
        assert [usage.used for usage in limiter.usage(sender)] == [300, 300_000]
    limiter.reset(senders[0])
    for sender in senders[1:]:
        assert [usage.used for usage in limiter.usage(sender)] == [300, 300_000]
        limiter.reset(sender)
    assert size_of(backend, "log_node") == 0


def test_a_decision_reads_few_rows_however_many_events_there_are(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    policy = Policy(
        name="test", limits=[MessageRateLimit("200/minute"), MessageRateLimit("100000/day")]
    )
    limiter = Limiter(policy, backend)
    statements: list[str] = []

    def most_statements() -> int:
        connection = backend._database._connection
        assert connection is not None
        connection.set_trace_callback(statements.append)
        most = 0
        for _ in range(200):
            clock.advance(0.4)
            statements.clear()
            assert limiter.try_acquire(letter())
            most = max(most, len(statements))
        connection.set_trace_callback(None)
        return most

    limiter.try_acquire(letter())
    few = most_statements()
    for _ in range(5000):
        clock.advance(0.4)
        limiter.try_acquire(letter())
    assert size_of(backend, "log_node") > 50
    assert most_statements() <= max(few, 30)


def test_a_call_reads_and_writes_few_rows_however_many_bookings_there_are(
    backend: SQLiteBackend, clock: ManualClock
) -> None:
    limits = [
        MessageRateLimit("1/second"),
        MessageRateLimit("4/second", scope="global"),
        MessageRateLimit("1000000/30 days", scope="global"),
    ]
    limiter = Limiter(Policy(name="test", limits=limits), backend)
    bookings = [limiter.reserve(letter()) for _ in range(700)]
    clock.advance(1)
    calls: list[Callable[[], object]] = [
        lambda: limiter.check(letter()),
        lambda: limiter.try_acquire(letter()),
        lambda: limiter.try_acquire(letter("bob@uwo.ca")),
        bookings[1].redeem,
        bookings[350].redeem,
        bookings[500].cancel,
        bookings[300].cancel,
        lambda: limiter.reserve(letter("eve@uwo.ca")),
        lambda: limiter.reserve(letter()),
        lambda: limiter.usage("ann@uwo.ca"),
    ]
    connection = backend._database._connection
    assert connection is not None
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    for call in calls:
        statements.clear()
        changes = connection.total_changes
        call()
        assert len(statements) <= 40
        assert connection.total_changes - changes <= 14
        assert max(map(len, statements)) <= 10_000


def test_subjects_do_not_collide_whatever_characters_they_have(backend: SQLiteBackend) -> None:
    [(ledger, _, costs)] = HOURLY.plan(letter()).charges
    subjects = [
        "a",
        "A",
        "a\0b",
        "a\0c",
        "a\0",
        "a b",
        "a'b",
        'a"b',
        "%61",
        "\u00e9",
        "e\u0301",
        "",
    ]
    for number, subject in enumerate(subjects):
        for _ in range(number):
            backend.apply([(ledger, subject, costs)])
    used = [backend.usage(ledger, subject)[0][1].used for subject in subjects]
    assert used == [min(number, 5) for number in range(len(subjects))]


def test_two_backends_of_one_process_share_their_counts(
    tmp_path: Path, backend: SQLiteBackend, clock: ManualClock
) -> None:
    other = SQLiteBackend(tmp_path / "counts.db", clock=clock)
    decisions = [
        bool(Limiter(HOURLY, each).try_acquire(letter()))
        for each in (backend, other, backend, other, backend, other)
    ]
    assert decisions == [True] * 5 + [False]
    other.close()


def test_a_closed_backend_opens_its_file_again(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    assert limiter.try_acquire(letter())
    backend.close()
    backend.close()
    assert limiter.try_acquire(letter())
    assert limiter.usage("ann@uwo.ca")[0].used == 2


def test_a_message_is_refunded_by_its_id_by_another_process(
    tmp_path: Path, backend: SQLiteBackend, clock: ManualClock
) -> None:
    assert Limiter(HOURLY, backend).try_acquire(letter(envelope_id="job"))
    backend.close()
    later = SQLiteBackend(tmp_path / "counts.db", clock=clock)
    limiter = Limiter(HOURLY, later)
    assert limiter.try_acquire(letter(envelope_id="job")).repeated
    limiter.refund(letter(envelope_id="job"))
    assert limiter.usage("ann@uwo.ca")[0].used == 0
    later.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_durability_is_what_sqlite_calls_synchronous(
    tmp_path: Path, durability: Any, synchronous: int
) -> None:
    backend = SQLiteBackend(tmp_path / "counts.db", durability=durability)
    backend.read_register("")
    connection = backend._database._connection
    assert connection is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    backend.close()


def test_a_batch_is_charged_in_one_transaction(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    limiter.usage("ann@uwo.ca")
    statements: list[str] = []
    connection = backend._database._connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    decisions = limiter.try_acquire_many([letter() for _ in range(7)])
    assert [bool(each) for each in decisions] == [True] * 5 + [False] * 2
    assert statements.count("COMMIT") == 1


def test_threads_share_one_backend(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    admitted: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda: admitted.extend(bool(limiter.try_acquire(letter())) for _ in range(20))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 5


def test_an_async_backend_serves_several_event_loops(tmp_path: Path) -> None:
    backend = AsyncSQLiteBackend(tmp_path / "counts.db", clock=ManualClock())
    limiter = AsyncLimiter(HOURLY, backend)
    assert repr(backend) == f"<AsyncSQLiteBackend on {str(tmp_path / 'counts.db')!r}>"

    async def send() -> bool:
        return bool(await limiter.try_acquire(letter()))

    assert [asyncio.run(send()) for _ in range(6)] == [True] * 5 + [False]
    asyncio.run(backend.aclose())


def test_the_clock_returns_whole_milliseconds(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "counts.db", clock=lambda: 1.5)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="integer milliseconds"):
        Limiter(HOURLY, backend).try_acquire(letter())
    backend.close()


def test_by_default_time_is_the_clock_of_the_host(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "counts.db")
    assert abs(backend.now() - MemoryBackend().now()) < 60_000


def test_a_file_of_a_later_version_is_not_changed(backend: SQLiteBackend) -> None:
    limiter = Limiter(HOURLY, backend)
    limiter.try_acquire(letter())
    backend.close()
    connection = sqlite3.connect(backend._database.path)
    connection.execute("PRAGMA user_version=3")
    connection.close()
    with pytest.raises(BackendError, match="its tables have version 3"):
        limiter.try_acquire(letter())
    assert rows(backend, "PRAGMA user_version") == [(3,)]
