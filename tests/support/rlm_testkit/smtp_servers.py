"""SMTP servers for tests, by aiosmtpd: one that records and answers as it is asked to, or any."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiosmtpd.smtp import MISSING, SMTP, Envelope, Session

__all__ = ["CLOSE", "HANG", "Arrival", "SMTPServerThread", "Sink"]

HANG: Final = "hang"
"""Instead of a reply: answer nothing more."""

CLOSE: Final = "close"
"""Instead of a reply: cut the connection."""


class Arrival(NamedTuple):
    """A message that a sink has accepted: when, from where, and for which recipients."""

    moment: int
    sender: str
    recipients: tuple[str, ...]
    text: bytes


class Sink:
    """A handler that records the messages that it accepts.

    replies: what to answer instead of 250, by the command and the address: `("MAIL", sender)`,
        `("RCPT", recipient)`, `("DATA", sender)` for the command DATA, and `("TEXT", sender)` after
        the text of a message. A reply, HANG or CLOSE.
    clock: gives the moments of arrivals.
    delay: is awaited before a message is recorded and after it, with the envelope.
    """

    def __init__(
        self,
        replies: dict[tuple[str, str], str] | None = None,
        *,
        clock: Callable[[], int] = lambda: 0,
        delay: Callable[[Envelope], Awaitable[object]] | None = None,
    ) -> None:
        self.replies = {} if replies is None else replies
        self.arrivals: list[Arrival] = []
        self._clock = clock
        self._delay = delay

    def reached(self, sender: str) -> int:
        """Return how many recipients have got a message of a sender."""
        return sum(len(each.recipients) for each in self.arrivals if each.sender == sender)

    async def reply(self, server: Any, command: str, address: str) -> Any:
        """Return the reply to a command, unless it is never answered."""
        reply = self.replies.get((command, address), MISSING)
        if reply == CLOSE:
            server.transport.abort()
        if reply in (CLOSE, HANG):
            await asyncio.Event().wait()
        return reply

    async def handle_MAIL(  # noqa: N802 - as aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> Any:
        return await self.reply(server, "MAIL", address)

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> Any:
        return await self.reply(server, "RCPT", address)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> Any:
        sender, text = envelope.mail_from or "", envelope.original_content or b""
        reply = self.replies.get(("TEXT", sender))
        if reply in (None, HANG):
            if self._delay is not None:
                await self._delay(envelope)
            self.arrivals.append(Arrival(self._clock(), sender, tuple(envelope.rcpt_tos), text))
            if self._delay is not None:
                await self._delay(envelope)
        return await self.reply(server, "TEXT", sender)


class _Server(SMTP):
    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        handler, envelope = self.event_handler, self.envelope
        if isinstance(handler, Sink) and envelope is not None and envelope.rcpt_tos:
            reply = await handler.reply(self, "DATA", envelope.mail_from or "")
            if reply is not MISSING:
                await self.push(reply)
                return
        await super().smtp_DATA(arg)


class SMTPServerThread:
    """An SMTP server on a free port of this machine, with an event loop and a thread of its own.

    options: those of aiosmtpd's SMTP.
    """

    def __init__(self, handler: Any, **options: Any) -> None:
        self._options = {"hostname": "sink", "enable_SMTPUTF8": True, **options}
        self._handler = handler
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[started.set], daemon=True)
        self._thread.start()
        started.wait()

    def __enter__(self) -> SMTPServerThread:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _new_connection(self) -> SMTP:
        return _Server(self._handler, loop=self.loop, **self._options)

    def _run(self, started: Callable[[], None]) -> None:
        asyncio.set_event_loop(self.loop)
        listening = self.loop.run_until_complete(
            self.loop.create_server(self._new_connection, "127.0.0.1", 0, backlog=200)
        )
        self.port: int = listening.sockets[0].getsockname()[1]
        started()
        self.loop.run_forever()
        listening.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
