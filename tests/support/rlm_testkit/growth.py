"""Check that the time of a function grows with the size of its input, and no faster."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from time import process_time
from typing import Any, Final

__all__ = ["assert_grows_linearly", "grows_linearly"]

TIMES_AS_LARGE: Final = 16

MOST_TIMES_AS_LONG: Final = 90
"""Between the 16 of linear and the 256 of quadratic time."""

SHORTEST: Final = 0.0005
"""Seconds; a shorter time is not measured exactly enough to be compared."""

ATTEMPTS: Final = 5


def assert_grows_linearly(use: Callable[[Any], object], make: Callable[[int], Any], n: int) -> None:
    """Fail if sixteen times the input takes far longer than sixteen times as long.

    use: the function, which may raise ValueError.
    make: returns an input of a size.

    The times are those of this process on the processor, the best of several, so neither the speed
    of the machine nor its load matters.
    """
    small, large = make(n), make(TIMES_AS_LARGE * n)
    assert grows_linearly(lambda: use(small), lambda: use(large))


def grows_linearly(small: Callable[[], object], large: Callable[[], object]) -> bool:
    """Return whether `large` does not take far longer than sixteen times as long as `small`."""
    for _ in range(ATTEMPTS):
        shortest = max(SHORTEST, min(_seconds(small) for _ in range(3)))
        if _seconds(large) <= MOST_TIMES_AS_LONG * shortest:
            return True
    return False


def _seconds(use: Callable[[], object]) -> float:
    gc.disable()
    try:
        start = process_time()
        with suppress(ValueError):
            use()
        return process_time() - start
    finally:
        gc.enable()
