"""Events that a limiter or an outbox reports, and the listeners that receive them."""

from ratelimit_mail.events.dispatcher import Dispatcher
from ratelimit_mail.events.kinds import (
    BackToNormal,
    Blocked,
    BurstAfterDenial,
    Delayed,
    Event,
    ExpectedRecipientsExceeded,
    Failed,
    FirstDenial,
    Held,
    NearLimit,
    OutboxEvent,
    Released,
    Unblocked,
    Uncertain,
)
from ratelimit_mail.events.listeners import Listener
from ratelimit_mail.events.log_listener import log_events
from ratelimit_mail.events.recorder import Recorder

__all__ = [
    "BackToNormal",
    "Blocked",
    "BurstAfterDenial",
    "Delayed",
    "Dispatcher",
    "Event",
    "ExpectedRecipientsExceeded",
    "Failed",
    "FirstDenial",
    "Held",
    "Listener",
    "NearLimit",
    "OutboxEvent",
    "Recorder",
    "Released",
    "Unblocked",
    "Uncertain",
    "log_events",
]
