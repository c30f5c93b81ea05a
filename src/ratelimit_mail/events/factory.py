"""Create the events that follow from denials and from high usage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import NOBODY, Envelope
from ratelimit_mail.events import (
    BackToNormal,
    Blocked,
    BurstAfterDenial,
    Event,
    ExpectedRecipientsExceeded,
    FirstDenial,
    NearLimit,
    Unblocked,
)
from ratelimit_mail.events.denials import Denial, DenialPeriod
from ratelimit_mail.events.expected_recipients import ExpectedQuery
from ratelimit_mail.events.near_limit import UsageQuery
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.overrides import Override
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.rules import Block
from ratelimit_mail.scopes import Comparison, split_subject

__all__ = [
    "back_to_normal",
    "blocked",
    "denial_events",
    "expected_recipients_exceeded",
    "near_limit",
    "subject_of_denial",
    "unblocked",
]


def subject_of_denial(envelope: Envelope, plan: ChargePlan, limit: object) -> tuple[str, str]:
    """Return the subject that `limit` denied, as the counts name it and in words.

    If the message was charged to several subjects of the limit, or to none, return the sender.
    """
    comparison = plan.effective_limits.comparison
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
            return subject, _in_words(limit, subject, envelope, comparison)
    return comparison.address(envelope.sender), envelope.sender


def _in_words(limit: RateLimit, subject: str, envelope: Envelope, comparison: Comparison) -> str:
    """Return a subject in words, its addresses as `envelope` spells them."""
    if limit.scope == ("global",):
        return "everybody"
    words = []
    for word, value in split_subject(limit.scope, subject).items():
        spellings: Iterable[str] = ()
        if word in ("sender", "recipient"):
            spellings = (envelope.sender,) if word == "sender" else envelope.recipients
        elif word == "user" and envelope.client.user is not None:
            spellings = (envelope.client.user,)
        shown = next((each for each in spellings if comparison.value(word, each) == value), value)
        words.append(shown or f"no {word.replace('_', ' ')}")
    return " and ".join(words)


def _values_in_words(values: Mapping[str, str]) -> str:
    if "global" in values:
        return "everybody"
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
        subject=_in_words(limit, query.subject, envelope, query.effective_limits.comparison),
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


def blocked(policy: str, block: Block) -> Blocked:
    """Create the event of a new block."""
    return Blocked(block=block, **_of_block(policy, block), at=block.since)


def unblocked(policy: str, block: Block, now: int) -> Unblocked:
    """Create the event of a block that was lifted at `now`."""
    return Unblocked(block=block, **_of_block(policy, block), at=datetime_of(now))


def _of_block(policy: str, block: Block) -> dict[str, Any]:
    values = block.subject if isinstance(block.subject, tuple) else (block.subject or "",)
    return {
        "sender": values[0] if block.scope == ("sender",) else "",
        "subject": _values_in_words(dict(zip(block.scope, values, strict=False))),
        "limit": None,
        "policy": policy,
        "tier": None,
        "client": NOBODY,
    }
