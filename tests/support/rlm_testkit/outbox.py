"""A clock that several processes share, a mail server that records what it gets, and a worker.

`python -m rlm_testkit.outbox OUTBOX STORE_URL PORT CLOCK` runs an outbox, for tests that kill it.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from ratelimit_mail import Limiter, Policy
from ratelimit_mail.backends import MemoryBackend, from_url
from ratelimit_mail.events import Dispatcher, Event
from ratelimit_mail.outbox import Outbox, SMTPTransport, Transport
from ratelimit_mail.testing import ManualClock
from rlm_testkit.servers import free_port, wait_until

__all__ = ["FileClock", "Receipt", "Scene", "Sink", "WorkerProcess", "letter"]

ANN: Final = "ann@leeds.ac.uk"

PACK: Final = struct.Struct("<q")


def letter(
    number: int = 0, sender: str = ANN, to: str | None = None, **headers: str
) -> EmailMessage:
    """Return a letter to a recipient of its own."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = f"student{number}@example.com" if to is None else to
    message["Subject"] = f"Letter {number}"
    for name, value in headers.items():
        message[name] = value
    message.set_content("Dear student,\n.\n..\nYours\n")
    return message


class FileClock:
    """A manual clock in a file, which processes share; of which only one may move it at a time."""

    def __init__(self, path: Path, start: int | None = None) -> None:
        if start is not None:
            path.write_bytes(PACK.pack(start))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), PACK.size)

    def __call__(self) -> int:
        now: int = PACK.unpack_from(self._map)[0]
        return now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        PACK.pack_into(self._map, 0, self() + round(seconds * 1000))


class Receipt(NamedTuple):
    """A message that the sink has accepted, and when."""

    at: int
    sender: str
    recipients: list[str]
    content: bytes

    @property
    def message_id(self) -> str:
        """The Message-ID."""
        for line in self.content.split(b"\r\n\r\n")[0].split(b"\r\n"):
            if line.lower().startswith(b"message-id:"):
                return line.partition(b":")[2].strip().decode()
        raise AssertionError(self.content)


class Sink:
    """A mail server on a free port of this machine.

    received: what it has accepted. answers: replies by the command (MAIL, RCPT, DATA, or TEXT for
    the end of the message): a function of the address or of the content; None accepts it.
    """

    def __init__(self, clock: Callable[[], int], **options: Any) -> None:
        self.clock = clock
        self.received: list[Receipt] = []
        self.answers: dict[str, Callable[[Any], str | None]] = {}
        self.connections = 0
        self.most_open = 0
        self._open: set[Any] = set()
        self._lock = threading.Lock()
        sink = self

        class Protocol(SMTP):
            def connection_made(self, transport: Any) -> None:
                if not self._is_upgraded():
                    with sink._lock:
                        sink.connections += 1
                        sink._open.add(self)
                        sink.most_open = max(sink.most_open, len(sink._open))
                super().connection_made(transport)

            def connection_lost(self, error: Any) -> None:
                with sink._lock:
                    sink._open.discard(self)
                super().connection_lost(error)

            def _is_upgraded(self) -> bool:
                return self._original_transport is not None and self.session is not None

        class SinkController(Controller):
            def factory(self) -> SMTP:
                return Protocol(self.handler, **self.SMTP_kwargs)

        options.setdefault("data_size_limit", 64 * 1024 * 1024)
        self.port = free_port()
        self._controller = SinkController(self, hostname="127.0.0.1", port=self.port, **options)
        self._controller.start()
        with self._lock:  # the controller has tried out the server
            self.connections = self.most_open = 0
            self._open.clear()

    def drop_connections(self) -> None:
        """Close all connections from the side of the server, and wait until they are closed."""
        with self._lock:
            protocols = [*self._open]
        for protocol in protocols:
            self._controller.loop.call_soon_threadsafe(protocol.transport.close)
        wait_until(lambda: not self._open)

    def close(self) -> None:
        """Stop the server."""
        self._controller.stop()

    def _answer(self, command: str, value: Any) -> str | None:
        answer = self.answers.get(command)
        return None if answer is None else answer(value)

    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._answer("MAIL", address):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._answer("RCPT", address):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        if reply := self._answer("TEXT", content):
            return reply
        self.received.append(
            Receipt(self.clock(), envelope.mail_from or "", list(envelope.rcpt_tos), content)
        )
        if reply := self._answer("ACCEPTED", content):
            return reply
        return "250 OK"

    def counts(self) -> Counter[str]:
        """Return how often each Message-ID was received."""
        return Counter(each.message_id for each in self.received)


class Scene:
    """An outbox on a manual clock, with a transport that records, or one of the test's own."""

    def __init__(
        self,
        path: Path,
        policy: Policy,
        transport: Transport | None = None,
        *,
        clock: ManualClock | None = None,
        backend: MemoryBackend | None = None,
        events: list[Event] | None = None,
        **options: Any,
    ) -> None:
        self.clock = ManualClock() if clock is None else clock
        self.events: list[Event] = [] if events is None else events
        self.dispatcher = Dispatcher(self.events.append)
        self.backend = MemoryBackend(self.clock) if backend is None else backend
        self.limiter = Limiter(policy, self.backend, sleep=self.clock.advance)
        options.setdefault("poll_interval", float("inf"))
        options.setdefault("sleep", self.clock.advance)
        self.outbox = Outbox(
            path, self.limiter, transport, clock=self.clock, on_event=self.dispatcher, **options
        )

    def run(self) -> None:
        """Run until the outbox is empty, and deliver the events."""
        self.outbox.run(until_empty=True)
        self.dispatcher.flush()

    def names(self) -> list[str]:
        """Return the kinds of the events."""
        self.dispatcher.flush()
        return [type(event).__name__ for event in self.events]


class WorkerProcess:
    """A process that runs an outbox until it is empty."""

    def __init__(self, *arguments: object) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when it has ended
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rlm_testkit.outbox", *map(str, arguments)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [str(Path(__file__).parents[1]), *filter(None, sys.path)]
                ),
            },
            stderr=self._errors,
        )

    def kill(self) -> None:
        """Kill it at once."""
        self._process.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def wait(self, timeout: float = 60.0) -> int | None:
        """Return its exit status; None if it still runs after `timeout` seconds."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        if not self._errors.closed:
            self._errors.seek(0)
            errors = self._errors.read().decode()
            self._errors.close()
            assert status <= 0, errors
        return status


def main(outbox: str, policy_file: str, url: str, port: str, clock_file: str) -> None:
    """Run an outbox. clock_file: a FileClock, or `real`."""
    policy = Policy.load(policy_file)
    clock: Callable[[], int] | None = None
    options: dict[str, Any] = {"poll_interval": 0.1}
    if clock_file != "real":
        clock = file_clock = FileClock(Path(clock_file))
        options = {"clock": clock, "sleep": file_clock.advance, "poll_interval": float("inf")}
    backend = from_url(url, clock=clock)
    transport = SMTPTransport("127.0.0.1", int(port), tls="none", max_connections=1)
    box = Outbox(outbox, Limiter(policy, backend), transport, **options)
    signal.signal(signal.SIGTERM, lambda *_: box.stop())
    box.run(until_empty=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
