"""Run messages through a limiter, on a clock that follows the times of the messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.tally import Tally
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.policy import Policy
from ratelimit_mail.testing import ManualClock

__all__ = ["DecisionCallback", "TimedEnvelopes", "replay", "run"]

TimedEnvelopes = Iterable[tuple[int, Envelope]]
"""The time, in milliseconds since the epoch, and the envelope of each message, sorted by time."""

DecisionCallback = Callable[[int, Envelope, Decision], None]
"""A function that is called with each decision."""


def replay(policy: Policy, envelopes: TimedEnvelopes, *callbacks: DecisionCallback) -> Tally:
    """Try each message once, at its time, and return the counts of the decisions."""
    tally = Tally(policy)

    def count(_: int, envelope: Envelope, decision: Decision) -> None:
        tally.add(envelope.sender, decision)

    clock = ManualClock(0)
    run(Limiter(policy, MemoryBackend(clock=clock)), clock, envelopes, count, *callbacks)
    return tally


def run(
    limiter: Limiter, clock: ManualClock, envelopes: TimedEnvelopes, *callbacks: DecisionCallback
) -> None:
    """Try each message once, at its time; `clock` is the clock of `limiter`."""
    for time, envelope in envelopes:
        clock.set(time)
        decision = limiter.try_acquire(envelope)
        for callback in callbacks:
            callback(time, envelope, decision)
