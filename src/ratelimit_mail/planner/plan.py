"""MailingPlan: the times of a mailing, the periods in which a limit delays it, and its hours."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Final

import attrs

from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.limits import Limit
from ratelimit_mail.planner.working_hours import WorkingHours
from ratelimit_mail.rules import Block

__all__ = ["CannotFinish", "Cause", "DelayPeriod", "Hour", "MailingPlan"]

HOUR: Final = timedelta(hours=1)

Cause = Limit | WorkingHours | Block
"""What delays a message; `str()` says it in words."""


class CannotFinish(ValueError):
    """A message of the mailing can never go.

    number: the number of the message, counted from 1. recipients: how many it has.
    decision: the decision that refuses it, with the limit or the rule.
    """

    def __init__(self, number: int, recipients: int, decision: Decision) -> None:
        super().__init__(number, recipients, decision)
        self.number = number
        self.recipients = recipients
        self.decision = decision

    @property
    def why(self) -> str:
        """The reason in words."""
        limit, rule = self.decision.limit, self.decision.rule
        if self.decision.retry_after is not None:
            return "would go after the year 9998"
        if self.decision.action is Action.HOLD:
            return f"would wait for a moderator: {rule}"
        if self.decision.block is not None:
            return f"can never go: {self.decision.block}"
        return f"can never go: {rule or f'at most {limit}'}"

    def __str__(self) -> str:
        many = "1 recipient" if self.recipients == 1 else f"{self.recipients:,} recipients"
        return f"message {self.number:,}, with {many}, {self.why}"


@attrs.frozen
class DelayPeriod:
    """A period in which one limit delays the mailing.

    It covers consecutive waits for the same limit; messages go in it whenever the limit has
    capacity.

    limit: if several limits delay a message, the one that has capacity last. It may also be the
        `WorkingHours` of the mailing, or a `Block` of its sender.
    start: when the last message before the first wait went.
    end: when the first message after the last wait went.
    waiting: how many messages had not gone at the start.
    """

    limit: Cause
    start: datetime
    end: datetime
    waiting: int


@attrs.frozen
class Hour:
    """One hour of a mailing in which messages go.

    messages, recipients: how many go in it.
    number: counted from the start; hour 0 is the first sixty minutes.
    held: the limits that delay messages in this hour, the longest delay first; empty if none
        does.
    """

    number: int
    messages: int
    recipients: int
    held: tuple[Cause, ...]


@attrs.frozen(kw_only=True, slots=False)
class MailingPlan:
    """When each message of a mailing goes; every time is UTC.

    policy: the name of the policy.
    start: the moment that the delays are counted from.
    delays: for each message in order, how many seconds after the start it goes.
    sizes: for each message in order, how many recipients it has.
    held: the periods in which a limit delays messages, in order; empty if everything goes at
        once.
    """

    policy: str
    start: datetime
    delays: tuple[float, ...] = attrs.field(repr=False)
    sizes: tuple[int, ...] = attrs.field(repr=False)
    held: tuple[DelayPeriod, ...]

    @property
    def messages(self) -> int:
        """The number of messages."""
        return len(self.delays)

    @property
    def recipients(self) -> int:
        """The total number of recipients; a recipient of several messages counts each time."""
        return sum(self.sizes)

    @property
    def first(self) -> datetime:
        """When the first message goes."""
        return self._moment(self.delays[0])

    @property
    def half(self) -> datetime:
        """When at least half of the messages have gone."""
        return self._moment(self.delays[(len(self.delays) - 1) // 2])

    @property
    def last(self) -> datetime:
        """When the last message goes."""
        return self._moment(self.delays[-1])

    @property
    def longest_held(self) -> Cause | None:
        """The limit that delays messages longest in total; None if no limit does."""
        return next(iter(self.held_between(self.start, self.last)), None)

    @cached_property
    def by_hour(self) -> tuple[Hour, ...]:
        """The hours in which messages go, in order; hours without messages are left out."""
        return tuple(self._hours())

    def held_between(self, start: datetime, end: datetime) -> tuple[Cause, ...]:
        """Return the limits that delay messages from `start` to `end`, the longest delay first."""
        times: dict[Cause, timedelta] = {}
        for i in range(bisect_right(self.held, start, key=lambda held: held.end), len(self.held)):
            held = self.held[i]
            if held.start >= end:
                break
            time = min(held.end, end) - max(held.start, start)
            times[held.limit] = times.get(held.limit, timedelta()) + time
        return tuple(sorted(times, key=lambda limit: -times[limit]))

    def _moment(self, delay: float) -> datetime:
        return self.start + timedelta(seconds=delay)

    def _hours(self) -> Iterator[Hour]:
        sent = zip(self.delays, self.sizes, strict=True)
        for number, group in groupby(sent, lambda message: int(message[0] // 3600)):
            sizes = [size for _, size in group]
            start = self.start + number * HOUR
            yield Hour(number, len(sizes), sum(sizes), self.held_between(start, start + HOUR))
