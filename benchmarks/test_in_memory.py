"""The e-mail check in memory: floors, peers and this library in one run."""

from __future__ import annotations

import pytest
from awaited import MAKERS
from contenders import BY_HAND, IN_MEMORY, LIMITS, NO_OP, OURS, of_kinds
from figures import Figures
from imports import import_times
from side_by_side import InTurn

EXACT = of_kinds(IN_MEMORY, "floor", "ours", "best", "safe")
BEST = [BY_HAND, OURS, *of_kinds(IN_MEMORY, "best")]
QUICK = [name for name in BEST if name != "token-throttle"]


@pytest.mark.parametrize(
    "work", ["accepted", "denied by the minute", "denied by the day", "day nearly full"]
)
def test_one_sender(in_turn: InTurn, work: str) -> None:
    in_turn(f"memory, {work}", [(work, name) for name in IN_MEMORY])


def test_ten_thousand_senders(in_turn: InTurn) -> None:
    taking_part = [(work, name) for work in ("10,000 senders", "accepted") for name in QUICK]
    in_turn("memory, 10,000 senders", taking_part)


def test_a_million_senders(in_turn: InTurn, quick: bool) -> None:
    many = [BY_HAND, OURS] if quick else [BY_HAND, OURS, LIMITS, "throttled-py"]
    taking_part = [(work, name) for work in ("1,000,000 senders", "accepted") for name in many]
    in_turn("memory, 1,000,000 senders", taking_part)


def test_eight_threads(in_turn: InTurn) -> None:
    in_turn("memory, 8 threads", [("8 threads", name) for name in BEST])


def test_asyncio(in_turn: InTurn) -> None:
    in_turn("memory, asyncio", [("asyncio", name) for name in MAKERS if name != NO_OP])


def test_latency(in_turn: InTurn, quick: bool) -> None:
    in_turn("memory, latency", [("latency", name) for name in QUICK], turns=3 if quick else 9)


def test_footprint(in_turn: InTurn) -> None:
    taking_part = [(work, name) for work in ("bytes a sender", "bytes a message") for name in BEST]
    in_turn("memory, footprint", taking_part, turns=1)


def test_import(figures: Figures, quick: bool) -> None:
    figures.groups["import"] = import_times(3 if quick else 15)
