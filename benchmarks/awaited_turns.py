"""Turns with asyncio: a hundred tasks at once on Redis, and one after another in memory."""

from __future__ import annotations

import asyncio
import time

from awaited import MAKERS
from contenders import Entry
from turns import BATCH, ROUNDS, Turn
from work import letters

from ratelimit_mail import Envelope


def _name(entry: Entry) -> str:
    from contenders import ENTRIES

    return next(name for name, each in ENTRIES.items() if each is entry)


def hundred_tasks(entry: Entry, port: int | None) -> Turn:
    """A hundred tasks with a message each, of five senders; also the share wrongly refused."""
    loop = asyncio.new_event_loop()
    check = loop.run_until_complete(MAKERS[_name(entry)](port))

    async def all_at_once(envelopes: list[Envelope]) -> int:
        return sum(not answer for answer in await asyncio.gather(*map(check, envelopes)))

    def turn() -> tuple[float, ...]:
        taken, refused = 0.0, 0
        for number in range(ROUNDS + 1):
            envelopes = [each for _ in range(5) for each in letters(20)]
            start = time.perf_counter()
            refused += loop.run_until_complete(all_at_once(envelopes))
            if number:
                taken += time.perf_counter() - start
        return taken / ROUNDS / 100, refused / (ROUNDS + 1) / 100

    return turn


def one_after_another(entry: Entry, port: int | None) -> Turn:
    """Thirty messages of a new sender, each awaited before the next."""
    loop = asyncio.new_event_loop()
    check = loop.run_until_complete(MAKERS[_name(entry)](port))

    async def in_turn(envelopes: list[Envelope]) -> float:
        start = time.perf_counter()
        for envelope in envelopes:
            await check(envelope)
        return time.perf_counter() - start

    def turn() -> tuple[float, ...]:
        taken = [loop.run_until_complete(in_turn(letters(BATCH))) for _ in range(ROUNDS + 1)]
        return (sum(taken[1:]) / ROUNDS / BATCH,)

    return turn
