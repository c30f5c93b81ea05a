"""Alerts: a listener that reports events to people, once for all processes that share a store."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Final

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail._util.text import show
from ratelimit_mail.backends.base import Backend
from ratelimit_mail.backends.memory import MemoryBackend
from ratelimit_mail.events import (
    BackToNormal,
    Blocked,
    BurstAfterDenial,
    Delayed,
    Dispatcher,
    Event,
    ExpectedRecipientsExceeded,
    Failed,
    FirstDenial,
    Held,
    Listener,
    NearLimit,
    OutboxEvent,
    Released,
    Unblocked,
    Uncertain,
)
from ratelimit_mail.limits import RateLimit
from ratelimit_mail.monitoring.claims import Claims
from ratelimit_mail.monitoring.mail import MailAlerts

__all__ = ["DEFAULT_KINDS", "KINDS", "Alerts"]

KINDS: Final = {
    kind.__name__: kind
    for kind in (
        BackToNormal,
        Blocked,
        BurstAfterDenial,
        Delayed,
        ExpectedRecipientsExceeded,
        Failed,
        FirstDenial,
        Held,
        NearLimit,
        Released,
        Unblocked,
        Uncertain,
    )
}

DEFAULT_KINDS: Final = (
    "FirstDenial",
    "BurstAfterDenial",
    "Blocked",
    "Unblocked",
    "ExpectedRecipientsExceeded",
    "Uncertain",
)

DAY: Final = 24 * 3600.0

LONGEST: Final = 7 * DAY


class Alerts:
    """Hands each event to `channels`, on a thread for each: a listener for `on_event`.

    channels: listeners that reach people, such as MailAlerts, WebhookAlerts and SystemLogAlerts. A
        slow one does not hold up the others; at most 1,000 events wait for each.
    store: where several processes agree on which of them reports an event: the backend that they
        count in. Without it, and while it is away, every process reports its own.
    name: the name of the policy, under which they agree.
    kinds: the names of the kinds of events that are alerts; by default FirstDenial,
        BurstAfterDenial, Blocked, Unblocked, ExpectedRecipientsExceeded and Uncertain.
    shadow: whether limits that only report raise alerts too, which say so.

    Of several processes that see the same subject reach the same limit, the first in the limit's
    window reports it. Alerts are not messages of the limiter: no limit applies to them.
    """

    def __init__(
        self,
        channels: Sequence[Listener],
        *,
        store: Backend | None = None,
        name: str = "alerts",
        kinds: Collection[str] = DEFAULT_KINDS,
        shadow: bool = True,
    ) -> None:
        if not channels:
            raise ValueError("channels: the list is empty; at least one is needed")
        if isinstance(kinds, str):
            raise TypeError(f"kinds: a list of names is needed, not {show(kinds)}")
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"kinds: {show(kind)} is not one of {', '.join(KINDS)}")
        self._kinds = tuple(KINDS[kind] for kind in kinds)
        self._channels = tuple(channels)
        self._dispatchers = [Dispatcher(channel) for channel in channels]
        self._claims = Claims(MemoryBackend() if store is None else store, name)
        self._shadow = shadow

    def __call__(self, event: Event) -> None:
        """Report an event, if it is an alert and no other process has reported it."""
        if not isinstance(event, self._kinds) or not (event.enforced or self._shadow):
            return
        # A block and a message of an outbox are reported once anyway, by the process that has it.
        if not isinstance(event, Blocked | Unblocked | OutboxEvent):
            limit = event.limit
            seconds: float = DAY
            if isinstance(limit, RateLimit):
                at = milliseconds_of(event.at)
                seconds = (limit.renewed_at(at) - at) / 1000
            what = f"{type(event).__name__}\0{event.policy}\0{event.subject}\0{limit}"
            if not self._claims.take(what, min(max(60.0, seconds), LONGEST)):
                return
        for dispatcher in self._dispatchers:
            dispatcher.dispatch(event)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the channels have all events; return whether they had, in time.

        timeout: the most seconds to wait; None for any time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        return all(
            dispatcher.flush(None if end is None else max(0.0, end - time.monotonic()))
            for dispatcher in self._dispatchers
        )

    def start(self) -> None:
        """Send what a process has left in the store that has died, before the first event."""
        for channel in self._channels:
            if isinstance(channel, MailAlerts):
                channel.start()

    def close(self, timeout: float = 5.0, *, successor: Alerts | None = None) -> None:
        """Hand over what waits, and close the channels; for the end of a program.

        timeout: the most seconds that this may take.
        successor: what reports events from now on, if the settings of a program have changed. It
            sends the mail that waits.
        """
        self.flush(timeout)
        heir = None if successor is None else successor._mail()
        for channel in self._channels:
            close = getattr(channel, "close", None)
            if isinstance(channel, MailAlerts) and heir is not None:
                heir.take_over(channel)
            elif close is not None:
                close()

    def discard(self) -> None:
        """Close the channels of alerts that were never started: nothing is sent."""
        for channel in self._channels:
            close = getattr(channel, "close", None)
            if close is not None and not isinstance(channel, MailAlerts):
                close()

    def _mail(self) -> MailAlerts | None:
        return next((each for each in self._channels if isinstance(each, MailAlerts)), None)
