"""A stolen account mails strangers all day: what passes under `western-convergence`, who is told.

    python examples/theft.py          # 1,000,000 attempts in 24 hours; takes a minute or so
    python examples/theft.py 20000

The thief tries once every 86.4 ms, one stranger a message, from off campus, which is tier 2. The
clock is turned by hand, and nothing is sent. It is done twice: with refused attempts counted, as
Western does it, and with them ignored.
"""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import attrs

from ratelimit_mail import Client, Decision, Envelope, Limiter, Policy, Tier, presets
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.events import Dispatcher, Event
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.testing import ManualClock

Denied = Literal["count", "ignore"]

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = 60 * 1000
DAY = 24 * 60 * MINUTE
OFF_CAMPUS = Client(address="203.0.113.7", user="kim", protocol="smtp")
SPAM = Envelope("kim@uwo.ca", ["stranger@example.com"], OFF_CAMPUS)


class Theft(NamedTuple):
    """What became of one theft.

    passed: when a message passed, in milliseconds after the start. owner: the answer to the
    account's owner, a day after the theft. events: what was told. seconds: how long the limiter
    took for all of it.
    """

    passed: list[int]
    owner: Decision
    events: list[Event]
    seconds: float


def policy_with(denied: Denied) -> Policy:
    """The preset, with refused attempts counted or ignored by each of its limits."""

    def changed(limit: Limit) -> Limit:
        return attrs.evolve(limit, denied=denied) if isinstance(limit, RateLimit) else limit

    def with_limits(tier: Tier) -> Tier:
        return attrs.evolve(tier, limits=[changed(limit) for limit in tier.limits])

    policy = presets.western_convergence()
    return policy.evolve(tiers=[with_limits(tier) for tier in policy.tiers])


def theft(denied: Denied, attempts: int) -> Theft:
    """`attempts` messages, evenly over 24 hours."""
    start = int(START.timestamp() * 1000)
    clock = ManualClock(start)
    events: list[Event] = []
    teller = Dispatcher(events.append)
    limiter = Limiter(policy_with(denied), MemoryBackend(clock), on_event=teller)
    passed = []
    began = time.perf_counter()
    for number in range(attempts):
        after = number * DAY // attempts
        clock.set(start + after)
        if limiter.try_acquire(SPAM):
            passed.append(after)
    seconds = time.perf_counter() - began
    clock.set(start + 2 * DAY)
    owner = limiter.try_acquire(SPAM)
    teller.flush()
    return Theft(passed, owner, events, seconds)


def most(window: int, theft: Theft) -> str:
    """The most that passed in any window of that length."""
    found, held = 0, deque[int]()
    for at in theft.passed:
        held.append(at)
        while held[0] <= at - window:
            held.popleft()
        found = max(found, len(held))
    return f"{found:,}"


def table(counted: Theft, ignored: Theft) -> list[str]:
    """The two thefts side by side."""
    rows = [
        ("refused attempts", "counted", "ignored"),
        ("passed", *(f"{len(each.passed):,}" for each in (counted, ignored))),
        ("most in any 15 minutes", *(most(15 * MINUTE, each) for each in (counted, ignored))),
        ("most in any 24 hours", *(most(DAY, each) for each in (counted, ignored))),
        ("last one passed after", *(in_words(each.passed[-1]) for each in (counted, ignored))),
        ("owner's letter a day later", *(each.owner.action.value for each in (counted, ignored))),
        ("real seconds", *(f"{each.seconds:.1f}" for each in (counted, ignored))),
    ]
    return [f"{words:<26}  {one:>12}  {other:>12}" for words, one, other in rows]


def told(events: list[Event]) -> list[str]:
    """Each kind of event of each limit: how often, and when it came first."""
    first: dict[tuple[str, str], datetime] = {}
    times: dict[tuple[str, str], int] = {}
    for event in events:
        kind = (type(event).__name__, str(event.limit))
        first.setdefault(kind, event.at)
        times[kind] = times.get(kind, 0) + 1
    lines = [f"{'event':<17} {'times':>5}  {'first after':<13} limit"]
    for kind, at in first.items():
        after = in_words((at - START) // timedelta(milliseconds=1))
        lines.append(f"{kind[0]:<17} {times[kind]:>5}  {after:<13} {kind[1]}")
    return lines


def in_words(milliseconds: int) -> str:
    """A length of time as hours, minutes and seconds."""
    minutes, rest = divmod(milliseconds, MINUTE)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest / 1000:06.3f}"


def main() -> None:
    """Run both thefts with as many attempts as the command line says, and print what came."""
    given = sys.argv[1:] or ["1000000"]
    if len(given) != 1 or not re.fullmatch("[1-9][0-9]{0,8}", given[0]):
        sys.exit("usage: python theft.py [ATTEMPTS], from 1 to 999999999")
    attempts = int(given[0])
    counted, ignored = theft("count", attempts), theft("ignore", attempts)
    print(f"{attempts:,} attempts in 24 hours from one tier 2 client\n")
    print(*table(counted, ignored), sep="\n")
    print("\ntold, with refused attempts counted")
    print(*told(counted.events), sep="\n")
    print("\ntold, with refused attempts ignored")
    print(*told(ignored.events), sep="\n")


if __name__ == "__main__":
    main()
