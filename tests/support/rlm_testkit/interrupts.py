"""Raise an exception in the middle of an operation, as a signal handler may."""

from __future__ import annotations

import linecache
import signal
import sys
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, Self, TypeVar

import ratelimit_mail.backends.memory
import ratelimit_mail.backends.transaction
import ratelimit_mail.counting
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.counting.event_log import EventLog

__all__ = ["Alarm", "Interrupt", "check_columns", "interrupt_at"]

T = TypeVar("T")

COUNTING_CODE: Final = (
    str(Path(str(ratelimit_mail.backends.memory.__file__)).parent),
    str(Path(str(ratelimit_mail.counting.__file__)).parent),
    str(ratelimit_mail.backends.transaction.__file__),
)


NEVER_INTERRUPTED: Final = (
    "for _ in locking:",
    "try:",
    "return None",
    "return False",
    "return True",
    "release()",
)


class Interrupt(BaseException):
    """What a test raises in the middle of an operation."""


def _is_never_interrupted(frame: FrameType) -> bool:
    """Return whether no signal is handled in this line.

    That is so between the lock and the first call that it protects, and between the last one and
    the call that frees the lock.
    """
    if frame.f_lineno is None:  # the end of an exception's handling
        return True
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    is_quick = frame.f_code.co_name in ("take", "settle_pending")
    if is_quick and line in NEVER_INTERRUPTED:
        return True
    return "self._lock" in line


def interrupt_at(number: int, event: str, call: Callable[[], Any]) -> bool:
    """Call `call`; raise Interrupt in the counting code at the event of this number.

    event: "line" or "opcode". Return whether there were so many events.
    """
    remaining = number

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal remaining
        if kind == "call":
            if not frame.f_code.co_filename.startswith(COUNTING_CODE):
                return None
            frame.f_trace_opcodes = event == "opcode"
        elif kind == event and not _is_never_interrupted(frame):
            if remaining == 0:
                raise Interrupt
            remaining -= 1
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(previous)
    return False


class Alarm:
    """Raises Interrupt in a call, by a signal handler, some microseconds after its begin.

    longest: after how many seconds at most. interrupts: how many calls were broken off so far.
    """

    def __init__(self, random: Random, longest: float = 0.00004) -> None:
        self.interrupts = 0
        self._random = random
        self._longest = longest
        self._is_armed = False

    def __enter__(self) -> Self:
        self._handler = signal.signal(signal.SIGALRM, self._interrupt)
        self._timer = signal.setitimer(signal.ITIMER_REAL, 0)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        signal.setitimer(signal.ITIMER_REAL, *self._timer)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self._is_armed:
            self._is_armed = False
            raise Interrupt

    def call(self, function: Callable[[], T]) -> T | None:
        """Return what `function` returns; None if it was broken off."""
        seconds = self._random.uniform(0.000001, self._longest)
        try:
            self._is_armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            result = function()
            self._is_armed = False
        except Interrupt:
            self.interrupts += 1
            return None
        return result


def check_columns(backend: MemoryBackend) -> None:
    """Check that the lock is free and that all that the backend holds agrees with itself."""
    assert not backend._lock.locked()
    with backend._lock:
        backend._take_back()
    for table in backend._tables.values():
        for subjects in (table.young, table.old, table.idle):
            for counts in subjects.values():
                logs: dict[int, EventLog] = dict(counts._logs or {})
                held: dict[int, int] = {}
                for unit, log in logs.items():
                    _check_log(log)
                    # What has left every window by `newest` may be held, or not any more.
                    gone = bisect_right(log.times, counts.newest - counts.retentions[unit].span)
                    column = log.sent if log.attempts is None else log.attempts
                    held[unit] = column[-1] - column[max(gone, log.head)]
                for ledger, costs, moments in counts._all_runs():
                    assert not moments or max(moments) <= counts.newest
                    for unit, _ in ledger.bounds:
                        held[unit] = held.get(unit, 0) + costs[unit] * len(moments)
                for unit, _ in counts.ledger.bounds if counts.ledger else ():
                    held[unit] = held.get(unit, 0) + counts.costs[unit] * counts.allowance
                for unit, cost in held.items():
                    assert counts.held[unit] >= cost


def _check_log(log: EventLog) -> None:
    for column in (log.sent, log.attempts):
        if column is not None:
            assert len(column) == len(log.times) + 1
            held = column[log.head :]  # those before it may be of totals that were higher
            assert list(held) == sorted(held)
    assert list(log.times) == sorted(log.times)
    column = log.sent if log.attempts is None else log.attempts
    assert log.held == column[-1] - column[log.head]
