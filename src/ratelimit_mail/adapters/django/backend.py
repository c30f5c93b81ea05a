"""EmailBackend: wraps the backend that sends, and keeps to the limits of a policy.

A message is admitted before it is handed to the inner backend, one after the other: a batch that
was admitted at once would reach the provider long after it was counted. It is settled when it was
sent, and refunded if no recipient got it.
"""

from __future__ import annotations

import smtplib
from collections.abc import Sequence
from typing import Any, Self

import django
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from ratelimit_mail.adapters.django.configuration import (
    MailerOptions,
    improperly_configured,
    is_own_key,
    merged,
    read_options,
)
from ratelimit_mail.adapters.django.errors import EmailRateLimitExceeded
from ratelimit_mail.adapters.django.inner_backend import InnerBackend, NothingSent, Refused
from ratelimit_mail.adapters.django.registry import limiter_of, outbox_of
from ratelimit_mail.adapters.options import NotSent, log_outage
from ratelimit_mail.decision import Action, Decision
from ratelimit_mail.envelope import Client, Envelope, message_size
from ratelimit_mail.exceptions import BackendError, OutboxError, RateLimitExceeded
from ratelimit_mail.limiter import Limiter
from ratelimit_mail.outbox import State

__all__ = ["EmailBackend", "envelope_of"]

SILENT_ERRORS = (OSError, RateLimitExceeded, BackendError, OutboxError)
"""What `fail_silently` hides; those of smtplib are OSErrors."""


def envelope_of(
    message: EmailMessage, client: Client | None = None, *, measures: bool = False
) -> Envelope:
    """Return the envelope that Django's SMTP backend uses: its sender, and To, Cc and Bcc.

    measures: whether the message is measured, because limits need its size.
    """
    return Envelope.from_smtp(
        smtplib.quoteaddr(str(message.from_email)),
        [smtplib.quoteaddr(str(each)) for each in message.recipients()],
        client=client,
        size=message_size(message.message()) if measures else None,
    )


class EmailBackend(BaseEmailBackend):
    """Sends messages with another backend when the limits allow it.

    The keys in capital letters are those of RATELIMIT_MAIL, which has them for all mailers; other
    arguments are the inner backend's. In MAILERS, both stand in OPTIONS.

    fail_silently: whether a message that cannot be sent, or that is over a limit, is left out
        without an error.
    alias: the name of the mailer in MAILERS.

    Raises ImproperlyConfigured if a key is wrong.
    """

    def __init__(
        self,
        fail_silently: bool = False,
        *,
        alias: str | None = None,
        _ignore_unknown_kwargs: set[str] | None = None,
        **options: Any,
    ) -> None:
        if django.VERSION >= (6, 1):
            super().__init__(alias=alias)
        else:
            super().__init__()
            self.alias = alias
        self.fail_silently = fail_silently
        own = {name: value for name, value in options.items() if is_own_key(name)}
        inner = {name: value for name, value in options.items() if name not in own}
        try:
            self._options: MailerOptions = read_options(merged(own), inner)
        except ValueError as error:
            raise improperly_configured(str(error), alias) from None
        ignored = None
        if _ignore_unknown_kwargs:
            ignored = _ignore_unknown_kwargs - {"fail_silently"}
        self._inner = InnerBackend(self._options, alias, ignored)

    def __deepcopy__(self, _: object) -> Self:
        # Before Django 6.1, a copied message holds its connection, and this one cannot be copied.
        return self

    @property
    def limiter(self) -> Limiter:
        """The limiter of this process that decides."""
        return limiter_of(self._options)

    def open(self) -> bool | None:
        """Open the connection of the inner backend."""
        try:
            return self._inner.open()
        except OSError:
            if not self.fail_silently:
                raise
            return None

    def close(self) -> None:
        """Close the connection of the inner backend."""
        try:
            self._inner.close()
        except OSError:
            if not self.fail_silently:
                raise

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send messages in their order, over one connection, and return how many were sent.

        email_messages: those of Django.

        Those that were put into the outbox count as sent.

        Raises EmailRateLimitExceeded if one may not go, and what the inner backend raises; the
        messages after it are not sent.
        """
        sent = 0
        with self._inner.in_use():
            for message in email_messages:
                if not message.recipients():
                    continue
                try:
                    sent += self._send(message)
                except SILENT_ERRORS as error:
                    if self.fail_silently:
                        continue
                    if isinstance(error, EmailRateLimitExceeded):
                        error.sent = sent
                    raise
        return sent

    def _send(self, message: EmailMessage) -> bool:
        """Send one message or put it into the outbox; return whether one of the two was done."""
        options = self._options
        limiter = self.limiter
        measures = limiter.policy.counts_bytes
        envelope = envelope_of(message, options.client, measures=measures)
        if options.on_excess == "outbox" and self._is_waiting(envelope):
            self._put(message, envelope)  # after the sender's earlier ones
            return True
        refused: Refused = {}

        def send() -> Refused:
            nonlocal refused
            refused = self._inner.send(message)
            return {smtplib.quoteaddr(each): reply for each, reply in refused.items()}

        limited: Any = limiter.limited(
            on_denied="wait",
            timeout=options.timeout if options.on_excess == "wait" else 0.0,
            envelope=lambda: envelope,
            refund_on=NotSent,
        )
        try:
            limited(send)()
        except RateLimitExceeded as exceeded:
            decision = exceeded.decision
            if options.on_excess == "outbox" and _is_for_later(decision):
                self._put(message, envelope)
                return True
            raise EmailRateLimitExceeded(decision, envelope.sender) from None
        except NotSent as not_sent:
            error = not_sent.error
        else:
            self._push_back(limiter, envelope, refused)
            return True
        try:
            if isinstance(error, NothingSent):
                return False
            if self._push_back(limiter, envelope, error) and options.on_excess == "outbox":
                self._put(message, envelope)
                return True
            raise error
        finally:
            del error  # its traceback holds this frame

    def _push_back(self, limiter: Limiter, envelope: Envelope, reply: object) -> bool:
        """Block the sender if the server's reply says that it is too fast; return whether so."""
        if self._options.pushback is None or not reply:
            return False
        try:
            return limiter.pushback(envelope, reply, self._options.pushback) is not None
        except BackendError as error:
            log_outage(error)
            return False

    def _is_waiting(self, envelope: Envelope) -> bool:
        """Return whether messages of the sender wait in the outbox."""
        try:
            outbox = outbox_of(self._options)
            return bool(outbox.list(state=State.QUEUED, sender=envelope.sender, limit=1))
        except ValueError:  # an address that an outbox does not take
            return False

    def _put(self, message: EmailMessage, envelope: Envelope) -> None:
        """Put a message into the outbox. Raises EmailRateLimitExceeded if it can never go."""
        content = message.message().as_bytes()
        try:
            outbox_of(self._options).put(content, envelope=envelope)
        except RateLimitExceeded as exceeded:
            raise EmailRateLimitExceeded(exceeded.decision, envelope.sender) from None


def _is_for_later(decision: Decision) -> bool:
    """Return whether a message may go later, or when a moderator has approved it."""
    return decision.retry_after is not None or decision.action is Action.HOLD
