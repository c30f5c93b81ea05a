"""Simulate a stolen account that sends mail all day under the preset `western-convergence`.

    python examples/theft.py          # 1,000,000 attempts in 24 hours; takes a minute or so
    python examples/theft.py 20000

The thief tries to send a message every 86.4 ms, each to one external recipient, from off campus,
which is tier 2. The simulation advances the clock itself and sends nothing. It runs twice: with
refused attempts counted, as Western does, and with refused attempts ignored. It prints how many
messages were accepted and which events were reported.
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
SPAM = Envelope("kim@uwo.ca", ["victim@example.com"], OFF_CAMPUS)


class Theft(NamedTuple):
    """The result of one simulated theft.

    passed: when messages were accepted, in milliseconds after the start. owner: the decision on a
    message from the account's owner, a day after the theft. events: the events that were reported.
    seconds: how long the limiter took for all attempts.
    """

    passed: list[int]
    owner: Decision
    events: list[Event]
    seconds: float


def policy_with(denied: Denied) -> Policy:
    """Return the preset, with refused attempts counted or ignored by each of its limits."""

    def changed(limit: Limit) -> Limit:
        return attrs.evolve(limit, denied=denied) if isinstance(limit, RateLimit) else limit

    def with_limits(tier: Tier) -> Tier:
        return attrs.evolve(tier, limits=[changed(limit) for limit in tier.limits])

    policy = presets.western_convergence()
    return policy.evolve(tiers=[with_limits(tier) for tier in policy.tiers])


def theft(denied: Denied, attempts: int) -> Theft:
    """Try to send `attempts` messages, evenly spread over 24 hours."""
    start = int(START.timestamp() * 1000)
    clock = ManualClock(start)
    events: list[Event] = []
    dispatcher = Dispatcher(events.append)
    limiter = Limiter(policy_with(denied), MemoryBackend(clock), on_event=dispatcher)
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
    dispatcher.flush()
    return Theft(passed, owner, events, seconds)


def most(window: int, theft: Theft) -> str:
    """Return the most messages accepted in any window of that length, as text."""
    highest, in_window = 0, deque[int]()
    for at in theft.passed:
        in_window.append(at)
        while in_window[0] <= at - window:
            in_window.popleft()
        highest = max(highest, len(in_window))
    return f"{highest:,}"


def table(counted: Theft, ignored: Theft) -> list[str]:
    """Return the lines of a table that compares the two thefts."""
    rows = [
        ("refused attempts", "counted", "ignored"),
        ("passed", *(f"{len(each.passed):,}" for each in (counted, ignored))),
        ("most in any 15 minutes", *(most(15 * MINUTE, each) for each in (counted, ignored))),
        ("most in any 24 hours", *(most(DAY, each) for each in (counted, ignored))),
        ("last one passed after", *(in_words(each.passed[-1]) for each in (counted, ignored))),
        ("owner's mail a day later", *(each.owner.action.value for each in (counted, ignored))),
        ("real seconds", *(f"{each.seconds:.1f}" for each in (counted, ignored))),
    ]
    return [f"{label:<26}  {first:>12}  {second:>12}" for label, first, second in rows]


def event_table(events: list[Event]) -> list[str]:
    """Return the lines of a table: how often each limit reported each event, and when first."""
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
    """Return a length of time as hours, minutes and seconds."""
    minutes, rest = divmod(milliseconds, MINUTE)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest / 1000:06.3f}"


def main() -> None:
    """Run both thefts with the number of attempts on the command line, and print the results."""
    arguments = sys.argv[1:] or ["1000000"]
    if len(arguments) != 1 or not re.fullmatch("[1-9][0-9]{0,8}", arguments[0]):
        sys.exit("usage: python theft.py [ATTEMPTS], from 1 to 999999999")
    attempts = int(arguments[0])
    counted, ignored = theft("count", attempts), theft("ignore", attempts)
    print(f"{attempts:,} attempts in 24 hours from one tier 2 client\n")
    print(*table(counted, ignored), sep="\n")
    print("\nevents, with refused attempts counted")
    print(*event_table(counted.events), sep="\n")
    print("\nevents, with refused attempts ignored")
    print(*event_table(ignored.events), sep="\n")


if __name__ == "__main__":
    main()
