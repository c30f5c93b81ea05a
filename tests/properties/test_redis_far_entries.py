"""Logs whose entries are too far apart for the short format: the same answers as in memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rlm_testkit.redis_backends import unique_prefix
from rlm_testkit.servers import Server

from ratelimit_mail.backends import Backend, MemoryBackend, RedisBackend
from ratelimit_mail.backends.base import CHECK, TAKE, Intent
from ratelimit_mail.counting.charge import (
    ONE_MESSAGE,
    Charge,
    Count,
    Ledger,
    costs_of,
    retention_for,
)
from ratelimit_mail.counting.window import Window
from ratelimit_mail.testing import ManualClock

COSTS = (1, 1, 2**31, 2**32 - 1, 2**32, 2**33)
"""A running total has four bytes in the short format."""

PAUSES = (0, 0, 1, 1000, 2**39, 2**40 - 1, 2**40, 2**41)
"""A moment has five bytes in the short format."""


def ledger(name: str, *windows: Window) -> Ledger:
    return Ledger(name, (Count(0, windows, retention_for(list(windows))),), 2**43)


def answers(backend: Backend, clock: ManualClock, seed: int) -> list[Any]:
    source = random.Random(seed)
    denied = source.random() < 0.5
    count = ledger(
        "far", Window(2**34, 2**42, denied=denied), Window(2**35, 2**43 - 1, denied=False)
    )
    queue = ledger("queue", Window(2**40, 2**43))
    results: list[Any] = []
    receipts: list[Any] = []
    for _ in range(source.choice((10, 60))):
        clock.advance(source.choice(PAUSES) / 1000)
        charges: list[Charge] = [(count, "ann", costs_of(0, source.choice(COSTS)))]
        intent = source.choice((TAKE, TAKE, TAKE, CHECK, Intent(queue=(queue, "ann", ONE_MESSAGE))))
        now, at, receipt, refusals, *_ = backend.apply(charges, intent)
        results.append((now, at, receipt is None, [(window, room) for _, window, room in refusals]))
        if receipt is not None:
            receipts.append(receipt)
        if receipts and source.random() < 0.2:
            backend.refund(receipts.pop(source.randrange(len(receipts))))
        results.append(backend.usage(count, "ann"))
    return results


@pytest.mark.parametrize("seed", range(40))
def test_far_entries_give_the_answers_of_a_memory_backend(server: Server, seed: int) -> None:
    clock = ManualClock()
    expected = answers(MemoryBackend(clock), clock, seed)
    clock = ManualClock()
    with server.client() as client:
        backend = RedisBackend(client, prefix=unique_prefix(), clock=clock)
        assert answers(backend, clock, seed) == expected
