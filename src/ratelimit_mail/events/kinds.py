"""The kinds of events: values that say what happened to whom, by which limit, and when."""

from __future__ import annotations

from datetime import datetime

import attrs

from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit

__all__ = ["BackToNormal", "BurstAfterDenial", "Event", "FirstDenial", "NearLimit"]


@attrs.frozen(kw_only=True)
class Event:
    """What every event says.

    sender: the address of who sent the message that brought it up.
    subject: whom the limit counts it for, such as a client or a recipient, in words; for what is
        counted per sender, the sender.
    limit: the limit that spoke; None where a rule did, as for a sender that was not granted.
    policy: the policy's name. tier: that of the client's tier; None where no tier holds.
    at: when, by the backend's clock, in UTC.
    client: who submitted the message.

    What it holds of addresses and logins is as strangers wrote it.
    """

    sender: str
    subject: str
    limit: Limit | None
    policy: str
    tier: str | None
    at: datetime
    client: Client


@attrs.frozen(kw_only=True)
class FirstDenial(Event):
    """A message may not go, for the first time in the limit's window.

    decision: what was answered.

    A limit on one message, and a rule, have no window: for them it is 24 hours.
    """

    decision: Decision


@attrs.frozen(kw_only=True)
class NearLimit(Event):
    """Much of a limit is used: 80 %, where nothing else was asked for.

    used: how much, of `limit.limit`. share: the same as a part of 1.
    """

    used: int
    share: float


@attrs.frozen(kw_only=True)
class BurstAfterDenial(Event):
    """After a first denial, many more attempts were refused within a short time.

    attempts: how many, the first denial not among them. seconds: in how long they came.
    """

    attempts: int
    seconds: float


@attrs.frozen(kw_only=True)
class BackToNormal(Event):
    """A whole window has passed in which the limit refused nothing, after a first denial.

    denials: how many it had refused. since: when the first of them was.

    It is told at the first call after that, whoever makes it. Sender, client and tier are those
    of the last refusal.
    """

    denials: int
    since: datetime
