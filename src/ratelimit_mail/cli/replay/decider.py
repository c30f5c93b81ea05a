"""Deciders: what decides on the messages of a replay, each at its time and in order of time.

Most policies need no limiter for that: the counts of messages in order decide in a third of the
time. They do not know limits that only report, that block a subject, that count unique recipients,
or that spread a message over time, nor partial answers, nor hundreds of different numbers: there a
limiter decides, with a clock that follows the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.cli.replay.mail_records import MOST_REPEATED
from ratelimit_mail.counting.in_order import InOrderCounts, PreparedCharge
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.limiter.verdicts import decide, refused_until
from ratelimit_mail.limits import Limit, RateLimit
from ratelimit_mail.policy import Policy
from ratelimit_mail.policy.charges import EffectiveLimits
from ratelimit_mail.policy.selection import MOST_BUILT
from ratelimit_mail.testing import ManualClock

__all__ = ["Decider", "decider", "is_countable"]

MOST_PREPARED: Final = 16_384
"""Of how many envelopes it is known what they are charged."""

Decider = Callable[[int, Envelope], Decision]
"""Returns the decision on a message at a time in milliseconds, which is not before the last one."""


def decider(policy: Policy) -> Decider:
    """Return what decides on messages under a policy, on empty counts."""
    return _InOrder(policy).decide if is_countable(policy) else _by_limiter(policy)


def _by_limiter(policy: Policy) -> Decider:
    clock = ManualClock(0)
    limiter = Limiter(policy, MemoryBackend(clock=clock))

    def decide(time: int, envelope: Envelope) -> Decision:
        clock.set(time)
        return limiter.try_acquire(envelope)

    return decide


class _Prepared(NamedTuple):
    """What is known of every message with the same envelope.

    envelope: stays, because it is looked up by its identity.
    limits: those that apply to it.
    decision: on it, if it fits, or whatever was sent.
    charges: what it is charged, if it fits. attempt: what is charged although `decision` refuses.
    only: the charge if there is one alone; mostly there is.
    """

    envelope: Envelope
    limits: EffectiveLimits
    decision: Decision
    charges: Sequence[PreparedCharge]
    attempt: Sequence[PreparedCharge]
    only: PreparedCharge | None


class _InOrder:
    """Decides by the counts of messages in order."""

    def __init__(self, policy: Policy) -> None:
        policy = policy.at_node(None)
        self._now = 0
        self._plan = policy.planner(lambda: self._now)
        self._has_dates = policy.has_dates
        self._counts = InOrderCounts()
        self._take_one = self._counts.take_one
        self._prepared: dict[int, _Prepared] = {}

    def decide(self, time: int, envelope: Envelope) -> Decision:
        """Return the decision on a message at `time`."""
        prepared = self._prepared.get(id(envelope))
        if prepared is None:
            prepared = self._prepare(envelope, time)
        _, limits, decision, charges, attempt, only = prepared
        if only is not None:
            refused = self._take_one(only, time)
        elif charges:
            refused = self._counts.take(charges, time)
        else:
            self._counts.count_refused(attempt, time)
            return decision
        return decision if refused is None else refused_until(limits, (time, *refused))

    def _prepare(self, envelope: Envelope, time: int) -> _Prepared:
        self._now = time
        plan = self._plan(envelope)
        charges = self._counts.prepare(plan.charges)
        is_refused = plan.never is not None
        prepared = _Prepared(
            envelope,
            plan.effective_limits,
            decide(plan, None, None),
            () if is_refused else charges,
            charges if is_refused else (),
            charges[0] if len(charges) == 1 and not is_refused else None,
        )
        # An envelope with many recipients is large, and is made anew for each message.
        if not self._has_dates and len(envelope.recipients) <= MOST_REPEATED:
            if len(self._prepared) >= MOST_PREPARED:
                self._prepared.clear()
            self._prepared[id(envelope)] = prepared
        return prepared


def is_countable(policy: Policy) -> bool:
    """Return whether messages under a policy are decided by the counts of messages in order."""
    limits = set(policy.all_limits)
    # A policy with more makes some anew for each message: each would have to be prepared again.
    if policy.partial or len(limits) > MOST_BUILT:
        return False
    return all(map(_is_countable_limit, limits))


def _is_countable_limit(limit: Limit) -> bool:
    if not limit.enforce:
        return False
    if not isinstance(limit, RateLimit):
        return True
    return not limit.is_unique and limit.on_oversize != "spread" and limit.on_excess != "block"
