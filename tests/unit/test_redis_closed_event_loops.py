"""What a closed event loop has left is closed by the backend, not by garbage collection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from ratelimit_mail.backends.redis.event_loops import CoresOfLoops


class RecordingTransport:
    """A transport that notes how it was abandoned, and whether the garbage collector did it."""

    def __init__(self) -> None:
        self.is_closed = False
        self.abandoned: list[tuple[bool, bool]] = []

    def abandon(self, *, is_loop_closed: bool) -> None:
        self.abandoned.append((is_loop_closed, bool(collections)))

    async def finish(self) -> None:
        pass

    async def close(self) -> None:
        pass


collections: list[str] = []
"""The garbage collections that are running."""


@pytest.fixture(autouse=True)
def observed_collections() -> Iterator[None]:
    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            collections.append(phase)
        else:
            collections.clear()

    gc.callbacks.append(note)
    yield
    gc.callbacks.remove(note)


class CollectingDictionary(WeakKeyDictionary[Any, Any]):
    """The garbage collector runs when its values are listed."""

    def values(self) -> Iterable[Any]:  # type: ignore[override]
        gc.collect()
        return super().values()


def test_an_event_loop_that_nothing_else_holds_is_closed_when_the_next_one_begins() -> None:
    transports: list[RecordingTransport] = []

    def make_core() -> Any:
        transports.append(RecordingTransport())
        return SimpleNamespace(transport=transports[-1])

    async def use() -> None:
        cores.running()

    cores = CoresOfLoops(make_core)
    cores._cores = CollectingDictionary()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    del loop
    asyncio.run(use())
    assert transports[0].abandoned == [(True, False)]
