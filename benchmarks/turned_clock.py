"""Puts a clock that is turned by hand in the place of the process's own, which peers read.

It must be there before the peer is imported. Sleeping, and timers of threads, keep real time.
"""

from __future__ import annotations

import threading  # keeps the real monotonic clock, which it takes as it is imported
import time
from typing import Final

BEGIN: Final = 1_800_000_000 - 1_800_000_000 % 86_400
"""A midnight: whoever aligns his windows to the clock begins one here."""

_really_sleep: Final = time.sleep
_now = BEGIN * 1_000_000_000


def install() -> None:
    """From now on, all of this process's clocks are turned by hand."""
    time.time = lambda: _now / 1e9
    time.time_ns = lambda: _now
    time.monotonic = lambda: _now / 1e9
    time.monotonic_ns = lambda: _now


def advance(seconds: float) -> None:
    """Turn the clock."""
    global _now
    _now += round(seconds * 1e9)


def settle() -> None:
    """Let threads in the background do what has become due."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(1)
    _really_sleep(0.05)
