"""ExpiringMap: a map of bounded size whose values expire some time after they were last put."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["NEVER", "ExpiringMap"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

NEVER: Final = 1 << 62
"""Later than any time."""


class ExpiringMap(Generic[K, V]):
    """Map keys to values that expire `lifetime` milliseconds after they were last put.

    most: the largest number of values; one more drops the value that was put longest ago.

    There are few different lifetimes, because they are the windows of limits. Values of one
    lifetime expire in the order in which they were put, so each call looks only at values that
    expire.
    """

    def __init__(self, most: int) -> None:
        self.next_expiry = NEVER
        """Nothing expires before this moment."""
        self._most = most
        self._size = 0
        self._queues: dict[int, OrderedDict[K, tuple[int, V]]] = {}

    def __len__(self) -> int:
        return self._size

    def get(self, lifetime: int, key: K) -> V | None:
        """Return the value of `key`, or None if there is none."""
        queue = self._queues.get(lifetime)
        entry = None if queue is None else queue.get(key)
        return None if entry is None else entry[1]

    def put(self, lifetime: int, key: K, value: V, now: int) -> None:
        """Store `value` under `key`; its lifetime starts at `now`."""
        queue = self._queues.get(lifetime)
        if queue is None:
            queue = self._queues[lifetime] = OrderedDict()
        if key in queue:
            queue.move_to_end(key)
        else:
            self._size += 1
        queue[key] = (now, value)
        self.next_expiry = min(self.next_expiry, now + lifetime)
        if self._size > self._most:
            self._drop_oldest()

    def pop_expired(self, now: int) -> list[V]:
        """Remove the values that have expired at `now`, and return them."""
        expired: list[V] = []
        if now < self.next_expiry:
            return expired
        self.next_expiry = NEVER
        for lifetime, queue in list(self._queues.items()):
            while queue and _oldest_time(queue) + lifetime <= now:
                expired.append(queue.popitem(last=False)[1][1])
            if queue:
                self.next_expiry = min(self.next_expiry, _oldest_time(queue) + lifetime)
            else:
                del self._queues[lifetime]
        self._size -= len(expired)
        return expired

    def _drop_oldest(self) -> None:
        lifetime = min(self._queues, key=lambda each: _oldest_time(self._queues[each]))
        self._queues[lifetime].popitem(last=False)
        self._size -= 1
        if not self._queues[lifetime]:
            del self._queues[lifetime]


def _oldest_time(queue: OrderedDict[K, tuple[int, V]]) -> int:
    """Return when the first value of `queue` was put."""
    return next(iter(queue.values()))[0]
