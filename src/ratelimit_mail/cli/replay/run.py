"""Decide on the messages of a replay, and count the decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ratelimit_mail.cli.replay.decider import decider
from ratelimit_mail.cli.replay.tally import Tally
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["DecisionCallback", "TimedEnvelopes", "replay"]

TimedEnvelopes = Iterable[tuple[int, Envelope]]
"""The time, in milliseconds since the epoch, and the envelope of each message, sorted by time."""

DecisionCallback = Callable[[int, Envelope, Decision], None]
"""A function that is called with each decision."""


def replay(policy: Policy, envelopes: TimedEnvelopes, *callbacks: DecisionCallback) -> Tally:
    """Try each message once, at its time, and return the counts of the decisions."""
    tally = Tally(policy)
    decide, count = decider(policy), tally.add
    for time, envelope in envelopes:
        decision = decide(time, envelope)
        count(envelope.sender, decision)
        for callback in callbacks:
            callback(time, envelope, decision)
    return tally
