"""What a plan of a mailing says: times, stretches in which a limit held, hours."""

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

__all__ = ["CannotFinish", "Held", "Hour", "MailingPlan"]

HOUR: Final = timedelta(hours=1)


class CannotFinish(ValueError):
    """A message of the mailing can never go, whatever is waited for.

    number: which message, counted from 1. recipients: how many it has. decision: the limit or the
    rule that refuses it.
    """

    def __init__(self, number: int, recipients: int, decision: Decision) -> None:
        super().__init__(number, recipients, decision)
        self.number = number
        self.recipients = recipients
        self.decision = decision

    @property
    def why(self) -> str:
        """What stands in its way, in words."""
        limit, rule = self.decision.limit, self.decision.rule
        if self.decision.retry_after is not None:
            return "would go after the year 9998"
        if self.decision.action is Action.HOLD:
            return f"would wait for a moderator: {rule}"
        return f"can never go: {rule or f'at most {limit}'}"

    def __str__(self) -> str:
        many = "1 recipient" if self.recipients == 1 else f"{self.recipients:,} recipients"
        return f"message {self.number:,}, with {many}, {self.why}"


@attrs.frozen
class Held:
    """A stretch of time in which one limit held the mailing up.

    limit: the one that gave way last. start, end: the last message before the wait went at
    `start`, the next one at `end`; waits that follow each other are one stretch, in which messages
    go whenever the limit has room. waiting: how many messages had not gone when it began.
    """

    limit: Limit
    start: datetime
    end: datetime
    waiting: int


@attrs.frozen
class Hour:
    """One hour of a mailing in which messages go.

    number: counted from the start: hour 0 is its first sixty minutes. held: the limits that held
    in it, the longest first; none where all that was there fitted.
    """

    number: int
    messages: int
    recipients: int
    held: tuple[Limit, ...]


@attrs.frozen(kw_only=True, slots=False)
class MailingPlan:
    """When each message of a mailing goes; every time is UTC.

    policy: the policy's name.
    start: when the mailing begins, with nothing sent before.
    delays: for each message in order, how many seconds after the start it goes.
    sizes: for each message in order, how many recipients it has.
    held: the stretches in which a limit held, in order; none where everything goes at once.
    """

    policy: str
    start: datetime
    delays: tuple[float, ...] = attrs.field(repr=False)
    sizes: tuple[int, ...] = attrs.field(repr=False)
    held: tuple[Held, ...]

    @property
    def messages(self) -> int:
        """How many messages go."""
        return len(self.delays)

    @property
    def recipients(self) -> int:
        """How many recipients they have in all; one of several messages counts each time."""
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
    def longest_held(self) -> Limit | None:
        """The limit that holds for the longest time in all; None where none does."""
        return next(iter(self.held_between(self.start, self.last)), None)

    @cached_property
    def by_hour(self) -> tuple[Hour, ...]:
        """The hours in which messages go, in order; an hour without any is left out."""
        return tuple(self._hours())

    def held_between(self, start: datetime, end: datetime) -> tuple[Limit, ...]:
        """The limits that held at some time from `start` to `end`, the longest first."""
        times: dict[Limit, timedelta] = {}
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
