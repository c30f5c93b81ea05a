"""Events that a limiter reports about its decisions, and the listeners that receive them."""

from ratelimit_mail.events.dispatcher import Dispatcher
from ratelimit_mail.events.kinds import (
    BackToNormal,
    BurstAfterDenial,
    Event,
    ExpectedRecipientsExceeded,
    FirstDenial,
    NearLimit,
)
from ratelimit_mail.events.listeners import Listener
from ratelimit_mail.events.log_listener import log_events

__all__ = [
    "BackToNormal",
    "BurstAfterDenial",
    "Dispatcher",
    "Event",
    "ExpectedRecipientsExceeded",
    "FirstDenial",
    "Listener",
    "NearLimit",
    "log_events",
]
