"""Workloads: the messages of a round, and how one contender decides on them."""

import asyncio
import gc
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import attrs

from benchmarks.contenders import AsyncCheck, Check, Contender
from benchmarks.email_check import DAY, EXTERNAL, MINUTE, message, new_senders
from ratelimit_mail import Envelope


@attrs.frozen
class Workload:
    """One contender at work, round by round; only `send` is timed."""

    prepare: Callable[[], list[Envelope]]
    send: Callable[[list[Envelope]], Sequence[object]]
    """Decides on the messages of a round; returns the answers."""
    expected: bool = True
    """What each answer must be."""


def one_by_one(check: Check) -> Callable[[list[Envelope]], list[object]]:
    """Return a function that decides on one message after another."""
    return lambda envelopes: [check(envelope) for envelope in envelopes]


def by_sender(
    contender: Contender, senders: int = 5, messages: int = 30, today: int = 0, full: bool = False
) -> Workload:
    """Messages of new senders.

    today: how many external recipients the one sender has sent to today.
    full: the senders have just sent thirty messages each.
    """

    def prepare() -> list[Envelope]:
        envelopes = new_senders(senders, messages)
        if today:
            contender.charge_day(envelopes[0].sender, today)
        for envelope in envelopes if full else ():
            contender.check(envelope)
        return envelopes

    expected = not full and today < DAY
    return Workload(prepare, one_by_one(contender.check), expected)


def threads(contender: Contender) -> Workload:
    """Eight threads at once, each with thirty messages of two new senders."""
    pool = ThreadPoolExecutor(8)
    send = one_by_one(contender.check)
    size = 2 * MINUTE

    def at_once(envelopes: list[Envelope]) -> list[object]:
        chunks = [envelopes[i : i + size] for i in range(0, len(envelopes), size)]
        return [answer for answers in pool.map(send, chunks) for answer in answers]

    return Workload(lambda: new_senders(8 * 2), at_once)


def threads_of(contender: Contender, senders: int, workers: int) -> Workload:
    """Many messages of some senders, by eight threads at once or by one."""
    pool = ThreadPoolExecutor(workers)
    send = one_by_one(contender.check)

    def prepare() -> list[Envelope]:
        firsts = new_senders(senders, 1)
        return [first for first in firsts for _ in range(16_000 // senders)]

    def at_once(envelopes: list[Envelope]) -> list[object]:
        size = len(envelopes) // 8
        chunks = [envelopes[i : i + size] for i in range(0, len(envelopes), size)]
        return [answer for answers in pool.map(send, chunks) for answer in answers]

    return Workload(prepare, at_once)


WORKLOADS: Final[dict[str, Callable[[Contender], Workload]]] = {
    "accepted": by_sender,
    "fresh senders": partial(by_sender, senders=5 * MINUTE, messages=1),
    "day nearly full": partial(by_sender, senders=1, today=DAY - MINUTE * EXTERNAL - 10),
    "denied by the minute": partial(by_sender, full=True),
    "denied by the day": partial(by_sender, senders=1, today=DAY),
    "8 threads": threads,
}


def among(senders: int, contender: Contender) -> Workload:
    """Messages of many senders in no order; each has sent one before.

    Each message is built anew, as a caller builds it: only what the limiter holds is cold.
    """
    gc.disable()
    for i in range(senders):
        contender.check(message(i))
    gc.enable()
    number = random.Random(1).randrange
    return Workload(
        lambda: [message(number(senders)) for _ in range(150)], one_by_one(contender.check)
    )


def awaited(check: AsyncCheck, loop: asyncio.AbstractEventLoop, *, at_once: bool) -> Workload:
    """Messages of fifty new senders, each awaited before the next.

    at_once: a hundred messages of five senders instead, each in a task of its own.
    """

    async def send(envelopes: list[Envelope]) -> list[object]:
        if at_once:
            return await asyncio.gather(*map(check, envelopes))
        return [await check(envelope) for envelope in envelopes]

    prepare = partial(new_senders, 5, 20) if at_once else partial(new_senders, 50)
    return Workload(prepare, lambda envelopes: loop.run_until_complete(send(envelopes)))
