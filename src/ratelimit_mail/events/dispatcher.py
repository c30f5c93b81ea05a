"""Dispatcher: calls event listeners on a thread of its own, so that decisions do not wait."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Sequence
from functools import cache, partial
from queue import SimpleQueue
from typing import Final

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import whole_number
from ratelimit_mail.events.kinds import Event
from ratelimit_mail.events.listeners import (
    WARN_EVERY,
    Listener,
    as_listeners,
    deliver,
    log_warning_safely,
)

__all__ = ["Dispatcher"]

EXIT_TIMEOUT: Final = 1.0
"""Seconds that the program waits at exit for events that are not delivered yet."""


class Dispatcher:
    """Call `listener` with each event, one after the other, on a separate thread.

    listener: a callable, or several. If one raises, the error is logged without its text, which
        may contain addresses, and the other listeners are called as usual.
    most_waiting: about how many events may wait for a slow listener; further events are dropped.

    The thread starts with the first event and ends with the Dispatcher. A forked process has a
    thread of its own; events that wait during the fork are delivered in the parent. At exit, the
    program waits at most one second for the events that are left. Raises TypeError for an async
    listener.
    """

    def __init__(
        self, listener: Listener | Sequence[Listener], *, most_waiting: int = 1000
    ) -> None:
        self._listeners = as_listeners(listener)
        if whole_number("most_waiting", most_waiting) < 1:
            raise ValueError(f"most_waiting: must be at least 1, not {show(most_waiting)}")
        self._most_waiting = most_waiting
        self._dropped = 0
        self._finalizer: weakref.finalize[..., Dispatcher] | None = None
        self._start_afresh()
        _dispatchers.add(self)

    def _start_afresh(self) -> None:
        """Create an empty queue and new locks, at first and in a forked process.

        After a fork there is no delivery thread, and no thread to release a lock.
        """
        # SimpleQueue, because the garbage collector may call `put` while this thread is in it.
        self._queue: SimpleQueue[Event | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._drop_lock = threading.RLock()
        self._next_warning = 0.0
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, self._queue.put, None)
        self._finalizer.atexit = False

    @property
    def dropped(self) -> int:
        """How many events were dropped because too many were waiting."""
        return self._dropped

    def dispatch(self, event: Event) -> None:
        """Queue `event` for the listeners; never wait and never raise."""
        if self._queue.qsize() >= self._most_waiting:
            self._drop()
        else:
            self._queue.put(event)
            self._ensure_thread()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all queued events are delivered; return whether they were, in time.

        timeout: seconds; None waits as long as it takes. In a listener, this returns False at
        once: the listener's own thread would have to deliver them.
        """
        if threading.current_thread() is self._thread:
            return False
        marker = self._put_marker()
        return marker is None or marker.wait(timeout)

    def _put_marker(self) -> threading.Event | None:
        """Queue a marker that is set when all events before it are delivered.

        Return None if no event was ever queued.
        """
        if self._thread is None and self._queue.empty():
            return None
        marker = threading.Event()
        self._queue.put(marker)
        self._ensure_thread()
        return marker

    def _ensure_thread(self) -> None:
        """Start the thread, unless it is running or another thread is starting it."""
        if self._thread is not None and self._thread.is_alive():
            return
        # No signal is handled between the lock and the `try`.
        for _ in iter(partial(self._start_lock.acquire, False), False):
            try:
                self._start_thread()
            except RuntimeError:  # no more threads: the next event tries again
                pass
            finally:
                self._start_lock.release()
            return

    def _start_thread(self) -> None:
        _deliver_at_exit()
        self._thread = threading.Thread(
            target=deliver,
            args=(self._queue, self._listeners),
            name="ratelimit_mail events",
            daemon=True,
        )
        self._thread.start()

    def _drop(self) -> None:
        """Count a dropped event, and log a warning about it, at most once a minute.

        The warning is logged by another thread: if the listener is a slow log, it would block
        this one.
        """
        now = time.monotonic()
        with self._drop_lock:
            self._dropped += 1
            if now < self._next_warning:
                return
            self._next_warning = now + WARN_EVERY
        line = (
            f"an event listener is too slow: {self._most_waiting} events are waiting,"
            " further events are dropped"
        )
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=log_warning_safely, args=(line,), daemon=True).start()


_dispatchers: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


@cache
def _deliver_at_exit() -> None:
    """Arrange that waiting events are delivered at exit.

    The first event calls this, not the import: exit handlers run in reverse order, and this one
    must run before the log that a listener writes to is closed.
    """
    import atexit

    atexit.register(_flush_all)


def _flush_all() -> None:
    end = time.monotonic() + EXIT_TIMEOUT
    for marker in [dispatcher._put_marker() for dispatcher in _dispatchers]:
        if marker is not None:
            marker.wait(max(0.0, end - time.monotonic()))


def _after_fork() -> None:
    for dispatcher in _dispatchers:
        dispatcher._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
