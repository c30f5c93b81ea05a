"""Memo: the answers of a function, as long as there are not too many."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, TypeVar

__all__ = ["BoundedCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LONGEST: Final = 64
"""Of a key that has a length in parts, such as a tuple: longer ones are not worth their room."""


class BoundedCache(dict[K, V]):
    """What `function` answers, asked for by `[]`, and kept.

    most: how many answers are kept; for one more, all are let go, because strangers choose what
        is asked.
    """

    def __init__(self, function: Callable[[K], V], most: int = 4096) -> None:
        super().__init__()
        self._function = function
        self._most = most

    def __missing__(self, key: K) -> V:
        answer = self._function(key)
        if not isinstance(key, tuple) or len(key) <= LONGEST:
            if len(self) >= self._most:
                self.clear()
            self[key] = answer
        return answer
