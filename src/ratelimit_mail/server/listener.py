"""The sockets of a policy server on asyncio: many connections, each with bounded memory.

All connections read into one buffer. A connection whose request is being decided, or whose peer
does not read the replies, is not read from. What is silent, or does not complete its request, is
closed. Above the most connections, new ones are closed at once; Postfix then defers.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.rare_warnings import RareWarnings
from ratelimit_mail._util.text import show
from ratelimit_mail.server.control import remove_stale_socket
from ratelimit_mail.server.policy_service import PolicyService
from ratelimit_mail.server.postfix import Malformed, PolicyConnection, reply

__all__ = ["Address", "PolicyListener", "parse_address"]

BUFFER: Final = 65_536
MOST_UNREAD: Final = 16_384
"""Bytes of replies that a peer may leave unread before it is read from no more."""
IDLE_SECONDS: Final = 600.0
"""Postfix closes a connection itself after 300 seconds without a request."""
REQUEST_SECONDS: Final = 30.0
"""From the first byte of a request to its last, and for a reply to be read."""
SWEEP_SECONDS: Final = 5.0
BACKLOG: Final = 1024

_PORT: Final = re.compile("[0-9]{1,5}")

Address = tuple[str, int] | Path
"""A host and a port, or the path of a Unix socket."""


def parse_address(text: str) -> Address:
    """Return the address in `inet:HOST:PORT` or `unix:PATH`.

    Raises ValueError for anything else.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "unix" and rest and "\0" not in rest:
        return Path(rest)
    host, colon, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if kind == "inet" and colon and host and _PORT.fullmatch(port) and int(port) <= 65_535:
        return host, int(port)
    raise ValueError(f"{show(text)} is not inet:HOST:PORT or unix:PATH")


