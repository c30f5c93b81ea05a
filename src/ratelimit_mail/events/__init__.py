"""Events that a limiter reports about its decisions, and the listeners that receive them."""

from ratelimit_mail.events.dispatcher import Dispatcher
from ratelimit_mail.events.kinds import (
    BackToNormal,
    Blocked,
    BurstAfterDenial,
    Event,
    ExpectedRecipientsExceeded,
    FirstDenial,
    NearLimit,
    Unblocked,
)
from ratelimit_mail.events.listeners import Listener
from ratelimit_mail.events.log_listener import log_events

__all__ = [
    "BackToNormal",
    "Blocked",
    "BurstAfterDenial",
    "Dispatcher",
    "Event",
    "ExpectedRecipientsExceeded",
    "FirstDenial",
    "Listener",
    "NearLimit",
    "Unblocked",
    "log_events",
]
