"""What a contender holds: bytes a sender and bytes a message, by tracemalloc."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Final

import turned_clock
from contenders import Entry
from turns import Turn
from work import NUMBERS, letter

SENDERS: Final = 2_000
BUSY: Final = 4
MESSAGES: Final = 1_000


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def bytes_a_sender(entry: Entry, port: int | None) -> Turn:
    """Of a sender who has sent one message. The address itself is the caller's."""
    check = entry.make(NUMBERS, port).check
    check(letter("first"))
    envelopes = [letter(i) for i in range(SENDERS)]

    def turn() -> tuple[float, ...]:
        tracemalloc.start()
        before = _held()
        for envelope in envelopes:
            assert check(envelope)
        held = _held() - before
        tracemalloc.stop()
        return (held / SENDERS,)

    return turn


def bytes_a_message(entry: Entry, port: int | None) -> Turn:
    """Of a sender of a thousand messages, 2.5 seconds apart: the day holds them all."""
    turned_clock.install()
    made = entry.make(NUMBERS, port)
    check = made.check
    envelopes = [letter(i) for i in range(BUSY)]
    for envelope in envelopes:
        check(envelope)

    def turn() -> tuple[float, ...]:
        tracemalloc.start()
        before = _held()
        for _ in range(MESSAGES):
            turned_clock.advance(2.5)
            for envelope in envelopes:
                assert check(envelope)
        if made.tidy is not None:
            made.tidy()
        turned_clock.settle()
        held = _held() - before
        tracemalloc.stop()
        return (held / BUSY / MESSAGES,)

    return turn
