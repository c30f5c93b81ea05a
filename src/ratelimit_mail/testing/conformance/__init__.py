"""What any backend must do, as a suite of tests to inherit from.

    class TestMine(BackendConformance):
        def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def backend(self, clock):
            return MyBackend(clock=clock)

Run by pytest as it stands; every test starts from an empty backend.
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
from ratelimit_mail.testing.conformance.batches import Batches
from ratelimit_mail.testing.conformance.bookings import Bookings
from ratelimit_mail.testing.conformance.clocks import Clocks
from ratelimit_mail.testing.conformance.ids import Ids
from ratelimit_mail.testing.conformance.refusals import Refusals
from ratelimit_mail.testing.conformance.subjects import Subjects
from ratelimit_mail.testing.conformance.windows import Windows
from ratelimit_mail.testing.generated_scripts import generated_script, play
from ratelimit_mail.testing.sync_adapter import SyncAdapter

__all__ = ["AsyncBackendConformance", "BackendConformance"]

T = TypeVar("T")


class BackendConformance(Windows, Subjects, Refusals, Bookings, Clocks, Ids, Batches):
    """All the tests; `backend` is what a subclass gives."""

    scripts = 200
    """How many generated scripts are compared with the brute force."""

    def test_generated_scripts_have_the_answers_of_the_brute_force(self) -> None:
        """Each verb in any order, on small limits that are always hit."""
        for seed in range(self.scripts):
            script = generated_script(random.Random(seed), jumps=bool(seed % 2))
            assert play(script, self.backend) == play(script, BruteForceBackend), f"seed {seed}"


class AsyncBackendConformance(BackendConformance):
    """The same tests for a backend to be awaited, on an event loop in a thread of its own."""

    @abstractmethod
    def async_backend(self, clock: Callable[[], int]) -> AsyncBackend:
        """An empty backend whose time is `clock`; called inside the event loop."""

    async def close(self, backend: AsyncBackend) -> None:
        """Close what `async_backend` made; called inside the event loop after each test."""

    def setup_method(self) -> None:
        """Start the event loop."""
        self._made: list[AsyncBackend] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def teardown_method(self) -> None:
        """Close the backends, and stop the event loop."""
        for backend in self._made:
            self._wait(self.close(backend))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def backend(self, clock: Callable[[], int]) -> Backend:
        """The backend of the subclass, as one that is not awaited."""

        async def make() -> AsyncBackend:
            return self.async_backend(clock)

        made = self._wait(make())
        self._made.append(made)
        return SyncAdapter(made, self._wait)
