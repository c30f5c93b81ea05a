"""What MemoryBackend decides without a look at its logs, and what a limiter needs beside that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from rlm_testkit.builders import accepted_in_a_row, campus_policy

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, RecipientRateLimit
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.backends.base import CHECK
from ratelimit_mail.backends.memory.subject_counts import SubjectCounts
from ratelimit_mail.counting.charge import Ledger
from ratelimit_mail.events import Dispatcher, Event
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock

ENVELOPE: Final = Envelope("ann@uwo.ca", ["bob@example.com", "eve@uwo.ca"])


class EventKinds(Dispatcher):
    """A dispatcher that lists the kinds of events at once."""

    def __init__(self) -> None:
        super().__init__(print)
        self.kinds: list[str] = []

    def dispatch(self, event: Event) -> None:
        self.kinds.append(type(event).__name__)


def counts_of_ann(backend: MemoryBackend) -> SubjectCounts:
    [table] = backend._tables.values()
    return table.young["ann@uwo.ca"]


def limiter_of(*limits: Limit, **options: Any) -> tuple[Limiter, MemoryBackend, ManualClock]:
    """Return a limiter that has read its blocks: its first message did so."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    limiter = Limiter(campus_policy(*limits), backend, **options)
    limiter.check(ENVELOPE)
    return limiter, backend, clock


def test_a_refusal_leaves_pending_charges_pending() -> None:
    limiter, backend, clock = limiter_of(
        MessageRateLimit("5/minute"), RecipientRateLimit("100/day", count="external")
    )
    for _ in range(5):
        clock.advance(1)
        assert limiter.try_acquire(ENVELOPE)
    for _ in range(2):
        assert limiter.try_acquire(ENVELOPE).retry_after == 56.0
        assert limiter.check(ENVELOPE).retry_after == 56.0
        assert len(counts_of_ann(backend).pending) == 5
    clock.advance(56)
    assert accepted_in_a_row(limiter, ENVELOPE) == 1


def test_a_refusal_takes_account_of_logged_and_pending_charges() -> None:
    limiter, _, clock = limiter_of(MessageRateLimit("5/minute"))
    assert limiter.try_acquire(ENVELOPE)
    clock.advance(10)
    assert limiter.try_acquire(ENVELOPE)
    limiter.usage("ann@uwo.ca")  # puts both into the log
    clock.advance(10)
    assert accepted_in_a_row(limiter, ENVELOPE) == 3
    assert limiter.try_acquire(ENVELOPE).retry_after == 40.0
    clock.advance(40)
    assert accepted_in_a_row(limiter, ENVELOPE) == 1
    assert limiter.try_acquire(ENVELOPE).retry_after == 10.0


@pytest.mark.parametrize("mark", [1, 4, 5, 80])
def test_near_limit_is_reported_with_the_message_that_reaches_the_mark(mark: int) -> None:
    events = EventKinds()
    limiter, _, clock = limiter_of(MessageRateLimit(f"{mark * 5 // 4}/minute"), on_event=events)
    for _ in range(mark):
        assert events.kinds == []
        limiter.try_acquire(ENVELOPE)
    assert events.kinds == ["NearLimit"]
    clock.advance(60)
    for _ in range(mark):
        limiter.try_acquire(ENVELOPE)
    assert events.kinds == ["NearLimit"] * 2


def test_below_its_mark_a_sender_is_not_tracked_and_its_counts_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = EventKinds()
    limiter, backend, _ = limiter_of(MessageRateLimit("100/minute"), on_event=events)
    reads: list[str] = []
    usage: Callable[..., Any] = backend.usage

    def counted(ledger: Ledger, subject: str) -> Any:
        reads.append(subject)
        return usage(ledger, subject)

    monkeypatch.setattr(backend, "usage", counted)
    for _ in range(79):
        limiter.try_acquire(ENVELOPE)
    detector = limiter._operations.observers._detector
    assert detector is not None
    assert (reads, events.kinds, detector.size()) == ([], [], 0)
    limiter.try_acquire(ENVELOPE)
    assert (reads, events.kinds, detector.size()) == (["ann@uwo.ca"], ["NearLimit"], 1)


def test_charges_of_another_limiter_are_noticed_with_the_next_message() -> None:
    events = EventKinds()
    limiter, backend, _ = limiter_of(MessageRateLimit("10/minute"), on_event=events)
    other = Limiter(limiter.policy, backend)
    limiter.try_acquire(ENVELOPE)
    assert accepted_in_a_row(other, ENVELOPE, most=7) == 7
    assert events.kinds == []
    limiter.try_acquire(ENVELOPE)
    assert events.kinds == ["NearLimit"]


def test_messages_of_equal_costs_share_what_was_granted_beforehand() -> None:
    limiter, backend, _ = limiter_of(RecipientRateLimit("50/minute"))
    for i in range(10):
        assert limiter.try_acquire(Envelope("ann@uwo.ca", [f"bob@d{i}.example", "eve@uwo.ca"]))
    counts = counts_of_ann(backend)
    assert (len(counts.pending), counts._runs) == (10, None)


def test_a_check_of_a_sender_that_fits_makes_no_log() -> None:
    limiter, backend, _ = limiter_of(MessageRateLimit("50/minute"))
    limiter.try_acquire(ENVELOPE)
    for _ in range(2):
        backend.apply(limiter.policy.plan(ENVELOPE).charges, CHECK)
        assert limiter.check(ENVELOPE)
    assert counts_of_ann(backend)._logs is None


def test_a_table_knows_a_bounded_number_of_ledgers() -> None:
    backend = MemoryBackend(ManualClock())
    for _ in range(200):
        assert Limiter(campus_policy(MessageRateLimit("500/minute")), backend).try_acquire(ENVELOPE)
    [table] = backend._tables.values()
    assert len(table.ledgers) <= 64
