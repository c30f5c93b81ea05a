"""Dispatcher: events reach their listeners on a thread of its own, never at the decision's expense."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache
from queue import SimpleQueue
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.events.kinds import Event
from ratelimit_mail.events.listeners import (
    WARN_EVERY,
    Listener,
    checked,
    deliver,
    log_warning_safely,
)

__all__ = ["Dispatcher"]

LAST_WAIT: Final = 1.0
"""Seconds that the end of the program waits for what is still to be told."""


class Dispatcher:
    """Calls `listener` with each event, one after the other, on a thread of its own.

    listener: a callable, or several. What one raises is logged, without the error's text, which
        may hold addresses; the others are called all the same.
    most_waiting: about how many events may wait for a slow listener; more are dropped.

    The thread begins with the first event and ends with the Dispatcher. A forked process has its own,
    and what waited at the fork is told in the parent. At the end of the program, one second is
    given to what still waits. Raises TypeError for a listener that would have to be awaited.
    """

    def __init__(
        self, listener: Listener | Sequence[Listener], *, most_waiting: int = 1000
    ) -> None:
        self._listeners = checked(listener)
        if whole_number("most_waiting", most_waiting) < 1:
            raise ValueError(f"most_waiting: {show(most_waiting)} drops all; 1 or more are needed")
        self._most_waiting = most_waiting
        self._dropped = 0
        self._end: weakref.finalize[..., Dispatcher] | None = None
        self._begin()
        _tellers.add(self)

    def _begin(self) -> None:
        """As new: also in a forked process, where no thread and nobody with a lock is left."""
        # Safe for what the garbage collector may run while this very thread is in it.
        self._mail: SimpleQueue[Event | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._dropping = threading.RLock()
        self._warns_again = 0.0
        if self._end is not None:
            self._end.detach()
        self._end = weakref.finalize(self, self._mail.put, None)
        self._end.atexit = False

    @property
    def dropped(self) -> int:
        """How many events were dropped, because too many waited."""
        return self._dropped

    def tell(self, event: Event) -> None:
        """Have the listeners called with `event`; never waits and never raises."""
        if self._mail.qsize() >= self._most_waiting:
            self._drop()
        else:
            self._mail.put(event)
            self._start()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the listeners have had all that was told; whether they had it in time.

        timeout: seconds; None waits as long as they take. A listener that calls this does not
        wait: nobody else would do its work.
        """
        if threading.current_thread() is self._thread:
            return False
        reached = self._when_told()
        return reached is None or reached.wait(timeout)

    def _when_told(self) -> threading.Event | None:
        """What is set when all that waits now has been told; None where nothing ever was."""
        if self._thread is None and self._mail.empty():
            return None
        reached = threading.Event()
        self._mail.put(reached)
        self._start()
        return reached

    def _start(self) -> None:
        """See that the thread runs, or that somebody is starting it."""
        if self._thread is not None and self._thread.is_alive():
            return
        if not self._starting.acquire(blocking=False):
            return
        try:
            _drain_at_exit()
            self._thread = threading.Thread(
                target=deliver,
                args=(self._mail, self._listeners),
                name="ratelimit_mail events",
                daemon=True,
            )
            self._thread.start()
        except RuntimeError:  # no more threads: tried again with the next event
            pass
        finally:
            self._starting.release()

    def _drop(self) -> None:
        """Count an event that is dropped, and have one line logged about it.

        Not by this thread: where the listener is a slow log, it would wait for it.
        """
        now = time.monotonic()
        with self._dropping:
            self._dropped += 1
            if now < self._warns_again:
                return
            self._warns_again = now + WARN_EVERY
        line = f"a listener of events is too slow: {self._most_waiting} wait, more are dropped"
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=log_warning_safely, args=(line,), daemon=True).start()


_tellers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


@cache
def _drain_at_exit() -> None:
    """Tell what waits when the program ends.

    Asked for as late as this, because what is asked for last is done first: before the log that
    a listener writes to is closed.
    """
    import atexit

    atexit.register(_drain)


def _drain() -> None:
    end = time.monotonic() + LAST_WAIT
    for reached in [teller._when_told() for teller in _tellers]:
        if reached is not None:
            reached.wait(max(0.0, end - time.monotonic()))


def _after_fork() -> None:
    for teller in _tellers:
        teller._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
