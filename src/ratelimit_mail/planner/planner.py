"""A mailing sent in no time: by a limiter, on a clock that is turned to each message's moment."""

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
from ratelimit_mail.planner.plan import CannotFinish, Held, MailingPlan
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["MOST_RECIPIENTS", "SENDER", "plan_mailing"]

STAND_IN: Final = "replay.invalid"
"""The domain of addresses that nobody told (RFC 2606: it never exists)."""

SENDER: Final = f"sender@{STAND_IN}"

MOST_RECIPIENTS: Final = 1_000_000

EPOCH: Final = datetime_of(0)
END: Final = datetime(9999, 1, 1, tzinfo=UTC)
LAST: Final = milliseconds_of(END)

Wait = tuple[Limit, int, int]
"""A limit, and from when until when it held a message, in milliseconds since the epoch."""


def plan_mailing(
    policy: Policy,
    messages: Iterable[int | Envelope],
    *,
    sender: str = SENDER,
    client: Client | None = None,
    start: datetime | None = None,
) -> MailingPlan:
    """When each of `messages` will have gone under `policy`, and which limit holds when.

    It is what a program sees that sends them in the order given, each as soon as it fits, and
    waits for each before it turns to the next. A limiter in memory decides, on a simulated clock;
    nothing was sent before, nothing else is sent meanwhile, and sending takes no time.

    messages: each an Envelope, or how many recipients it has: then as many external addresses are
        made up, `recipient-1@replay.invalid` and so on, no two alike in the whole mailing.
    sender, client: who sends those of which only a number is told.
    start: an aware datetime; left out: now.

    Raises CannotFinish, a ValueError, for a message that can never go: it is over a limit by
    itself, or a rule of the policy refuses it. Raises ValueError or TypeError for no messages,
    one without recipients or that is inbound, and a start without a time zone or before 1970.
    """
    now = _milliseconds(start)
    clock = ManualClock(now)
    limiter = Limiter(policy, MemoryBackend(clock=clock))
    delays: list[float] = []
    sizes: list[int] = []
    stretches: list[tuple[Limit, int, int, int]] = []
    for number, envelope in enumerate(_envelopes(messages, sender, client), 1):
        for limit, since, until in _send(limiter, clock, number, envelope):
            # Time passes only in waits, so one wait begins where the last one ended.
            if stretches and stretches[-1][0] == limit:
                stretches[-1] = (*stretches[-1][:2], until, stretches[-1][3])
            else:
                stretches.append((limit, since, until, number))
        delays.append((clock() - now) / 1000)
        sizes.append(len(envelope.recipients))
    if not delays:
        raise ValueError("messages: there are none to plan for")
    return MailingPlan(
        policy=policy.name,
        start=datetime_of(now),
        delays=tuple(delays),
        sizes=tuple(sizes),
        held=tuple(
            Held(limit, datetime_of(since), datetime_of(until), len(delays) - number + 1)
            for limit, since, until, number in stretches
        ),
    )


def _send(limiter: Limiter, clock: ManualClock, number: int, envelope: Envelope) -> Iterator[Wait]:
    """Turn the clock to where `envelope` fits, and book it there; what was waited for."""
    # `check` charges nothing, where a refused reservation may be counted as an attempt. What it
    # says is asked again at each turn: a limit's numbers may change while the message waits.
    while not (decision := limiter.check(envelope)):
        if decision.retry_after is None or decision.limit is None:
            raise CannotFinish(number, len(envelope.recipients), decision)
        now = clock()
        room_at = now + round(decision.retry_after * 1000)
        if room_at >= LAST:
            raise CannotFinish(number, len(envelope.recipients), decision)
        # Of several limits the one that speaks now may have room before another.
        clock.set(room_at - 1)
        limit = limiter.check(envelope).limit or decision.limit
        clock.set(room_at)
        yield limit, now, room_at
    limiter.reserve(envelope, max_delay=0)


def _envelopes(
    messages: Iterable[int | Envelope], sender: str, client: Client | None
) -> Iterator[Envelope]:
    if isinstance(messages, str | bytes) or not isinstance(messages, Iterable):
        raise TypeError(
            f"messages: a list such as [1] * 25000 or one of envelopes, not {show(messages)}"
        )
    # All differ, because a limit may count what one mailbox receives.
    made_up = (f"recipient-{number}@{STAND_IN}" for number in count(1))
    for number, message in enumerate(messages, 1):
        if isinstance(message, Envelope):
            if message.direction != "outbound":
                raise ValueError(f"messages: message {number:,} is inbound; a mailing goes out")
            yield message
        else:
            size = _size(number, message)
            yield Envelope(sender, islice(made_up, size), client)


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
    if not EPOCH <= start < END:
        raise ValueError(f"start: {start} is not in the years 1970 to 9998")
    return milliseconds_of(start)
