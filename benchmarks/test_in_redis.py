"""The e-mail check in Valkey and in Redis: bare trips, peers and this library in one run."""

from __future__ import annotations

import pytest
from awaited import MAKERS
from contenders import BY_HAND, IN_REDIS, NO_OP, OURS, SOCKET, of_kinds
from side_by_side import InTurn
from works import WORKS

BEST = [NO_OP, OURS, *of_kinds(IN_REDIS, "best")]


@pytest.mark.parametrize(
    "work",
    [
        "accepted",
        "fresh senders",
        "denied by the minute",
        "denied by the day",
        "day nearly full",
    ],
)
def test_one_message(in_turn: InTurn, on_valkey: int, work: str) -> None:
    in_turn(f"Valkey, {work}", [(work, name) for name in IN_REDIS], on_valkey)


def test_eight_threads(in_turn: InTurn, on_valkey: int) -> None:
    in_turn("Valkey, 8 threads", [("8 threads", name) for name in BEST], on_valkey)


def test_a_hundred_tasks(in_turn: InTurn, on_valkey: int) -> None:
    work = "asyncio, 100 tasks"
    in_turn(f"Valkey, {work}", [(work, name) for name in MAKERS if name != BY_HAND], on_valkey)


def test_batches(in_turn: InTurn, on_valkey: int) -> None:
    in_turn("Valkey, batches", [("batches", OURS)], on_valkey)


def test_server_time(in_turn: InTurn, on_valkey: int, turns: int) -> None:
    taking_part = [("server time", name) for name in BEST]
    taking_part += [(work, OURS) for work in WORKS if work.startswith("server time, ")]
    in_turn("Valkey, server time", taking_part, on_valkey, turns=turns // 3 + 1)


def test_bytes_in_the_server(in_turn: InTurn, on_valkey: int) -> None:
    in_turn("Valkey, bytes", [("bytes in the server", OURS)], on_valkey, turns=1)


@pytest.mark.parametrize("work", ["accepted", "fresh senders", "denied by the minute"])
def test_one_message_in_redis(in_turn: InTurn, on_redis: int, work: str) -> None:
    in_turn(f"Redis, {work}", [(work, name) for name in (SOCKET, NO_OP, OURS)], on_redis)
