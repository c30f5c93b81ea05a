"""Create the events that follow from denials and from high usage."""

from __future__ import annotations

from typing import Any

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.events import (
    BackToNormal,
    BurstAfterDenial,
    Event,
    ExpectedRecipientsExceeded,
    FirstDenial,
    NearLimit,
)
from ratelimit_mail.events.denials import Denial, DenialPeriod
from ratelimit_mail.events.expected_recipients import ExpectedQuery
from ratelimit_mail.events.near_limit import UsageQuery
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Override
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import split_subject

__all__ = [
    "back_to_normal",
    "denial_events",
    "expected_recipients_exceeded",
    "near_limit",
    "subject_of_denial",
]


def subject_of_denial(envelope: Envelope, plan: ChargePlan, limit: object) -> tuple[str, str]:
    """Return the subject that `limit` denied, as the counts name it and in words.

    If the message was charged to several subjects of the limit, or to none, return the sender.
    """
    if isinstance(limit, RateLimit):
        subjects = {
            subject
            for ledger, subject, _ in plan.charges
            for count in ledger.counts
            for i in range(len(count.windows))
            if plan.effective_limits.limit_of(count, i) is limit
        }
        if len(subjects) == 1:
            subject = subjects.pop()
            return subject, _in_words(limit, subject)
    return envelope.sender, envelope.sender


def _in_words(limit: RateLimit, subject: str) -> str:
    if limit.scope == ("global",):
        return "everybody"
    values = split_subject(limit.scope, subject)
    return " and ".join(value or f"no {word.replace('_', ' ')}" for word, value in values.items())


def denial_events(
    policy: str, envelope: Envelope, decision: Decision, denial: Denial, now: int
) -> list[Event]:
    """Return the events that follow from a denial, if any."""
    common: dict[str, Any] = {
        "sender": envelope.sender,
        "subject": denial.period.subject,
        "limit": decision.limit,
        "policy": policy,
        "tier": decision.tier,
        "at": datetime_of(now),
        "client": envelope.client,
    }
    events: list[Event] = []
    if denial.is_first:
        events.append(FirstDenial(**common, decision=decision))
    if denial.burst is not None:
        attempts, duration = denial.burst
        events.append(BurstAfterDenial(**common, attempts=attempts, seconds=duration / 1000))
    return events


def near_limit(
    policy: str, envelope: Envelope, query: UsageQuery, limit: RateLimit, used: int, now: int
) -> NearLimit:
    """Return the event that `used` of `limit` is used."""
    return NearLimit(
        sender=envelope.sender,
        subject=_in_words(limit, query.subject),
        limit=limit,
        policy=policy,
        tier=query.effective_limits.tier,
        at=datetime_of(now),
        client=envelope.client,
        used=used,
        share=used / limit.limit,
    )


def expected_recipients_exceeded(
    policy: str,
    envelope: Envelope,
    query: ExpectedQuery,
    override: Override,
    recipients: int,
    now: int,
) -> ExpectedRecipientsExceeded:
    """Return the event that a sender reached more recipients than `override` says."""
    return ExpectedRecipientsExceeded(
        sender=envelope.sender,
        subject=query.subject,
        limit=query.limit,
        policy=policy,
        tier=query.tier,
        at=datetime_of(now),
        client=envelope.client,
        override=override,
        expected=override.expected_recipients or 0,
        recipients=recipients,
    )


def back_to_normal(policy: str, period: DenialPeriod, now: int) -> BackToNormal:
    """Return the event that a period of denials has ended."""
    return BackToNormal(
        sender=period.sender,
        subject=period.subject,
        limit=period.limit,
        policy=policy,
        tier=period.tier,
        at=datetime_of(now),
        client=period.client,
        denials=period.denials,
        since=datetime_of(period.start),
    )
