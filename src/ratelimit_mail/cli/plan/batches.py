"""The batches and the days of a plan: what goes without a pause, and what goes on one day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

import attrs

from ratelimit_mail.planner import MailingPlan

__all__ = ["PAUSE", "Batch", "batches_of", "days_of"]

PAUSE: Final = timedelta(hours=1)
"""A pause from which on a new batch begins."""


@attrs.frozen
class Batch:
    """Consecutive messages: when the first and the last go, and how many there are."""

    first: datetime
    last: datetime
    messages: int
    recipients: int


def batches_of(plan: MailingPlan) -> Iterator[Batch]:
    """Yield the batches: between two of them, nothing goes for an hour or longer."""
    pause = PAUSE.total_seconds()
    starts = [0]
    starts += [i for i in range(1, plan.messages) if plan.delays[i] - plan.delays[i - 1] >= pause]
    yield from _between(plan, starts)


def days_of(plan: MailingPlan, zone: tzinfo) -> dict[date, Batch]:
    """Return the messages of each day in a time zone; days without any are left out."""
    starts = []
    end = -1.0
    for i, delay in enumerate(plan.delays):
        if delay >= end:
            starts.append(i)
            end = _end_of_day(plan.start + timedelta(seconds=delay), zone, plan.start)
    return {batch.first.astimezone(zone).date(): batch for batch in _between(plan, starts)}


def _between(plan: MailingPlan, starts: list[int]) -> Iterator[Batch]:
    """Yield what begins at each of `starts` and ends before the next."""
    for start, end in zip(starts, [*starts[1:], plan.messages], strict=True):
        yield Batch(
            plan.start + timedelta(seconds=plan.delays[start]),
            plan.start + timedelta(seconds=plan.delays[end - 1]),
            end - start,
            sum(plan.sizes[start:end]),
        )


def _end_of_day(moment: datetime, zone: tzinfo, start: datetime) -> float:
    """Return when the day of a moment ends in a time zone, in seconds after `start`."""
    try:
        following = moment.astimezone(zone).date() + timedelta(days=1)
        midnight = datetime.combine(following, time(), zone).astimezone(UTC)
    except OverflowError:  # the last day of the year 9999
        return float("inf")
    return (midnight - start).total_seconds()
