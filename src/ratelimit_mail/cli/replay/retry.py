"""Follow deferred messages as the queue of a mail server does, until each may go or is given up.

The messages of one sender go in their order: while its first one waits, the later ones wait behind
it. A waiting message is tried when the limit says that it fits. If the capacity went to another
sender meanwhile, it is tried again after 1, 2, 4 ... seconds, at most a minute. After 5 days it is
given up, as RFC 5321 (4.5.4.1) advises.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Final

import attrs

from ratelimit_mail.cli.replay.by_tier import sender_keys
from ratelimit_mail.cli.replay.decider import decider
from ratelimit_mail.cli.replay.run import TimedEnvelopes
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.policy import Policy

__all__ = ["LIFETIME", "DelayCallback", "Delays", "retry"]

LIFETIME: Final = 5 * 86_400_000
LONGEST_PAUSE: Final = 60_000
"""Milliseconds."""

DelayCallback = Callable[[Envelope, "int | None"], None]
"""A function that is called with each message that did not go at once, and its delay in
milliseconds; None if it never went."""


@attrs.define
class Delays:
    """What became of messages.

    at_once: accepted at their time. delays: of those that were deferred and went, in milliseconds.
    rejected, held: by the policy, at once or when tried again. given_up: not accepted in 5 days.
    """

    at_once: int = 0
    rejected: int = 0
    held: int = 0
    given_up: int = 0
    delays: array[int] = attrs.field(factory=lambda: array("q"))

    def percentile(self, share: float) -> int | None:
        """Return the delay that `share` of the delayed messages do not exceed, None without any."""
        if not self.delays:
            return None
        ordered = sorted(self.delays)
        return ordered[max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1)]

    @property
    def never(self) -> int:
        """The number of messages that would never have gone."""
        return self.rejected + self.given_up

    @property
    def messages(self) -> int:
        """The number of all messages."""
        return self.at_once + len(self.delays) + self.never + self.held

    @classmethod
    def total(cls, several: Iterable[Delays]) -> Delays:
        """Return what became of the messages of several."""
        total = cls()
        for each in several:
            total.at_once += each.at_once
            total.rejected += each.rejected
            total.held += each.held
            total.given_up += each.given_up
            total.delays.extend(each.delays)
        return total


@attrs.define
class _Queue:
    """The waiting messages of one sender, with the times at which they were sent."""

    messages: deque[tuple[int, Envelope]] = attrs.field(factory=deque)
    pause: int = 0


class _Run:
    """One replay with retries."""

    def __init__(self, policy: Policy, callbacks: tuple[DelayCallback, ...]) -> None:
        self._callbacks = callbacks
        self.by_tier: dict[str | None, Delays] = {tier.name: Delays() for tier in policy.tiers}
        self._keys = sender_keys(policy)
        self._decide = decider(policy)
        self._queues: dict[str, _Queue] = {}
        self._due: list[tuple[int, int, str]] = []
        """When each queue is tried, in which order, and its sender."""
        self._numbers = count()

    def arrive(self, time: int, envelope: Envelope) -> None:
        """Try a message, or put it behind the waiting messages of its sender."""
        self.wake(time)
        sender = self._keys[envelope.sender]
        queue = self._queues.get(sender)
        if queue is not None:
            queue.messages.append((time, envelope))
            return
        decision = self._decide(time, envelope)
        if not self._settle(decision, envelope, time, time):
            self._queues[sender] = queue = _Queue(deque([(time, envelope)]))
            self._wait(sender, queue, time, decision)

    def wake(self, until: int | None) -> None:
        """Try the queues that are due, up to and at a time; all, if it is None."""
        while self._due and (until is None or self._due[0][0] <= until):
            now, _, sender = heappop(self._due)
            self._try(sender, self._queues[sender], now)

    def _try(self, sender: str, queue: _Queue, now: int) -> None:
        messages = queue.messages
        while messages:
            time, envelope = messages[0]
            decision = self._decide(now, envelope)
            if not self._settle(decision, envelope, time, now):
                if now - time < LIFETIME:
                    self._wait(sender, queue, now, decision)
                    return
                self._counts(decision).given_up += 1
                self._report(envelope, None)
            else:
                queue.pause = 0
            messages.popleft()
        del self._queues[sender]

    def _wait(self, sender: str, queue: _Queue, now: int, decision: Decision) -> None:
        after = -int(-(decision.retry_after or 0) * 1000 // 1)
        due = now + max(after, queue.pause, 1)
        queue.pause = min(max(1000, 2 * queue.pause), LONGEST_PAUSE)
        # A message whose time is over is tried once more at that time, and given up.
        given_up = queue.messages[0][0] + LIFETIME
        heappush(self._due, (min(due, max(given_up, now + 1)), next(self._numbers), sender))

    def _settle(self, decision: Decision, envelope: Envelope, sent: int, now: int) -> bool:
        """Count a decision; return False if the message has to wait."""
        counts = self._counts(decision)
        if decision.action is Action.ACCEPT:
            if now == sent:
                counts.at_once += 1
            else:
                counts.delays.append(now - sent)
                self._report(envelope, now - sent)
        elif decision.action is Action.REJECT or (
            decision.action is Action.DEFER and decision.retry_after is None
        ):
            counts.rejected += 1
            self._report(envelope, None)
        elif decision.action is Action.HOLD:
            counts.held += 1
        else:
            return False
        return True

    def _report(self, envelope: Envelope, delay: int | None) -> None:
        for callback in self._callbacks:
            callback(envelope, delay)

    def _counts(self, decision: Decision) -> Delays:
        counts = self.by_tier.get(decision.tier)
        if counts is None:
            counts = self.by_tier[decision.tier] = Delays()
        return counts


def retry(
    policy: Policy, envelopes: TimedEnvelopes, *callbacks: DelayCallback
) -> dict[str | None, Delays]:
    """Return what became of the messages of each tier; None stands for messages without one."""
    run = _Run(policy, callbacks)
    for time, envelope in envelopes:
        run.arrive(time, envelope)
    run.wake(None)
    return run.by_tier