class PolicyListener:
    """Listens for mail servers, and passes their requests to a service.

    most: how many connections there may be. idle_seconds, request_seconds: how long a connection
        may be silent, and how long a request may take to come. clock: seconds that only grow.
    """

    def __init__(
        self,
        service: PolicyService,
        *,
        most: int = 4000,
        idle_seconds: float = IDLE_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self.connections: set[_Connection] = set()
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.clock = clock
        self.most = most
        self._idle_seconds = idle_seconds
        self._request_seconds = request_seconds
        self._servers: list[asyncio.Server] = []
        self._paths: list[tuple[Path, int]] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._warnings = RareWarnings(clock)
        self.is_closing = False

    async def listen(self, address: Address, *, mode: int = 0o660) -> Any:
        """Listen at an address; return it with the port that was taken for port 0.

        mode: the permissions of a Unix socket. Raises OSError if that cannot be done.
        """
        loop = asyncio.get_running_loop()
        if isinstance(address, Path):
            remove_stale_socket(address)
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            mask = os.umask(0o777 & ~mask_of(mode))
            try:
                listening.bind(os.fspath(address))
            except BaseException:
                listening.close()
                raise
            finally:
                os.umask(mask)
            self._paths.append((address, address.lstat().st_ino))
            self._servers.append(
                await loop.create_unix_server(self._connect, sock=listening, backlog=BACKLOG)
            )
        else:
            host, port = address
            server = await loop.create_server(self._connect, host, port, backlog=BACKLOG)
            self._servers.append(server)
            address = host, server.sockets[0].getsockname()[1]
        self._start_sweeper()
        return address

    async def listen_on(self, listening: socket.socket) -> None:
        """Listen on a socket that was opened elsewhere."""
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        if listening.family == socket.AF_UNIX:
            self._servers.append(await loop.create_unix_server(self._connect, sock=listening))
        else:
            self._servers.append(await loop.create_server(self._connect, sock=listening))
        self._start_sweeper()

    async def close(self, timeout: float = 10.0) -> None:
        """Accept no more connections, answer what was asked, and close."""
        self.is_closing = True
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while busy := [each.task for each in self.connections if each.task is not None]:
                    await asyncio.wait(busy)
                    await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.abort()
        for path, inode in self._paths:
            with suppress(OSError):
                if path.lstat().st_ino == inode:
                    path.unlink()

    def _connect(self) -> _Connection:
        return _Connection(self)

    def _start_sweeper(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.sweep()
            except Exception as error:
                log_warning("the server could not clear up: %r", error)

    def sweep(self) -> None:
        """Close what was silent for too long, and forget what is over."""
        now = self.clock()
        for connection in list(self.connections):
            connection.close_if_late(now, self._idle_seconds, self._request_seconds)
        self.service.sweep()

    def warn_full(self) -> None:
        """Log that a connection was turned away, once a minute."""
        self._warnings.warn(
            "full", "all %d connections are in use, and new ones are closed", self.most
        )


def mask_of(mode: int) -> int:
    """Return the permissions of a socket: those for reading and writing."""
    return mode & 0o666


class _Connection(asyncio.BufferedProtocol):
    """One connection of a mail server. A request is answered before the next one is read."""

    def __init__(self, listener: PolicyListener) -> None:
        self._listener = listener
        self._service = listener.service
        self._core = PolicyConnection()
        self._transport: Any = None
        self.task: asyncio.Task[str] | None = None
        self._is_writable = True
        self._is_at_end = False
        self._since = listener.clock()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        listener = self._listener
        if len(listener.connections) >= listener.most or listener.is_closing:
            if not listener.is_closing:
                listener.warn_full()
            transport.abort()
            return
        listener.connections.add(self)
        transport.set_write_buffer_limits(high=MOST_UNREAD)
        with suppress(OSError):
            # Bounds what the system holds for a peer that does not read.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._listener.connections.discard(self)
        self._service.disconnect(self)
        if self.task is not None:  # it goes on: Postfix asks again
            self.task.remove_done_callback(self._answer)
            self.task = None

    def get_buffer(self, sizehint: int) -> Any:  # noqa: ARG002
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._core.is_within_request:
            self._since = self._listener.clock()
        self._core.receive_data(self._listener.view[:nbytes])
        if self.task is None:
            self._go_on()

    def eof_received(self) -> bool:
        # What was asked is answered first.
        self._is_at_end = True
        return self.task is not None

    def pause_writing(self) -> None:
        self._is_writable = False
        self._since = self._listener.clock()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_writable = True
        if self.task is None:
            self._go_on()

    def close_if_idle(self) -> None:
        """Close this unless a request is being decided."""
        if self.task is None:
            self._transport.close()

    def abort(self) -> None:
        """Close this, whatever is going on."""
        self._transport.abort()

    def close_if_late(self, now: float, idle: float, request: float) -> None:
        """Close this if it was silent for too long."""
        if self.task is not None:
            return
        is_busy = self._core.is_within_request or not self._is_writable
        if now - self._since >= (request if is_busy else idle):
            self._transport.abort()

    def _go_on(self) -> None:
        """Answer what can be answered at once, and start a task for the first that cannot."""
        service, core = self._service, self._core
        while self._is_writable and not self._transport.is_closing():
            event = core.next_event()
            if event is None:
                break
            if isinstance(event, Malformed):
                self._answer_malformed(event)
                continue
            action = service.answer_at_once(event, self)
            if action is None:
                # Bounds what a peer sends meanwhile.
                self._transport.pause_reading()
                self.task = service.answer_later(event, self)
                self.task.add_done_callback(self._answer)
                return
            self._write(action)
        self._after_answers()

    def _after_answers(self) -> None:
        if self._transport.is_closing():
            return
        if self._is_at_end or self._listener.is_closing:
            self._transport.close()
        elif self._is_writable:
            self._transport.resume_reading()

    def _answer(self, task: asyncio.Task[str]) -> None:
        self.task = None
        if task.cancelled() or task.exception() is not None:
            log_warning("a request could not be answered: %r", task)
            self._transport.abort()
            return
        self._write(task.result())
        self._go_on()

    def _answer_malformed(self, event: Malformed) -> None:
        self._write(self._service.answer_malformed(event, self._peer()))
        if event.must_close:
            self._transport.close()

    def _write(self, action: str) -> None:
        self._since = self._listener.clock()
        self._transport.write(reply(action))

    def _peer(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return f"{peer[0]}" if isinstance(peer, tuple) else "a client of the Unix socket"
