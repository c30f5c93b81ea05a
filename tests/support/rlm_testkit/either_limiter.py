"""A sync or an async limiter behind one interface, so that a test runs for both."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractContextManager
from typing import Any

import pytest

from ratelimit_mail import AsyncLimiter, Decision, Limiter, Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.limits import Limit
from ratelimit_mail.testing import ManualClock
from rlm_testkit.builders import campus_policy

__all__ = ["EitherLimiter", "sync_and_async"]

sync_and_async = pytest.mark.parametrize("mode", ["sync", "async"])


class EitherLimiter:
    """A limiter in memory on a manual clock; its methods never need await.

    mode: "sync" or "async".
    limits: those of its policy, unless `policy` is given.
    slept: the seconds of each sleep, which takes no time.
    moves_clock: whether a sleep moves the clock.
    oversleep: how many seconds longer than asked each sleep takes; negative for shorter.
    """

    def __init__(
        self,
        mode: str,
        *limits: Limit,
        policy: Policy | None = None,
        clock: ManualClock | None = None,
        backend: MemoryBackend | None = None,
        **options: Any,
    ) -> None:
        self.mode = mode
        self.clock = ManualClock() if clock is None else clock
        self.backend = MemoryBackend(self.clock) if backend is None else backend
        self.slept: list[float] = []
        self.oversleep = 0.0
        self.moves_clock = True
        policy = campus_policy(*limits) if policy is None else policy
        self.limiter: Any
        if mode == "sync":
            self.limiter = Limiter(policy, self.backend, sleep=self._sleep, **options)
        else:
            self.limiter = AsyncLimiter(policy, self.backend, sleep=self._async_sleep, **options)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.moves_clock:
            self.clock.advance(seconds + self.oversleep)

    async def _async_sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the limiter, as one that does not need to be awaited."""
        return _without_await(getattr(self.limiter, name))

    def reserve(self, *args: Any, **options: Any) -> Any:
        """Return a reservation whose methods do not need to be awaited."""
        return _WithoutAwait(_without_await(self.limiter.reserve)(*args, **options))

    def sending(self, *args: Any, **options: Any) -> AbstractContextManager[Decision]:
        """Return a context manager that does not need to be awaited."""
        sending = self.limiter.sending(*args, **options)
        return sending if self.mode == "sync" else _SyncSending(sending)

    def send(self, function: Any, *args: Any, **options: Any) -> Any:
        """Call `function` decorated with `limited(**options)`."""
        limited = self.limiter.limited(**options)
        if self.mode == "sync":
            return limited(function)(*args)

        async def send(*args: Any) -> Any:
            return function(*args)

        return asyncio.run(limited(send)(*args))

    def used(self, subject: Any = "ann@uwo.ca", scope: Any = "sender") -> list[int]:
        """Return how much of each limit per `scope` a subject has used."""
        return [usage.used for usage in self.usage(subject, scope=scope)]

    def resets_in(self, subject: Any = "ann@uwo.ca", scope: Any = "sender") -> list[float]:
        """Return in how many seconds each limit per `scope` of a subject counts nothing."""
        return [usage.resets_in for usage in self.usage(subject, scope=scope)]


class _WithoutAwait:
    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return _without_await(getattr(self._wrapped, name))


class _SyncSending(AbstractContextManager[Any]):
    def __init__(self, sending: Any) -> None:
        self._sending = sending

    def __enter__(self) -> Any:
        return asyncio.run(self._sending.__aenter__())

    def __exit__(self, *error: Any) -> None:
        asyncio.run(self._sending.__aexit__(*error))


def _without_await(value: Any) -> Any:
    if not inspect.iscoroutinefunction(value):
        return value
    return lambda *args, **options: asyncio.run(value(*args, **options))
