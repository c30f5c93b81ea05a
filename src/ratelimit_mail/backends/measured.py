"""Measure a backend: one whose calls are timed, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol, cast

from ratelimit_mail.backends.base import AsyncBackend, Backend

__all__ = ["measured", "measured_async"]

OPERATIONS: Final = (
    "apply",
    "apply_many",
    "refund",
    "settle",
    "redeem",
    "usage",
    "top",
    "reset",
    "read_register",
    "write_register",
)


class Called(Protocol):
    """Is called after each operation."""

    def __call__(self, operation: str, seconds: float, *, failed: bool) -> None:
        """Record an operation of a backend."""


class _Measured:
    """Has the methods of a backend."""

    def __init__(self, backend: Any, wrap: Callable[[str, Any], Any]) -> None:
        self.now = backend.now
        self.shard_of = backend.shard_of
        for name in OPERATIONS:
            if (method := getattr(backend, name, None)) is not None:
                setattr(self, name, wrap(name, method))


def measured(backend: Backend, called: Called) -> Backend:
    """Return a backend that reports how long each of its operations takes."""

    def call(name: str, method: Any, *arguments: Any, **keys: Any) -> Any:
        begin = perf_counter()
        failed = True
        try:
            result = method(*arguments, **keys)
            failed = False
            return result
        finally:
            called(name, perf_counter() - begin, failed=failed)

    return cast("Backend", _Measured(backend, lambda name, method: partial(call, name, method)))


def measured_async(backend: AsyncBackend, called: Called) -> AsyncBackend:
    """Return an async backend that reports how long each of its operations takes."""

    def wrap(name: str, method: Any) -> Any:
        async def call(*arguments: Any, **keys: Any) -> Any:
            begin = perf_counter()
            failed = True
            try:
                result = await method(*arguments, **keys)
                failed = False
                return result
            finally:
                called(name, perf_counter() - begin, failed=failed)

        return call

    return cast("AsyncBackend", _Measured(backend, wrap))
