"""LimitedSMTP and send: those of aiosmtplib, under the limits of a policy.

As in the adapter of smtplib, a message that could not have reached anybody is refunded, whatever
the error was, also if its task was cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.message import Message
from functools import partial
from typing import Any, Final

import aiosmtplib
from aiosmtplib.email import extract_recipients, extract_sender, quote_address
from aiosmtplib.typing import Default

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
from ratelimit_mail.envelope import Client, Envelope, message_size
from ratelimit_mail.exceptions import BackendError, RateLimitExceeded
from ratelimit_mail.limiter import AsyncLimiter

__all__ = ["LimitedSMTP", "SMTPRateLimitExceeded", "send"]

Sent = tuple[dict[str, aiosmtplib.SMTPResponse], str]


class SMTPRateLimitExceeded(RateLimitExceeded, aiosmtplib.SMTPSenderRefused):
    """A message may not be sent now, or not before the timeout; the server was not asked.

    It is aiosmtplib's SMTPSenderRefused, because that is what a server answers to a sender who is
    over a limit: the whole message is refused, the connection can be used for the next one, and
    `except aiosmtplib.SMTPException` catches it.

    decision: names the limit, and says when the message would fit.
    code, message: the decision's reply, such as 450 and "4.7.1 Message rate limit exceeded ...".
    sender: the address that was to send.
    """

    def __init__(self, decision: Decision, sender: str) -> None:
        reply = decision.reply
        text = f"{reply.status} {reply.text}"
        aiosmtplib.SMTPSenderRefused.__init__(self, reply.code, text, sender)
        self.decision = decision

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.decision, self.sender)


_PROOFS: Final = (aiosmtplib.SMTPDataError, UnicodeEncodeError)
"""Exceptions after DATA that prove that the message was not sent: aiosmtplib 3 encodes it there."""


class _Connection(aiosmtplib.SMTP):
    """A connection of a limiter, which knows what it has sent; its `sendmail` is not limited."""

    def __init__(
        self,
        *,
        limiter: AsyncLimiter,
        on_excess: OnExcess = "wait",
        acquire_timeout: float | None = None,
        pushback: float | None = PUSHBACK,
        client: Client | None = None,
        max_connections: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._limiter = checked_limiter(limiter, AsyncLimiter)
        self._options = SendingOptions(
            on_excess=on_excess,
            acquire_timeout=acquire_timeout,
            pushback=pushback,
            client=client,
            max_connections=max_connections,
        )
        self._in_doubt = False
        self._admission_lock: asyncio.Lock | None = None
        self._slot = SlotOfConnection()
        super().__init__(**kwargs)

    async def deliver(
        self,
        sender: str,
        recipients: Sequence[str],
        size: int,
        send: Callable[[], Awaitable[Sent]],
    ) -> Sent:
        """Admit a message of `size` bytes, send it, and settle or refund it."""
        result: Sent = ({}, "")

        async def send_admitted() -> Sent:
            nonlocal result
            self._in_doubt = False
            try:
                refused, _ = result = await send()
            except BaseException as error:
                if self._in_doubt and not isinstance(error, _PROOFS):
                    raise
                raise NotSent(error) from error
            return {quote_address(each): reply for each, reply in refused.items()}, ""

        # What aiosmtplib writes after MAIL FROM: and RCPT TO:, whatever the headers say.
        envelope = Envelope.from_smtp(
            quote_address(sender),
            [quote_address(each) for each in recipients],
            client=self._options.client,
            size=size,
        )
        limited = self._options.limited(self._limiter, envelope)
        try:
            await limited(send_admitted)()
        except RateLimitExceeded as exceeded:
            raise SMTPRateLimitExceeded(exceeded.decision, sender) from None
        except NotSent as not_sent:
            error = not_sent.error
        else:
            await self._push_back(envelope, result[0])
            return result
        await self._push_back(envelope, error)
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    async def _push_back(self, envelope: Envelope, reply: object) -> None:
        """Block the sender if the server's reply says that it is too fast."""
        if self._options.pushback is not None and reply:
            try:
                await self._limiter.pushback(envelope, reply, self._options.pushback)
            except BackendError as error:
                log_outage(error)

    async def data(
        self,
        message: str | bytes,
        /,
        *,
        timeout: Any = Default.token,
    ) -> aiosmtplib.SMTPResponse:
        """Send the text of a message, and note from when on the server may have accepted it."""
        protocol: Any = self.protocol
        if protocol is None:
            return await super().data(message, timeout=timeout)
        write = protocol.write

        def watched_write(data: bytes) -> None:
            is_text = data != b"DATA\r\n"
            if not is_text:
                self._in_doubt = False
            write(data)
            self._in_doubt = is_text

        self._in_doubt = True
        protocol.write = watched_write
        try:
            return await super().data(message, timeout=timeout)
        finally:
            del protocol.write

    async def connect(self, **kwargs: Any) -> aiosmtplib.SMTPResponse:
        """Connect as aiosmtplib does, when fewer than `max_connections` are open."""
        await self._take_slot()
        try:
            return await super().connect(**kwargs)
        except BaseException:
            if not self.is_connected:
                self._slot.release()
            raise

    def close(self) -> None:
        """Close the connection."""
        try:
            super().close()
        finally:
            self._slot.release()

    async def _take_slot(self) -> None:
        most = self._options.max_connections
        if most is None or self._slot:
            return
        slots = slots_of(self._limiter)
        end = time.monotonic() + self._options.longest_wait
        closed = asyncio.Event()
        wake = partial(asyncio.get_running_loop().call_soon_threadsafe, closed.set)
        while (slot := slots.take(most, wake)) is None:
            try:
                async with asyncio.timeout(min(end - time.monotonic(), 10**9)):
                    await closed.wait()
            except TimeoutError:
                raise aiosmtplib.SMTPConnectResponseError(
                    421, f"4.3.2 Too many connections: at most {most} may be open"
                ) from None
            finally:
                slots.stop_waiting(wake)
            closed.clear()
        self._slot.set(self, slots, slot)


