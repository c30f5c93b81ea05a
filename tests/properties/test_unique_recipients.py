"""Unique recipients compared with their definition: the different addresses in any window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Envelope, Limiter, MessageRateLimit, Policy, RecipientRateLimit
from ratelimit_mail.backends import Backend, MemoryBackend, SQLiteBackend
from ratelimit_mail.testing import ManualClock

POLICY = Policy(
    name="unique",
    limits=[
        RecipientRateLimit("2/second", unique=True),
        RecipientRateLimit("3/5 seconds", unique=True),
    ],
)
WINDOWS = ((2, 1000), (3, 5000))
"""So many different recipients in any of so many milliseconds."""

Sent = list[tuple[int, frozenset[str]]]

steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 300, 999, 1000, 2500]),  # milliseconds since the last step
        st.sets(st.sampled_from("abcde"), min_size=1, max_size=3),
        st.booleans(),  # whether the sending fails, and the message is refunded
    ),
    max_size=30,
)


def recipients_in(sent: Sent, end: int, length: int) -> frozenset[str]:
    """Return the different recipients in the window that ends at a moment."""
    return frozenset().union(*(names for at, names in sent if end - length < at <= end))


def fits(sent: Sent, at: int, names: frozenset[str]) -> bool:
    return all(len(recipients_in(sent, at, length) | names) <= most for most, length in WINDOWS)


def check(
    backend: Backend, clock: ManualClock, script: Sequence[tuple[int, set[str], bool]]
) -> None:
    """Check that each message is admitted if its recipients fit, and only then."""
    limiter = Limiter(POLICY, backend)
    limiter.reset("ann@uwo.ca")
    sent: Sent = []
    for pause, letters, fails in script:
        clock.advance(pause / 1000)
        names, now = frozenset(letters), clock()
        envelope = Envelope("ann@uwo.ca", [f"{name}@example.com" for name in sorted(names)])
        decision = limiter.try_acquire(envelope)
        assert decision.allowed == fits(sent, now, names)
        if decision and fails:
            limiter.refund(decision)
        elif decision:
            sent.append((now, names))
        elif len(names) > 2:
            assert decision.retry_after is None
        else:
            assert decision.retry_after is not None
            at = now + round(decision.retry_after * 1000)
            assert fits(sent, at, names)
            assert not fits(sent, at - 1, names)
        used = [usage.used for usage in limiter.usage("ann@uwo.ca")]
        assert used == [len(recipients_in(sent, now, length)) for _, length in WINDOWS]


@given(steps)
def test_in_memory_no_window_has_more_recipients_and_all_that_fit_are_admitted(
    script: list[tuple[int, set[str], bool]],
) -> None:
    clock = ManualClock()
    check(MemoryBackend(clock), clock, script)


@pytest.fixture(scope="module")
def stored(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[SQLiteBackend, ManualClock]]:
    folder: Path = tmp_path_factory.mktemp("unique")
    clock = ManualClock()
    backend = SQLiteBackend(folder / "counts.db", clock=clock)
    yield backend, clock
    backend.close()


@given(script=steps)
def test_in_a_file_no_window_has_more_recipients_and_all_that_fit_are_admitted(
    stored: tuple[SQLiteBackend, ManualClock], script: list[tuple[int, set[str], bool]]
) -> None:
    backend, clock = stored
    check(backend, clock, script)


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_messages_refunded_last_first_leave_what_was_there(names: list[str]) -> None:
    clock = ManualClock()
    limiter = Limiter(
        Policy(
            name="unique",
            limits=[MessageRateLimit("99/day"), RecipientRateLimit("3/day", unique=True)],
        ),
        MemoryBackend(clock),
    )
    seen = []
    decisions = []
    for number, name in enumerate(names):
        seen.append(limiter.usage("ann@uwo.ca"))
        decisions.append(limiter.try_acquire(Envelope("ann@uwo.ca", [f"{name}@example.com"])))
        clock.advance(number % 2)
    while decisions:
        limiter.refund(decisions.pop())
        assert [usage.used for usage in limiter.usage("ann@uwo.ca")] == [
            usage.used for usage in seen.pop()
        ]
