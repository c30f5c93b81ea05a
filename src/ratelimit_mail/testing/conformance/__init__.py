"""Tests that every backend must pass; subclass BackendConformance to run them.

Every test starts with an empty backend:

    from ratelimit_mail.backends import MemoryBackend
    from ratelimit_mail.testing import BackendConformance


    class TestMyBackend(BackendConformance):
        def backend(self, clock):
            return MemoryBackend(clock)  # return your own backend here

pytest collects the tests from this class.
"""

from __future__ import annotations

import asyncio
import random
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ratelimit_mail.backends.base import AsyncBackend, Backend
from ratelimit_mail.testing.brute_force import BruteForceBackend
from ratelimit_mail.testing.conformance.batches import BatchTests
from ratelimit_mail.testing.conformance.bookings import BookingTests
from ratelimit_mail.testing.conformance.calendars import CalendarTests
from ratelimit_mail.testing.conformance.clocks import ClockTests
from ratelimit_mail.testing.conformance.idempotency import IdempotencyTests
from ratelimit_mail.testing.conformance.rankings import RankingTests
from ratelimit_mail.testing.conformance.redeeming import RedeemTests
from ratelimit_mail.testing.conformance.refusals import RefusalTests
from ratelimit_mail.testing.conformance.registers import RegisterTests
from ratelimit_mail.testing.conformance.settling import SettleTests
from ratelimit_mail.testing.conformance.spreading import SpreadTests
from ratelimit_mail.testing.conformance.subjects import SubjectTests
from ratelimit_mail.testing.conformance.unique import UniqueTests
from ratelimit_mail.testing.conformance.windows import WindowTests
from ratelimit_mail.testing.generated_scripts import generated_script, play
from ratelimit_mail.testing.sync_adapter import SyncAdapter

__all__ = ["AsyncBackendConformance", "BackendConformance"]

T = TypeVar("T")


class BackendConformance(
    WindowTests,
    CalendarTests,
    SubjectTests,
    RefusalTests,
    BookingTests,
    SettleTests,
    RedeemTests,
    SpreadTests,
    UniqueTests,
    ClockTests,
    IdempotencyTests,
    BatchTests,
    RegisterTests,
    RankingTests,
):
    """All conformance tests. A subclass defines `backend`, which returns an empty backend."""

    scripts = 200
    """How many generated scripts are compared with the brute-force backend."""

    def test_generated_scripts_have_the_answers_of_the_brute_force(self) -> None:
        """Play the operations in any order, on small limits that are often reached."""
        for seed in range(self.scripts):
            script = generated_script(random.Random(seed), jumps=bool(seed % 2))
            assert play(script, self.backend) == play(script, BruteForceBackend), f"seed {seed}"


class AsyncBackendConformance(BackendConformance):
    """The same tests for an async backend, on an event loop in a separate thread.

    A subclass defines `async_backend` instead of `backend`.
    """

    @abstractmethod
    def async_backend(self, clock: Callable[[], int]) -> AsyncBackend:
        """Return an empty backend whose time is `clock`; called inside the event loop."""

    async def close(self, backend: AsyncBackend) -> None:
        """Close a backend; awaited in the event loop after each test. Does nothing by default."""

    def setup_method(self) -> None:
        """Start the event loop."""
        self._backends: list[AsyncBackend] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def teardown_method(self) -> None:
        """Close the backends, and stop the event loop."""
        for backend in self._backends:
            self._wait(self.close(backend))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        """Run `call` in the event loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def backend(self, clock: Callable[[], int]) -> Backend:
        """Return the backend of `async_backend`, with sync methods.

        clock: the time of the backend.
        """

        async def create() -> AsyncBackend:
            return self.async_backend(clock)

        backend = self._wait(create())
        self._backends.append(backend)
        return SyncAdapter(backend, self._wait)
