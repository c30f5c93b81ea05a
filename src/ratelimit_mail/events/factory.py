"""From what was noticed to the events that say it."""

from __future__ import annotations

from typing import Any

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Envelope
from ratelimit_mail.events import BackToNormal, BurstAfterDenial, Event, FirstDenial, NearLimit
from ratelimit_mail.events.denials import Denied, Refused
from ratelimit_mail.events.near_limit import ToRead
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.policy.charges import ChargePlan
from ratelimit_mail.scopes import split_subject

__all__ = ["back_to_normal", "near_limit", "refusal_events", "refused_subject"]


def refused_subject(envelope: Envelope, plan: ChargePlan, limit: object) -> tuple[str, str]:
    """Whom `limit` refused, as counts know it and in words.

    The sender stands for it where it is one of several, or nothing was charged for it.
    """
    if isinstance(limit, RateLimit):
        found = {
            subject
            for ledger, subject, _ in plan.charges
            for count in ledger.counts
            for i in range(len(count.windows))
            if plan.effective_limits.limit_of(count, i) is limit
        }
        if len(found) == 1:
            subject = found.pop()
            return subject, _in_words(limit, subject)
    return envelope.sender, envelope.sender


def _in_words(limit: RateLimit, subject: str) -> str:
    if limit.scope == ("global",):
        return "everybody"
    parts = split_subject(limit.scope, subject)
    return " and ".join(
        value or f"no {word.replace('_', ' ')} told" for word, value in parts.items()
    )


def refusal_events(
    policy: str, envelope: Envelope, decision: Decision, refused: Refused, now: int
) -> list[Event]:
    """What is told of a refusal, if anything is."""
    whose: dict[str, Any] = {
        "sender": envelope.sender,
        "subject": refused.whose.subject,
        "limit": decision.limit,
        "policy": policy,
        "tier": decision.tier,
        "at": datetime_of(now),
        "client": envelope.client,
    }
    events: list[Event] = []
    if refused.is_first:
        events.append(FirstDenial(**whose, decision=decision))
    if refused.burst is not None:
        attempts, took = refused.burst
        events.append(BurstAfterDenial(**whose, attempts=attempts, seconds=took / 1000))
    return events


def near_limit(
    policy: str, envelope: Envelope, asked: ToRead, limit: RateLimit, used: int, now: int
) -> NearLimit:
    """That so much of `limit` is used."""
    return NearLimit(
        sender=envelope.sender,
        subject=_in_words(limit, asked.subject),
        limit=limit,
        policy=policy,
        tier=asked.effective_limits.tier,
        at=datetime_of(now),
        client=envelope.client,
        used=used,
        share=used / limit.limit,
    )


def back_to_normal(policy: str, denied: Denied, now: int) -> BackToNormal:
    """That a limit has refused `denied` nothing for a whole window."""
    return BackToNormal(
        sender=denied.sender,
        subject=denied.subject,
        limit=denied.limit,
        policy=policy,
        tier=denied.tier,
        at=datetime_of(now),
        client=denied.client,
        denials=denied.refusals,
        since=datetime_of(denied.began),
    )
