"""An SMTP server in a process of its own that records when each message arrives, by its own clock.

It stands for the provider: it takes its time before and after the arrival of a message, and says
how many messages the fullest window of its arrivals holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

REPLY_SECONDS: Final = 0.002
"""How long a reply takes at least: a limiter counts in whole milliseconds."""


class Arrival(NamedTuple):
    """A message that arrived, by its name in the header `Subject`.

    at: nanoseconds by the monotonic clock of the sink.
    """

    at: int
    name: str


class ArrivalRow(NamedTuple):
    """What arrived in one drill, whose docstring explains the columns."""

    arrivals: str
    messages: int
    most: int
    late: int
    in_all: int
    rate: float
    limit: float
    share: float


class SMTPSink:
    """A running SMTP server.

    sending: how many seconds a message takes at most, before and after its arrival together.
    """

    def __init__(self, sending: float, seed: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, sending, seed), daemon=True)
        self._process.start()
        theirs.close()
        self.port: int = self._connection.recv()

    def __enter__(self) -> SMTPSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # at which it ends
        self._process.join()
        self._process.close()

    def arrivals(self) -> list[Arrival]:
        """Return the messages that have arrived since the last call, in their order."""
        self._connection.send(None)
        arrivals: list[Arrival] = self._connection.recv()
        return arrivals


def most_in_a_window(arrivals: Iterable[Arrival], seconds: float) -> int:
    """Return how many arrivals the fullest half-open window holds, wherever it begins."""
    moments = sorted(arrival.at for arrival in arrivals)
    length = round(seconds * 1_000_000_000)
    # The fullest one begins at an arrival.
    return max(
        (bisect_left(moments, start + length) - i for i, start in enumerate(moments)), default=0
    )


def arrivals_per_second(arrivals: Sequence[Arrival]) -> float:
    """Return the rate of the arrivals, from the first to the last."""
    moments = [arrival.at for arrival in arrivals]
    return len(moments) / (max(moments) - min(moments)) * 1_000_000_000


class _Receiver:
    def __init__(self, sending: float, seed: int) -> None:
        self._sending = sending
        self._source = random.Random(seed)
        self._conversations: set[asyncio.Task[None]] = set()
        self.arrivals: list[Arrival] = []

    def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            writer.write(b"220 sink.example\r\n")
            while line := await reader.readline():
                word = line[:4].upper()
                if word == b"QUIT":
                    writer.write(b"221 2.0.0 bye\r\n")
                    return
                if word == b"DATA":
                    await self._receive(reader, writer)
                else:
                    writer.write(b"250 2.0.0 ok\r\n")

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Receive one message: it has arrived when its last line has."""
        sending = self._source.uniform(0, self._sending)
        before = self._source.uniform(0, sending)
        await asyncio.sleep(before)
        writer.write(b"354 go on\r\n")
        name = ""
        while (line := await reader.readline()) not in (b".\r\n", b""):
            if line.startswith(b"Subject: "):
                name = line.split()[1].decode()
        if not line:
            raise ConnectionResetError
        self.arrivals.append(Arrival(time.monotonic_ns(), name))
        await asyncio.sleep(max(REPLY_SECONDS, sending - before))
        writer.write(b"250 2.0.0 accepted\r\n")


def _run(connection: Any, sending: float, seed: int) -> None:
    asyncio.run(_serve(connection, sending, seed))


async def _serve(connection: Any, sending: float, seed: int) -> None:
    receiver = _Receiver(sending, seed)
    ended = asyncio.Event()
    server = await asyncio.start_server(receiver.connect, "127.0.0.1", 0, backlog=1000)
    asyncio.get_running_loop().add_reader(
        connection.fileno(), partial(_answer, connection, receiver, ended)
    )
    connection.send(server.sockets[0].getsockname()[1])
    await ended.wait()


def _answer(connection: Any, receiver: _Receiver, ended: asyncio.Event) -> None:
    try:
        connection.recv()
    except EOFError:
        asyncio.get_running_loop().remove_reader(connection.fileno())
        ended.set()
        return
    arrivals, receiver.arrivals = receiver.arrivals, []
    connection.send(arrivals)
