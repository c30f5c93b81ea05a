"""The kinds of events: what happened, to which sender, under which limit, and when."""

from __future__ import annotations

from datetime import datetime

import attrs

from ratelimit_mail._util.documentation import with_arguments_of
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Override
from ratelimit_mail.rules import Block

__all__ = [
    "BackToNormal",
    "Blocked",
    "BurstAfterDenial",
    "Delayed",
    "Event",
    "ExpectedRecipientsExceeded",
    "Failed",
    "FirstDenial",
    "Held",
    "NearLimit",
    "OutboxEvent",
    "Released",
    "Unblocked",
    "Uncertain",
]


@attrs.frozen(kw_only=True)
class Event:
    """The attributes that every event has.

    sender: the sender address of the message that caused the event.
    subject: what the limit counted the message for, in words, such as a sender, a client or a
        recipient.
    limit: the limit that the event is about; None if there is none, for example if it is about
        the rule that a sender needs a grant.
    policy: the name of the policy.
    tier: the name of the client's tier; None if the client is in no tier.
    at: the time by the backend's clock, in UTC.
    client: the client that submitted the message.

    Addresses and logins are as the client sent them, and not escaped.
    """

    sender: str
    subject: str
    limit: Limit | None
    policy: str
    tier: str | None
    at: datetime
    client: Client

    @property
    def enforced(self) -> bool:
        """Whether the event is about what is enforced; false for a limit that only reports."""
        return self.limit is None or self.limit.enforce


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class FirstDenial(Event):
    """A message was denied for the first time in the limit's window.

    decision: the decision on the message.

    A limit on one message and a rule have no window; for them it is 24 hours.
    """

    decision: Decision


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class NearLimit(Event):
    """A large share of a limit is used, by default 80 %.

    used: how much of `limit.limit` is used. share: the same as a fraction of 1.
    """

    used: int
    share: float


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class BurstAfterDenial(Event):
    """After a first denial, many more attempts were denied within a short time.

    attempts: how many, not counting the first denial. seconds: the time they took.
    """

    attempts: int
    seconds: float


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class Blocked(Event):
    """A subject was blocked by this limiter: by an administrator, or by a provider's reply.

    block: the block, with its reason and its end. `limit` and `tier` are None, the client is
        unknown, and `sender` is empty if something else than a sender is blocked.
    """

    block: Block


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class Unblocked(Event):
    """A block was lifted by this limiter before its end.

    block: the block that was lifted; the other attributes as in Blocked.
    """

    block: Block


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class BackToNormal(Event):
    """After a first denial, a whole window has passed in which the limit denied nothing.

    denials: how many messages the limit had denied. since: the time of the first denial.

    The event is reported at the limiter's next call after that, for any sender. Its sender,
    client and tier are those of the last denial.
    """

    denials: int
    since: datetime


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class ExpectedRecipientsExceeded(Event):
    """A sender with an override has reached more recipients than were expected.

    override: the override that applies to the message.
    expected: its `expected_recipients`. recipients: how many recipients the sender has reached,
        this message included.

    They are counted in the window of `limit`: the policy's recipient limit per sender, and the
    one with the longest window if there are several. If there is none, `limit` is None, and the
    limiter counts by itself for 24 hours.
    """

    override: Override
    expected: int
    recipients: int


@with_arguments_of(Event)
@attrs.frozen(kw_only=True)
class OutboxEvent(Event):
    """The attributes that the events of an outbox have in addition.

    message: the number of the message in its outbox. key: the name that the program gave it.
    recipients: the recipients that the event is about.

    `subject` is the sender, and `tier` is None.
    """

    message: int
    key: str | None
    recipients: tuple[str, ...]


@with_arguments_of(OutboxEvent)
@attrs.frozen(kw_only=True)
class Delayed(OutboxEvent):
    """A message waits in the outbox, because a limit or a block does not allow it now.

    expected: when it is expected to go; None if nobody knows. Reported once a message.
    """

    expected: datetime | None


@with_arguments_of(OutboxEvent)
@attrs.frozen(kw_only=True)
class Released(OutboxEvent):
    """A message that was reported as delayed has been sent.

    put: when it was put into the outbox.
    """

    put: datetime


@with_arguments_of(OutboxEvent)
@attrs.frozen(kw_only=True)
class Failed(OutboxEvent):
    """A message will not reach these recipients: refused, given up, expired or rejected.

    reply: the last reply of the server, or the reason in words.
    """

    reply: str


@with_arguments_of(OutboxEvent)
@attrs.frozen(kw_only=True)
class Held(OutboxEvent):
    """A message waits for the moderators of mailing lists.

    lists: the addresses of the lists.
    """

    lists: tuple[str, ...]


@with_arguments_of(OutboxEvent)
@attrs.frozen(kw_only=True)
class Uncertain(OutboxEvent):
    """A message was being sent when the connection or the program died: it may have been sent.

    reply: what happened. resent: whether the outbox sends it again.
    """

    reply: str
    resent: bool
