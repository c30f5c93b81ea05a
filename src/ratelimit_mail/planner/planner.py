"""Plan a mailing by running it through a limiter on a simulated clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count, islice
from typing import Final

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.text import show
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limits import Limit
from ratelimit_mail.planner.plan import CannotFinish, DelayPeriod, MailingPlan
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

Wait = tuple[Limit, int, int]
"""A limit, and the start and end of a wait for it, in milliseconds since the epoch."""


def plan_mailing(
    policy: Policy,
    messages: Iterable[int | Envelope],
    *,
    sender: str = SENDER,
    client: Client | None = None,
    start: datetime | None = None,
) -> MailingPlan:
    """Plan when each of `messages` will have gone under `policy`, and which limit delays them.

    The plan is for a program that sends the messages in their order, each as soon as it fits, and
    waits for each before it sends the next. A limiter in memory decides, on a simulated clock.
    Nothing was sent before the start, nothing else is sent during the mailing, and sending takes
    no time.

    messages: each is an Envelope, or a number of recipients. For a number, that many external
        addresses are generated, `recipient-1@replay.invalid` and so on, all different in the
        whole mailing.
    sender, client: the sender and the client of messages that are only a number.
    start: an aware datetime; the default is now.

    Raises CannotFinish, a ValueError, if a message can never go because it exceeds a limit by
    itself or a rule of the policy refuses it. Raises ValueError or TypeError if there are no
    messages, if a message has no recipients or is inbound, or if the start has no time zone or is
    before 1970.
    """
    now = _milliseconds(start)
    clock = ManualClock(now)
    limiter = Limiter(policy, MemoryBackend(clock=clock))
    delays: list[float] = []
    sizes: list[int] = []
    periods: list[tuple[Limit, int, int, int]] = []
    for number, envelope in enumerate(_envelopes(messages, sender, client), 1):
        for limit, since, until in _send(limiter, clock, number, envelope):
            # Time passes only in waits, so each wait begins where the last one ended.
            if periods and periods[-1][0] == limit:
                periods[-1] = (*periods[-1][:2], until, periods[-1][3])
            else:
                periods.append((limit, since, until, number))
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
            DelayPeriod(limit, datetime_of(since), datetime_of(until), len(delays) - number + 1)
            for limit, since, until, number in periods
        ),
    )


def _send(limiter: Limiter, clock: ManualClock, number: int, envelope: Envelope) -> Iterator[Wait]:
    """Move the clock to where `envelope` fits and book it there; yield each wait."""
    # `check` charges nothing, while a refused reservation may count as an attempt. It is repeated
    # after each wait, because the numbers of a limit may change while the message waits.
    while not (decision := limiter.check(envelope)):
        if decision.retry_after is None or decision.limit is None:
            raise CannotFinish(number, len(envelope.recipients), decision)
        now = clock()
        free_at = now + round(decision.retry_after * 1000)
        if free_at >= LAST:
            raise CannotFinish(number, len(envelope.recipients), decision)
        # Report the limit that has capacity last, which may be another than now.
        clock.set(free_at - 1)
        limit = limiter.check(envelope).limit or decision.limit
        clock.set(free_at)
        yield limit, now, free_at
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


def _milliseconds(start: datetime | None) -> int:
    if start is None:
        start = datetime.now(UTC)
    if not isinstance(start, datetime):
        raise TypeError(f"start: a datetime is needed, not {show(start)}")
    if start.tzinfo is None or start.utcoffset() is None:
        raise ValueError(f"start: {start} has no time zone, such as datetime.UTC")
    if not START <= start < END:
        raise ValueError(f"start: {start} is not in the years 1970 to 9998")
    return milliseconds_of(start)
