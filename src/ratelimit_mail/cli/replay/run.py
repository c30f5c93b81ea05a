"""Messages run through a limiter, on a clock that the messages set."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.tally import Tally
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["Tries", "Watcher", "replay", "run"]

Tries = Iterable[tuple[int, Envelope]]
"""Each message's time, in milliseconds since the epoch, and its envelope, in order of time."""

Watcher = Callable[[int, Envelope, Decision], None]
"""What is told of each decision."""


def replay(policy: Policy, tries: Tries, *watchers: Watcher) -> Tally:
    """Ask once for each message, at its time, and count the decisions."""
    tally = Tally(policy)

    def count(_: int, envelope: Envelope, decision: Decision) -> None:
        tally.add(envelope.sender, decision)

    clock = ManualClock(0)
    run(Limiter(policy, MemoryBackend(clock=clock)), clock, tries, count, *watchers)
    return tally


def run(limiter: Limiter, clock: ManualClock, tries: Tries, *watchers: Watcher) -> None:
    """Ask `limiter`, whose clock is `clock`, once for each message, at its time."""
    for time, envelope in tries:
        clock.set(time)
        decision = limiter.try_acquire(envelope)
        for watch in watchers:
            watch(time, envelope, decision)
