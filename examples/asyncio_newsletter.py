"""An asyncio program that sends a message to each of many addresses, all tasks at once.

    python examples/asyncio_newsletter.py smtp://localhost:1025 ann@example.org ben@example.org

All tasks share one AsyncLimiter. Those that may not send yet wait in `sending`, in their order. On
SIGTERM or Ctrl-C, the tasks that wait give their places back, and those that send finish. The
program prints the addresses that have got the message, so that it can be run with the others later.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from email.message import EmailMessage
from urllib.parse import urlsplit

import aiosmtplib

from ratelimit_mail import AsyncLimiter, Envelope, presets
from ratelimit_mail.backends import async_from_url

SENDER = "news@example.org"


async def send(limiter: AsyncLimiter, host: str, port: int, address: str) -> str:
    """Send one message when the limits allow it; return its address."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, address, "News"
    message.set_content("Hello\n")
    async with limiter.sending(Envelope(SENDER, [address])):
        # A task that is cancelled while it sends finishes this message first.
        sending = asyncio.create_task(aiosmtplib.send(message, hostname=host, port=port))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending
    return address


async def send_all(
    limiter: AsyncLimiter, host: str, port: int, addresses: Sequence[str]
) -> list[str]:
    """Send to all addresses; return those that have got the message."""
    tasks = [asyncio.create_task(send(limiter, host, port, each)) for each in addresses]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return [task.result() for task in tasks if not task.cancelled() and task.exception() is None]


async def main(url: str, addresses: Sequence[str], store: str = "memory:") -> list[str]:
    """Send until all have got the message, or a signal comes."""
    server = urlsplit(url)
    limiter = AsyncLimiter(presets.leeds_office365(), async_from_url(store))
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await send_all(limiter, server.hostname or "localhost", server.port or 25, addresses)


if __name__ == "__main__":
    for address in asyncio.run(main(sys.argv[1], sys.argv[2:])):
        print(address)
