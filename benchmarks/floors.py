"""What no contender can go below: an empty call, a loop by hand, and bare trips to Redis."""

from __future__ import annotations

import socket
import time
from collections import defaultdict, deque

import redis
from contender import Contender, floor
from work import INTERNAL, Numbers

from ratelimit_mail import Envelope


def empty_call(_numbers: Numbers, _port: int | None) -> Contender:
    """A function that does nothing."""
    return floor(lambda _: True)


def by_hand(numbers: Numbers, _port: int | None) -> Contender:
    """The same exact check in one loop written by hand.

    It leaves out what makes a limiter: threads, refunds, the time to try again, which limit
    spoke, and letting go of senders who are gone.
    """
    minutes: dict[str, deque[float]] = defaultdict(deque)
    days: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
    spent: dict[str, int] = defaultdict(int)
    per_minute, per_day = numbers.minute, numbers.day

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
        if len(minute) + 1 > per_minute or spent[sender] + external > per_day:
            return False
        minute.append(now)
        day.append((now, external))
        spent[sender] += external
        return True

    def charge_minute(envelope: Envelope) -> bool:
        minute, now = minutes[envelope.sender], time.time()
        while minute and minute[0] <= now - 60:
            minute.popleft()
        if len(minute) + 1 > per_minute:
            return False
        minute.append(now)
        return True

    def spend_day(sender: str, recipients: int) -> None:
        days[sender].extend((time.time(), 1) for _ in range(recipients))
        spent[sender] += recipients

    return Contender(check, charge_minute, spend_day)


def no_op(_numbers: Numbers, port: int | None) -> Contender:
    """A script that does nothing, by the client that all the others use."""
    assert port is not None
    client = redis.Redis(port=port)
    sha = client.script_load("return 1")
    return floor(lambda _: client.evalsha(sha, 0))


def bare_socket(_numbers: Numbers, port: int | None) -> Contender:
    """The same script by a socket, without a client."""
    assert port is not None
    with redis.Redis(port=port) as client:
        sha = client.script_load("return 1")
    command = f"*3\r\n$7\r\nEVALSHA\r\n$40\r\n{sha}\r\n$1\r\n0\r\n".encode()
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def check(_: Envelope) -> bool:
        link.sendall(command)
        return link.recv(64) == b":1\r\n"

    return floor(check)
