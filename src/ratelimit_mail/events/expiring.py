"""ExpiringMap: what is kept for a length of time after it was last put, and no more than so many."""

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
    """Values by key, each for its stay: so many milliseconds after it was last put.

    most: how many there may be; for one more, that which was put longest ago is dropped.

    The stays are few, being the windows of limits: those of one stay leave in the order in which
    they were put, so that no call looks at more than leave.
    """

    def __init__(self, most: int) -> None:
        self.leaves_at = NEVER
        """Before this moment nothing leaves."""
        self._most = most
        self._size = 0
        self._queues: dict[int, OrderedDict[K, tuple[int, V]]] = {}

    def __len__(self) -> int:
        return self._size

    def get(self, stay: int, key: K) -> V | None:
        """What was put under `key`, if it has not left."""
        queue = self._queues.get(stay)
        found = None if queue is None else queue.get(key)
        return None if found is None else found[1]

    def put(self, stay: int, key: K, value: V, now: int) -> None:
        """Keep `value` from now on."""
        queue = self._queues.get(stay)
        if queue is None:
            queue = self._queues[stay] = OrderedDict()
        if key in queue:
            queue.move_to_end(key)
        else:
            self._size += 1
        queue[key] = (now, value)
        self.leaves_at = min(self.leaves_at, now + stay)
        if self._size > self._most:
            self._drop_oldest()

    def leave(self, now: int) -> list[V]:
        """Those whose stay is over, and which are kept no longer."""
        left: list[V] = []
        if now < self.leaves_at:
            return left
        self.leaves_at = NEVER
        for stay, queue in list(self._queues.items()):
            while queue and _first(queue) + stay <= now:
                left.append(queue.popitem(last=False)[1][1])
            if queue:
                self.leaves_at = min(self.leaves_at, _first(queue) + stay)
            else:
                del self._queues[stay]
        self._size -= len(left)
        return left

    def _drop_oldest(self) -> None:
        stay = min(self._queues, key=lambda stay: _first(self._queues[stay]))
        self._queues[stay].popitem(last=False)
        self._size -= 1
        if not self._queues[stay]:
            del self._queues[stay]


def _first(queue: OrderedDict[K, tuple[int, V]]) -> int:
    """When the first of `queue` was put."""
    return next(iter(queue.values()))[0]
