"""LimitedSMTP and LimitedSMTP_SSL: the classes of smtplib, under the limits of a policy.

A message is admitted before MAIL FROM, and settled when the server has answered. What smtplib does
in between tells what was sent: before the text of a message is on its way, no error can mean that
a recipient got it, so such a message is refunded.
"""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Sequence
from typing import Any

from ratelimit_mail._util.documentation import with_arguments_of
from ratelimit_mail.adapters.connection_slots import SlotOfConnection, slots_of
from ratelimit_mail.adapters.options import (
    PUSHBACK,
    NotSent,
    OnExcess,
    SendingOptions,
    checked_limiter,
    log_outage,
)
from ratelimit_mail.decision import Decision
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import Limiter

__all__ = ["LimitedSMTP", "LimitedSMTP_SSL", "SMTPRateLimitExceeded"]

Refused = dict[str, tuple[int, bytes]]


class SMTPRateLimitExceeded(RateLimitExceeded, smtplib.SMTPSenderRefused):
    """A message may not be sent now, or not before the timeout; the server was not asked.

    It is smtplib's SMTPSenderRefused, because that is what a server answers to a sender who is
    over a limit: the whole message is refused, the connection can be used for the next one, and
    `except smtplib.SMTPException` catches it.

    decision: names the limit, and says when the message would fit.
    smtp_code, smtp_error: the decision's reply, such as 450 and b"4.7.1 Message rate limit ...".
    sender: the address that was to send.
    """

    def __init__(self, decision: Decision, sender: str) -> None:
        reply = decision.reply
        text = f"{reply.status} {reply.text}".encode()
        smtplib.SMTPSenderRefused.__init__(self, reply.code, text, sender)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.decision, self.sender)


class LimitedSMTP(smtplib.SMTP):
    """smtplib.SMTP, of which `sendmail` and `send_message` keep to the limits of a policy.

    All arguments of smtplib.SMTP, and by keyword:

    limiter: decides; one for all threads and connections that share the limits.
    on_excess: `"wait"` until a message may go, or `"raise"` at once if it may not go now.
    acquire_timeout: the most seconds to wait; None for any time. smtplib's own `timeout` is that
        of the connection.
    pushback: for how many seconds the sender is blocked if the server says "too fast" and names
        no time; None to block no sender.
    client: who submits the messages; it chooses the tier.
    max_connections: how many connections of this limiter may be open at once in this process.

    Raises SMTPRateLimitExceeded if a message may not go, and smtplib.SMTPConnectError if no
    connection closes in time to stay within `max_connections`.
    """

    def __init__(
        self,
        *args: Any,
        limiter: Limiter,
        on_excess: OnExcess = "wait",
        acquire_timeout: float | None = None,
        pushback: float | None = PUSHBACK,
        client: Client | None = None,
        max_connections: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._limiter = checked_limiter(limiter, Limiter)
        self._options = SendingOptions(
            on_excess=on_excess,
            acquire_timeout=acquire_timeout,
            pushback=pushback,
            client=client,
            max_connections=max_connections,
        )
        self._in_doubt = False
        self._slot = SlotOfConnection()
        super().__init__(*args, **kwargs)

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: Any,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> Refused:
        """Send a message as smtplib does, when the limits allow it.

        from_addr, to_addrs, msg, mail_options, rcpt_options: as those of smtplib.
        """
        recipients = [to_addrs] if isinstance(to_addrs, str) else [*to_addrs]
        refused: Refused = {}

        def send() -> Refused:
            nonlocal refused
            self._in_doubt = False
            try:
                refused = super(LimitedSMTP, self).sendmail(
                    from_addr, recipients, msg, mail_options, rcpt_options
                )
            except BaseException as error:
                if self._in_doubt and not isinstance(error, smtplib.SMTPDataError):
                    raise
                raise NotSent(error) from error
            return {smtplib.quoteaddr(each): reply for each, reply in refused.items()}

        if not recipients:
            return super().sendmail(from_addr, recipients, msg, mail_options, rcpt_options)
        # What smtplib writes after MAIL FROM: and RCPT TO:, whatever the headers say.
        envelope = Envelope.from_smtp(
            smtplib.quoteaddr(from_addr),
            [smtplib.quoteaddr(each) for each in recipients],
            client=self._options.client,
            size=len(msg) if isinstance(msg, str | bytes) else None,
        )
        limited = self._options.limited(self._limiter, envelope)
        try:
            limited(send)()
        except RateLimitExceeded as exceeded:
            raise SMTPRateLimitExceeded(exceeded.decision, from_addr) from None
        except NotSent as not_sent:
            error = not_sent.error
        else:
            self._push_back(envelope, refused)
            return refused
        self._push_back(envelope, error)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def _push_back(self, envelope: Envelope, reply: object) -> None:
        """Block the sender if the server's reply says that it is too fast."""
        if self._options.pushback is not None and reply:
            try:
                self._limiter.pushback(envelope, reply, self._options.pushback)
            except BackendError as error:
                log_outage(error)

    def send(self, s: Any) -> None:
        """Send `s` to the server; smtplib's commands are strings, and the text of a message bytes.

        Once bytes are on their way, the server may have accepted a message.
        """
        self._in_doubt = not isinstance(s, str)
        super().send(s)

    def connect(
        self, host: str = "localhost", port: int = 0, source_address: Any = None
    ) -> tuple[int, bytes]:
        """Connect as smtplib does, when fewer than `max_connections` are open.

        host, port, source_address: as those of smtplib.
        """
        self._take_slot()
        try:
            return super().connect(host, port, source_address)
        except BaseException:
            self._slot.release()
            raise

    def close(self) -> None:
        """Close the connection."""
        try:
            super().close()
        finally:
            self._slot.release()

    def _take_slot(self) -> None:
        most = self._options.max_connections
        if most is None or self._slot:
            return
        slots = slots_of(self._limiter)
        end = time.monotonic() + self._options.longest_wait
        closed = threading.Event()
        while (slot := slots.take(most, closed.set)) is None:
            wait = min(end - time.monotonic(), threading.TIMEOUT_MAX)
            if not closed.wait(max(wait, 0)):
                slots.stop_waiting(closed.set)
                raise smtplib.SMTPConnectError(
                    421, f"4.3.2 Too many connections: at most {most} may be open".encode()
                )
            closed.clear()
        self._slot.set(self, slots, slot)


@with_arguments_of(LimitedSMTP)
class LimitedSMTP_SSL(LimitedSMTP, smtplib.SMTP_SSL):  # noqa: N801 - as in smtplib
    """smtplib.SMTP_SSL under the limits of a policy; see LimitedSMTP."""
