"""Turns of one contender: what is done in each, and how long a message took of it.

A turn is prepared and timed in a process of the contender's own. What it gives are figures:
seconds, mostly. These are the works that memory and Redis have in common.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final

from contender import Check, Contender
from contenders import Entry
from work import EXTERNAL, NUMBERS, letter, letters

from ratelimit_mail import Envelope

Turn = Callable[[], tuple[float, ...]]

BATCH: Final = 30
ROUNDS: Final = 10
"""Rounds in a turn that are timed, after one that warms up."""


def timed(check: Check, envelopes: list[Envelope]) -> tuple[float, list[object]]:
    """How long all of them took, and the answers. The garbage is left for later."""
    gc.disable()
    start = time.perf_counter()
    answers = [check(envelope) for envelope in envelopes]
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds, answers


def rounds(
    entry: Entry,
    check: Check,
    prepare: Callable[[], list[Envelope]],
    allowed: bool,
    number: int = ROUNDS,
) -> Turn:
    """Turns of several rounds, each with other messages, whose answers must be as expected."""

    def one_round() -> tuple[float, int]:
        for _ in range(3):  # a minute may have ended while the round was prepared
            envelopes = prepare()
            seconds, answers = timed(check, envelopes)
            if entry.kind == "floor" or all(bool(answer) is allowed for answer in answers):
                return seconds, len(envelopes)
        raise AssertionError(f"it {'denies' if allowed else 'accepts'} what it should not")

    def turn() -> tuple[float, ...]:
        one_round()
        taken = [one_round() for _ in range(number)]
        return (sum(seconds for seconds, _ in taken) / sum(calls for _, calls in taken),)

    return turn


def accepted(entry: Entry, port: int | None) -> Turn:
    """Thirty messages of a new sender, all accepted."""
    check = entry.make(NUMBERS, port).check
    return rounds(entry, check, lambda: letters(BATCH), allowed=True)


def fresh_senders(entry: Entry, port: int | None) -> Turn:
    """Thirty messages, each its sender's first."""
    check = entry.make(NUMBERS, port).check
    return rounds(entry, check, lambda: [letters(1)[0] for _ in range(BATCH)], allowed=True)


def denied_by_minute(entry: Entry, port: int | None) -> Turn:
    """Messages of a sender who has just sent thirty."""
    made = entry.make(NUMBERS, port)

    def prepare() -> list[Envelope]:
        envelopes = letters(BATCH)
        for envelope in envelopes:
            made.check(envelope)
        return envelopes

    return rounds(entry, made.check, prepare, allowed=False)


def denied_by_day(entry: Entry, port: int | None) -> Turn:
    """Messages of a sender whose day is full and whose minute is empty."""
    made = entry.make(NUMBERS, port)

    def prepare() -> list[Envelope]:
        envelopes = letters(BATCH)
        _spend(entry, made, envelopes[0].sender, NUMBERS.day)
        return envelopes

    return rounds(entry, made.check, prepare, allowed=False)


def day_nearly_full(entry: Entry, port: int | None) -> Turn:
    """Messages of a sender who has sent to 9,900 external recipients today."""
    made = entry.make(NUMBERS, port)

    def prepare() -> list[Envelope]:
        envelopes = letters(BATCH)
        _spend(entry, made, envelopes[0].sender, NUMBERS.day - BATCH * EXTERNAL - 10)
        return envelopes

    return rounds(entry, made.check, prepare, allowed=True)


def _spend(entry: Entry, made: Contender, sender: str, recipients: int) -> None:
    if entry.kind != "floor" or entry.function == "by_hand":
        made.spend_day(sender, recipients)


def threads(entry: Entry, port: int | None) -> Turn:
    """Eight threads at once, each with messages of new senders; also the share wrongly refused."""
    check = entry.make(NUMBERS, port).check
    pool = ThreadPoolExecutor(8)

    def send(envelopes: list[Envelope]) -> int:
        return sum(not check(envelope) for envelope in envelopes)

    def turn() -> tuple[float, ...]:
        work = [[each for _ in range(5) for each in letters(BATCH)] for _ in range(8)]
        start = time.perf_counter()
        refused = sum(pool.map(send, work))
        taken = time.perf_counter() - start
        messages = 8 * 5 * BATCH
        return taken / messages, refused / messages

    return turn


def _resident(check: Check, senders: int, first: int = 0) -> Iterator[int]:
    """Who sends next, each of whom has sent one message before; endless, in no order."""
    order = list(range(first, first + senders))
    for i in order:
        check(letter(i))
    random.Random(1).shuffle(order)
    while True:
        yield from order


def among(senders: int) -> Callable[[Entry, int | None], Turn]:
    """Messages of so many senders, each of whom has sent one before."""

    def work(entry: Entry, port: int | None) -> Turn:
        check = entry.make(NUMBERS, port).check
        gc.disable()
        source = _resident(check, senders)
        next(source)
        gc.enable()
        gc.freeze()

        # Built anew, as a caller builds them: what is cold is what the limiter holds.
        def prepare() -> list[Envelope]:
            return [letter(next(source)) for _ in range(BATCH)]

        return rounds(entry, check, prepare, allowed=True, number=6 * ROUNDS)

    return work


def latency(entry: Entry, port: int | None) -> Turn:
    """p50, p99 and p99.9 of single calls among 2,000 senders, with the garbage collected.

    Others each turn, so that all of it is accepted: eleven messages of a sender.
    """
    check = entry.make(NUMBERS, port).check
    clock = time.perf_counter_ns
    first = count(step=2_000)

    def turn() -> tuple[float, ...]:
        source = _resident(check, 2_000, next(first))
        envelopes = [letter(next(source)) for _ in range(20_000)]
        taken = []
        for envelope in envelopes:
            start = clock()
            check(envelope)
            taken.append(clock() - start)
        taken.sort()
        return tuple(taken[int(len(taken) * share)] / 1e9 for share in (0.5, 0.99, 0.999))

    return turn
