"""ConnectionSlots: how many connections of one limiter are open at once in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from weakref import WeakKeyDictionary

__all__ = ["ConnectionSlots", "slots_of"]


class ConnectionSlots:
    """The open connections of one limiter, and the callers that wait for one to close."""

    def __init__(self) -> None:
        # Reentrant, and the set changes in one step: the garbage collector may call `release` while
        # this very thread holds the lock.
        self._lock = threading.RLock()
        self._open: set[object] = set()
        self._waiting: list[Callable[[], object]] = []

    def take(self, most: int, wake: Callable[[], object]) -> object | None:
        """Return a slot for a connection, or None if `most` are open: then `wake` is called later.

        wake: called once, from any thread, when a connection has closed; then take again.
        """
        with self._lock:
            if len(self._open) < most:
                slot = object()
                self._open.add(slot)
                return slot
            self._waiting.append(wake)
            return None

    def stop_waiting(self, wake: Callable[[], object]) -> None:
        """Forget a caller that no longer waits."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(wake)

    def release(self, slot: object) -> None:
        """Give a slot back; a second time changes nothing."""
        with self._lock:
            self._open.discard(slot)
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            with contextlib.suppress(RuntimeError):  # its event loop is closed
                wake()


_slots: WeakKeyDictionary[object, ConnectionSlots] = WeakKeyDictionary()
_lock = threading.Lock()


def slots_of(limiter: object) -> ConnectionSlots:
    """Return the slots of a limiter: the same for all of its connections."""
    with _lock:
        return _slots.setdefault(limiter, ConnectionSlots())
