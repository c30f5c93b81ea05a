"""Floors, which no contender can go below: an empty call, a loop by hand, and bare round trips."""

import socket
import time
from collections import defaultdict, deque

import redis
import redis.asyncio

from benchmarks.clients import redis_client
from benchmarks.contenders import AsyncCheck, Contender
from benchmarks.email_check import DAY, INTERNAL, MINUTE
from ratelimit_mail import Envelope

NOTHING = "return 1"


def empty_call(_port: int | None, _minute: int) -> Contender:
    """Make a function that does nothing."""
    return Contender(lambda _: True)


def by_hand(_port: int | None, limit: int) -> Contender:
    """Make the same exact check as one loop written by hand; the page says what it leaves out."""
    minutes: dict[str, deque[float]] = defaultdict(deque)
    days: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
    spent: dict[str, int] = defaultdict(int)

    def check(envelope: Envelope) -> bool:
        if len(envelope.recipients) > 100:
            return False
        external = 0
        for domain in envelope.domains:
            if domain != INTERNAL:
                external += 1
        now = time.time()
        sender = envelope.sender
        minute, day = minutes[sender], days[sender]
        while minute and minute[0] <= now - 60:
            minute.popleft()
        while day and day[0][0] <= now - 86_400:
            spent[sender] -= day.popleft()[1]
        if len(minute) + 1 > limit or spent[sender] + external > DAY:
            return False
        minute.append(now)
        day.append((now, external))
        spent[sender] += external
        return True

    def charge_minute(envelope: Envelope) -> bool:
        return check(Envelope(envelope.sender, [f"amy@{INTERNAL}"]))

    def charge_day(sender: str, recipients: int) -> None:
        days[sender].extend((time.time(), 1) for _ in range(recipients))
        spent[sender] += recipients

    return Contender(check, charge_minute, charge_day)


def two_deques(_port: int | None, _minute: int) -> Contender:
    """Make a look-up of a sender in one dict, whose two deques get a moment; it decides nothing."""
    senders: dict[str, tuple[deque[float], deque[float]]] = {}

    def record(envelope: Envelope) -> bool:
        now = time.time()
        found = senders.get(envelope.sender)
        if found is None:
            found = senders[envelope.sender] = deque(), deque()
        minute, day = found
        minute.append(now)
        day.append(now)
        return True

    return Contender(record)


async def by_hand_async(port: int | None) -> AsyncCheck:
    """Make the loop written by hand as a coroutine that awaits nothing."""
    decide = by_hand(port, MINUTE).check

    async def check(envelope: Envelope) -> object:
        return decide(envelope)

    return check


def no_op(port: int | None, _minute: int, *, hiredis: bool = True) -> Contender:
    """Make a call of a script that does nothing, by redis-py."""
    assert port is not None
    client = redis_client(port, hiredis=hiredis)
    sha = client.script_load(NOTHING)
    return Contender(lambda _: client.evalsha(sha, 0))


async def no_op_async(port: int | None) -> AsyncCheck:
    """Make the same call by redis-py's client for asyncio."""
    assert port is not None
    client = redis.asyncio.Redis(port=port)
    sha = await client.script_load(NOTHING)
    return lambda _: client.evalsha(sha, 0)


def bare_socket(port: int | None, _minute: int) -> Contender:
    """Make the same call by a socket, without a client."""
    assert port is not None
    with redis.Redis(port=port) as client:
        sha = client.script_load(NOTHING)
    command = f"*3\r\n$7\r\nEVALSHA\r\n$40\r\n{sha}\r\n$1\r\n0\r\n".encode()
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def check(_: Envelope) -> bool:
        connection.sendall(command)
        return connection.recv(64) == b":1\r\n"

    return Contender(check)