class LimitedSMTP(_Connection):
    """aiosmtplib.SMTP, of which `sendmail` and `send_message` keep to the limits of a policy.

    All arguments of aiosmtplib.SMTP, and:

    limiter: decides; one for all tasks and connections that share the limits.
    on_excess: `"wait"` until a message may go, or `"raise"` at once if it may not go now.
    acquire_timeout: the most seconds to wait; None for any time. aiosmtplib's own `timeout` is that
        of the connection.
    pushback: for how many seconds the sender is blocked if the server says "too fast" and names
        no time; None to block no sender.
    client: who submits the messages; it chooses the tier.
    max_connections: how many connections of this limiter may be open at once in this process.

    A connection sends one message at a time, in the order of the calls. The others wait for it,
    also while it waits for its limit.

    Raises SMTPRateLimitExceeded if a message may not go, and aiosmtplib.SMTPConnectResponseError
    if no connection closes in time to stay within `max_connections`.
    """

    async def sendmail(
        self,
        sender: str,
        recipients: str | Sequence[str],
        message: str | bytes,
        /,
        *,
        mail_options: Iterable[str] | None = None,
        rcpt_options: Iterable[str] | None = None,
        timeout: Any = Default.token,
    ) -> Sent:
        """Send a message as aiosmtplib does, when the limits allow it.

        sender, recipients, message, mail_options, rcpt_options, timeout: as those of aiosmtplib.
        """
        recipients = [recipients] if isinstance(recipients, str) else [*recipients]
        send = partial(
            super().sendmail,
            sender,
            recipients,
            message,
            mail_options=mail_options,
            rcpt_options=rcpt_options,
            timeout=timeout,
        )
        if not recipients:
            return await send()
        # Before the admission, so that a message that is admitted is sent without delay.
        if self._admission_lock is None:
            self._admission_lock = asyncio.Lock()
        async with self._admission_lock:
            return await self.deliver(sender, recipients, len(message), send)


async def send(
    message: Message[Any, Any] | str | bytes,
    /,
    *,
    limiter: AsyncLimiter,
    sender: str | None = None,
    recipients: str | Sequence[str] | None = None,
    mail_options: Iterable[str] | None = None,
    rcpt_options: Iterable[str] | None = None,
    **kwargs: Any,
) -> Sent:
    """Connect, send a message as `aiosmtplib.send` does, and disconnect, when the limits allow it.

    limiter: decides. message, sender, recipients, mail_options, rcpt_options: as those of
        `aiosmtplib.send`.

    All other arguments are those of LimitedSMTP. A message that has to wait does so before the
    connection is made.

    Raises ValueError if there is no sender or no recipient, and what LimitedSMTP raises.
    """
    if isinstance(message, Message):
        sender = extract_sender(message) if sender is None else sender
        recipients = extract_recipients(message) if recipients is None else recipients
    if sender is None or not recipients:
        raise ValueError("a sender and recipients are needed, in the message or as arguments")
    addresses = [recipients] if isinstance(recipients, str) else [*recipients]
    connection = _Connection(limiter=limiter, **kwargs)

    async def deliver() -> Sent:
        async with connection:
            if isinstance(message, Message):
                return await connection.send_message(
                    message,
                    sender=sender,
                    recipients=addresses,
                    mail_options=mail_options,
                    rcpt_options=rcpt_options,
                )
            return await connection.sendmail(
                sender, addresses, message, mail_options=mail_options, rcpt_options=rcpt_options
            )

    size = 0
    if not isinstance(message, Message):
        size = len(message)
    elif limiter.policy.counts_bytes:
        size = message_size(message)
    return await connection.deliver(sender, addresses, size, deliver)
