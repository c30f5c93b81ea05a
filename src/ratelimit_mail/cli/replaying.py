"""Messages run through a limiter, on a clock that the messages set."""

from __future__ import annotations

from collections.abc import Iterable

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.tally import Tally
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["replay"]


def replay(policy: Policy, messages: Iterable[tuple[int, Envelope]]) -> Tally:
    """Ask once for each message, at its time; `messages` must be in order of time."""
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock=clock))
    tally = Tally(policy)
    for time, envelope in messages:
        clock.set(time)
        tally.add(envelope.sender, limiter.try_acquire(envelope))
    return tally
