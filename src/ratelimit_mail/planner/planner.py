"""Plan a mailing by running it through a limiter on a simulated clock."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count, islice
from typing import Final

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.text import show
from ratelimit_mail.backends import Backend, MemoryBackend
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.planner.history import copy_history
from ratelimit_mail.planner.plan import CannotFinish, Cause, DelayPeriod, MailingPlan
from ratelimit_mail.planner.working_hours import WorkingHours
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["MOST_RECIPIENTS", "SENDER", "plan_mailing"]

PLACEHOLDER_DOMAIN: Final = "replay.invalid"
"""The domain of generated addresses (RFC 2606: it never exists)."""

SENDER: Final = f"sender@{PLACEHOLDER_DOMAIN}"

MOST_RECIPIENTS: Final = 1_000_000

START: Final = datetime_of(0)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)
LAST: Final = milliseconds_of(END)

Wait = tuple[Cause, int, int]
"""A cause, and the start and end of a wait for it, in milliseconds since the epoch."""


def plan_mailing(
    policy: Policy,
    messages: Iterable[int | Envelope],
    *,
    sender: str = SENDER,
    client: Client | None = None,
    start: datetime | None = None,
    backend: Backend | None = None,
    not_before: datetime | None = None,
    hours: WorkingHours | None = None,
) -> MailingPlan:
    """Plan when each of `messages` will have gone under `policy`, and which limit delays them.

    The plan is for a program that sends the messages in their order, each as soon as it fits, and
    waits for each before it sends the next. A limiter in memory decides, on a simulated clock.
    Nothing else is sent during the mailing, and sending takes no time.

    messages: each is an Envelope, or a number of recipients. For a number, that many external
        addresses are generated, `recipient-1@replay.invalid` and so on, all different in the
        whole mailing.
    sender, client: the sender and the client of messages that are only a number.
    start: an aware datetime; the default is now, which is the backend's time if there is one.
    backend: where earlier messages were counted. What they used, and blocks, are taken into
        account; booked places are not. It is only read. Without it, nothing was sent before.
    not_before: an aware datetime before which no message goes.
    hours: the hours in which messages go; by default always.

    Raises CannotFinish, a ValueError, if a message can never go because it exceeds a limit by
    itself, or a rule or a block refuses it. Raises ValueError or TypeError if there are no
    messages, if a message has no recipients or is inbound, or if the start has no time zone, is
    before 1970 or, with a backend, is in the past. Raises BackendError if the backend is away.
    """
    if hours is not None and not isinstance(hours, WorkingHours):
        raise TypeError(f"hours: WorkingHours are needed, not {show(hours)}")
    read = getattr(backend, "read_register", None)
    if backend is not None and (not callable(read) or inspect.iscoroutinefunction(read)):
        raise TypeError(f"backend: a Backend that is not async is needed, not {show(backend)}")
    now = milliseconds_of(datetime.now(UTC)) if start is None else _milliseconds("start", start)
    earliest = None if not_before is None else _milliseconds("not_before", not_before)
    clock = ManualClock(now)
    memory = MemoryBackend(clock=clock)
    limiter = Limiter(policy, memory)
    envelopes: Iterable[Envelope] = _envelopes(messages, sender, client)
    if backend is not None:
        envelopes = list(envelopes)
        present = copy_history(backend, limiter.policy, envelopes, memory, clock)
        if start is None:
            now = present
        elif now < present:
            raise ValueError(
                f"start: {start} is in the past; the backend's time is {datetime_of(present)}"
            )
        clock.set(now)
    if earliest is not None and earliest > now:
        clock.set(earliest)
    delays: list[float] = []
    sizes: list[int] = []
    periods: list[tuple[Cause, int, int, int]] = []
    for number, envelope in enumerate(envelopes, 1):
        for cause, since, until in _send(limiter, clock, number, envelope, hours):
            # Time passes only in waits, so each wait begins where the last one ended.
            if periods and periods[-1][0] == cause:
                periods[-1] = (*periods[-1][:2], until, periods[-1][3])
            else:
                periods.append((cause, since, until, number))
        delays.append((clock() - now) / 1000)
        sizes.append(len(envelope.recipients))
    if not delays:
        raise ValueError("messages: at least one is needed")
    return MailingPlan(
        policy=policy.name,
        start=datetime_of(now),
        delays=tuple(delays),
        sizes=tuple(sizes),
        held=tuple(
            DelayPeriod(cause, datetime_of(since), datetime_of(until), len(delays) - number + 1)
            for cause, since, until, number in periods
        ),
    )


def _send(
    limiter: Limiter,
    clock: ManualClock,
    number: int,
    envelope: Envelope,
    hours: WorkingHours | None,
) -> Iterator[Wait]:
    """Move the clock to where `envelope` fits and book it there; yield each wait."""
    while True:
        # `check` charges nothing, while a refused reservation may count as an attempt. It is
        # repeated after each wait, because the numbers of a limit may change while the message
        # waits.
        while not (decision := limiter.check(envelope)):
            if decision.retry_after is None or (decision.limit or decision.block) is None:
                raise CannotFinish(number, len(envelope.recipients), decision)
            now = clock()
            free_at = now + round(decision.retry_after * 1000)
            if free_at >= LAST:
                raise CannotFinish(number, len(envelope.recipients), decision)
            # Report the limit that has capacity last, which may be another than now.
            clock.set(free_at - 1)
            last = limiter.check(envelope)
            clock.set(free_at)
            cause = last.limit or last.block or decision.limit or decision.block
            assert cause is not None  # noqa: S101 - checked above
            yield cause, now, free_at
        if hours is None:
            break
        now = clock()
        opens = milliseconds_of(hours.next_open(datetime_of(now)))
        if opens == now:
            break
        clock.set(opens)
        yield hours, now, opens
    limiter.reserve(envelope, max_delay=0)


def _envelopes(
    messages: Iterable[int | Envelope], sender: str, client: Client | None
) -> Iterator[Envelope]:
    if isinstance(messages, str | bytes) or not isinstance(messages, Iterable):
        raise TypeError(
            f"messages: a list such as [1] * 25000 or one of envelopes, not {show(messages)}"
        )
    # All different, because a limit may count per recipient.
    addresses = (f"recipient-{number}@{PLACEHOLDER_DOMAIN}" for number in count(1))
    for number, message in enumerate(messages, 1):
        if isinstance(message, Envelope):
            if message.direction != "outbound":
                raise ValueError(f"messages: message {number:,} is inbound; a mailing is outbound")
            yield message
        else:
            size = _size(number, message)
            yield Envelope(sender, islice(addresses, size), client)


def _size(number: int, size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(
            f"messages: message {number:,} is neither an Envelope nor a number of recipients,"
            f" but {show(size)}"
        )
    if not 1 <= size <= MOST_RECIPIENTS:
        raise ValueError(
            f"messages: message {number:,} cannot have {show(size)} recipients;"
            f" 1 to {MOST_RECIPIENTS:,} are possible"
        )
    return size


def _milliseconds(field: str, moment: datetime) -> int:
    if not isinstance(moment, datetime):
        raise TypeError(f"{field}: a datetime is needed, not {show(moment)}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"{field}: {moment} has no time zone, such as datetime.UTC")
    if not START <= moment < END:
        raise ValueError(f"{field}: {moment} is not in the years 1970 to 9998")
    return milliseconds_of(moment)
