"""ConnectionSlots: how many connections of one limiter are open at once in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, finalize

__all__ = ["ConnectionSlots", "SlotOfConnection", "slots_of"]


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


class SlotOfConnection:
    """The slot of one connection, if it has one."""

    def __init__(self) -> None:
        self._release: finalize[..., Any] | None = None

    def __bool__(self) -> bool:
        return self._release is not None

    def set(self, connection: object, slots: ConnectionSlots, slot: object) -> None:
        """Note the slot; a connection that is dropped without `close` gives it back too."""
        self._release = finalize(connection, slots.release, slot)
        self._release.atexit = False

    def release(self) -> None:
        """Give the slot back; without one, change nothing."""
        if self._release is not None:
            self._release()
            self._release = None


_slots: WeakKeyDictionary[object, ConnectionSlots] = WeakKeyDictionary()
_lock = threading.Lock()


def slots_of(limiter: object) -> ConnectionSlots:
    """Return the slots of a limiter: the same for all of its connections."""
    with _lock:
        return _slots.setdefault(limiter, ConnectionSlots())
