"""What an outbox reports about its messages: events, and notices to their senders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from email.mime.multipart import MIMEMultipart
from typing import Any

from ratelimit_mail._util.epoch import datetime_of
from ratelimit_mail._util.logger import log_warning
from ratelimit_mail.addresses import NULL_SENDER
from ratelimit_mail.envelope import NOBODY, Envelope
from ratelimit_mail.events import (
    Delayed,
    Dispatcher,
    Failed,
    Held,
    OutboxEvent,
    Released,
    Uncertain,
)
from ratelimit_mail.limits import Limit
from ratelimit_mail.outbox.drafts import draft
from ratelimit_mail.outbox.message import OutboxMessage, State
from ratelimit_mail.outbox.notices import Notices, delay_notice, failure_notice
from ratelimit_mail.outbox.records import NewMessage
from ratelimit_mail.policy import Policy

__all__ = ["Reports"]


class Reports:
    """The events and notices of one outbox.

    clock: returns milliseconds since the epoch.
    """

    def __init__(
        self,
        policy: Policy,
        dispatcher: Dispatcher | None,
        notices: Notices | None,
        clock: Callable[[], int],
    ) -> None:
        self._policy = policy
        self._dispatcher = dispatcher
        self._clock = clock
        self.notices = notices

    def delayed(
        self, message: OutboxMessage, expected: datetime | None, limit: Limit | None
    ) -> None:
        """Report that a message waits."""
        waiting = [each.address for each in message.recipients if each.state == State.QUEUED]
        self._emit(Delayed, message, waiting, limit, expected=expected)

    def released(self, message: OutboxMessage, recipients: Sequence[str]) -> None:
        """Report that a delayed message was sent."""
        self._emit(Released, message, recipients, put=message.put_at)

    def failed(self, message: OutboxMessage, failed: Mapping[str, str]) -> None:
        """Report that a message will not reach some recipients."""
        self._emit(Failed, message, [*failed], reply=next(iter(failed.values()), ""))

    def held(self, message: OutboxMessage) -> None:
        """Report that a message waits for moderators."""
        recipients = [each.address for each in message.recipients]
        self._emit(Held, message, recipients, lists=message.held_by)

    def uncertain(
        self, message: OutboxMessage, recipients: Sequence[str], reply: str, *, resent: bool
    ) -> None:
        """Report that a message may have been sent, in the log too: somebody must look at it."""
        log_warning(
            "message %d of the outbox may have been sent, and %s: %s",
            message.id,
            "is sent again" if resent else "is not sent again until you retry it",
            reply,
        )
        self._emit(Uncertain, message, recipients, reply=reply, resent=resent)

    def failure_notice(
        self, message: OutboxMessage, failed: Mapping[str, str], content: Callable[[], bytes]
    ) -> NewMessage | None:
        """Return the notice that a message failed; None if its sender does not get one."""
        notices = self.notices
        if notices is None or not notices.failures or not failed or _is_notice(message):
            return None
        now = self._clock()
        notice = failure_notice(notices, message, [*failed.items()], content(), datetime_of(now))
        return self._notice(notice, message, now)

    def delay_notice(
        self, message: OutboxMessage, content: Callable[[], bytes]
    ) -> NewMessage | None:
        """Return the notice that a message is delayed; None if its sender does not get one."""
        if self.notices is None or _is_notice(message):
            return None
        now = self._clock()
        expected = message.expected_at
        if message.attempts:
            expected = message.next_at
        notice = delay_notice(
            self.notices, message, expected, message.expires_at, content(), datetime_of(now)
        )
        return self._notice(notice, message, now)

    def _notice(self, notice: MIMEMultipart, message: OutboxMessage, now: int) -> NewMessage:
        envelope = Envelope(NULL_SENDER, [message.sender])
        return draft(notice, envelope, self._policy, now)

    def _emit(
        self,
        kind: type[OutboxEvent],
        message: OutboxMessage,
        recipients: Sequence[str],
        limit: Limit | None = None,
        **fields: Any,
    ) -> None:
        if self._dispatcher is None:
            return
        event = kind(
            sender=message.sender,
            subject=message.sender,
            limit=limit,
            policy=self._policy.name,
            tier=None,
            at=datetime_of(self._clock()),
            client=NOBODY,
            message=message.id,
            key=message.key,
            recipients=tuple(recipients),
            **fields,
        )
        self._dispatcher.dispatch(event)


def _is_notice(message: OutboxMessage) -> bool:
    return message.sender == NULL_SENDER
