"""BoundedCache: the results of a function, up to a highest number of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, TypeVar

__all__ = ["BoundedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LONGEST: Final = 64
"""Of a key that is a tuple: the result for a longer one is not stored, to bound the memory."""


def _is_short(key: object) -> bool:
    return not isinstance(key, tuple) or len(key) <= LONGEST


class BoundedCache(dict[K, V]):
    """The results of `function` by its argument: `cache[argument]` calls it at most once.

    most: the most results that are stored. One more clears the cache first: the arguments come
        from mail, so their number has no bound.
    is_stored: whether the result for an argument is stored at all.
    """

    def __init__(
        self,
        function: Callable[[K], V],
        most: int = 4096,
        is_stored: Callable[[K], bool] = _is_short,
    ) -> None:
        super().__init__()
        self._function = function
        self._most = most
        self._is_stored = is_stored

    def __missing__(self, key: K) -> V:
        result = self._function(key)
        if self._is_stored(key):
            if len(self) >= self._most:
                self.clear()
            self[key] = result
        return result
