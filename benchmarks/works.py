"""All works by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from awaited_turns import hundred_tasks, one_after_another
from contenders import Entry
from correctness import left_behind, worst_window
from footprint import bytes_a_message, bytes_a_sender
from log_turns import bytes_in_server, searched, trimmed
from redis_turns import batches, server_time, server_time_after
from turns import (
    Turn,
    accepted,
    among,
    day_nearly_full,
    denied_by_day,
    denied_by_minute,
    fresh_senders,
    latency,
    threads,
)

Work = Callable[[Entry, int | None], Turn]

WORKS: Final[dict[str, Work]] = {
    "accepted": accepted,
    "fresh senders": fresh_senders,
    "denied by the minute": denied_by_minute,
    "denied by the day": denied_by_day,
    "day nearly full": day_nearly_full,
    "8 threads": threads,
    "10,000 senders": among(10_000),
    "1,000,000 senders": among(1_000_000),
    "latency": latency,
    "bytes a sender": bytes_a_sender,
    "bytes a message": bytes_a_message,
    "worst window": worst_window,
    "left behind": left_behind,
    "batches": batches,
    "server time": server_time,
    "server time, 500 recorded": server_time_after(500),
    "server time, 10,000 recorded": server_time_after(10_000),
    "server time, 100,000 recorded": server_time_after(100_000),
    "server time, 40,000 recorded and trimmed": trimmed,
    "server time, 100,000 recorded and searched": searched(100_000, even=True),
    "server time, 100,000 uneven ones searched": searched(100_000, even=False),
    "bytes in the server": bytes_in_server,
    "asyncio": one_after_another,
    "asyncio, 100 tasks": hundred_tasks,
}
