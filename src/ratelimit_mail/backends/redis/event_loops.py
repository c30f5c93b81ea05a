"""Give each event loop connections of its own, which are closed with the event loop.

Before an event loop is closed, `asyncio.run` and `asyncio.Runner` close its async generators: one
of them closes the connections. An event loop that was closed without that cannot close them any
more. Their sockets are then closed without it: when the backend is first used in another event
loop, or when the backend is deleted.

An event loop that nobody closes must not be held by the backend. So it holds its connections
itself, and goes with them. The backend holds them too, but only until it is used in another event
loop while this one does not run.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from weakref import WeakKeyDictionary, ref

from ratelimit_mail.backends.redis.core import RedisCore
from ratelimit_mail.backends.redis.errors import CLIENT_ERRORS
from ratelimit_mail.backends.redis.transport import AsyncTransport

__all__ = ["CoreOfLoop", "CoresOfLoops"]

_ATTRIBUTE = "_ratelimit_mail"


class CoreOfLoop:
    """What a backend uses in the running event loop; closed when the event loop ends."""

    def __init__(self, core: RedisCore[AsyncTransport]) -> None:
        self.core = core
        self.loop = asyncio.get_running_loop()
        self._closing = self._close_at_end(core.transport)
        self._is_closed_at_end = not getattr(self.loop, "_asyncgens_shutdown_called", False)
        if self._is_closed_at_end:
            with contextlib.suppress(StopIteration):
                self._closing.__anext__().send(None)

    @staticmethod
    async def _close_at_end(transport: AsyncTransport) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not transport.is_closed:
                await asyncio.sleep(0)  # other generators, which end now too, may begin a call
                await transport.finish()
                transport.is_closed = True
                with contextlib.suppress(*CLIENT_ERRORS):
                    await transport.close()

    async def close(self) -> None:
        """Close the connections, in their event loop."""
        transport = self.core.transport
        transport.is_closed = True
        try:
            await transport.close()
        finally:
            await self._closing.aclose()

    def abandon(self) -> None:
        """Close the connections outside of their event loop, which does not run."""
        self.core.transport.is_closed = True
        self.core.transport.abandon(is_loop_closed=self.loop.is_closed())
        with contextlib.suppress(StopIteration, StopAsyncIteration, RuntimeError):
            self._closing.aclose().send(None)

    def __del__(self) -> None:
        # In a running event loop, asyncio closes the generator, and so the connections.
        if not self.core.transport.is_closed and not self.loop.is_running():
            self.abandon()


class CoresOfLoops:
    """The cores of a backend, one for each event loop that uses it.

    make_core: returns a core for the running event loop.
    """

    def __init__(self, make_core: Callable[[], RedisCore[AsyncTransport]]) -> None:
        self._make_core = make_core
        self._lock = threading.Lock()
        self._cores: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[CoreOfLoop]] = (
            WeakKeyDictionary()
        )
        self._held: set[CoreOfLoop] = set()

    def running(self) -> RedisCore[AsyncTransport]:
        """Return the core of the running event loop, made when it is first needed."""
        loop = asyncio.get_running_loop()
        reference = self._cores.get(loop)
        if reference is not None:
            current = reference()
            if current is not None and not current.core.transport.is_closed:
                return current.core
        return self._new(loop).core

    def _new(self, loop: asyncio.AbstractEventLoop) -> CoreOfLoop:
        self._let_go()
        new = CoreOfLoop(self._make_core())
        with self._lock:  # several threads may have an event loop each
            self._cores[loop] = ref(new)
            self._held.add(new)
        _holder(loop)[self] = new
        return new

    def _let_go(self) -> None:
        """Let go of the event loops that do not run, and close what closed ones have left."""
        with self._lock:
            cores = self._hold_running()
        for core in cores:
            if core.loop.is_closed():
                self._forget(core)
                core.abandon()

    def _hold_running(self) -> list[CoreOfLoop]:
        # No loop in the block of the lock: Python 3.13.0 may jump back outside of it.
        # First the cores that are returned: those of closed loops may be held by nothing else.
        cores = [core for reference in self._cores.values() if (core := reference())]
        self._held = {core for core in self._held if core.loop.is_running()}
        return cores

    def _forget(self, core: CoreOfLoop) -> None:
        with self._lock:
            self._cores.pop(core.loop, None)
            self._held.discard(core)
        _holder(core.loop).pop(self, None)

    async def close_running(self) -> None:
        """Close the connections of the running event loop."""
        reference = self._cores.get(asyncio.get_running_loop())
        core = None if reference is None else reference()
        if core is not None:
            self._forget(core)
            await core.close()


def _holder(loop: asyncio.AbstractEventLoop) -> WeakKeyDictionary[CoresOfLoops, CoreOfLoop]:
    """Return the attribute of an event loop that holds what each backend uses in it."""
    # Not by vars(loop): every access to an attribute of the event loop would then be slower.
    holder: WeakKeyDictionary[CoresOfLoops, CoreOfLoop] | None = getattr(loop, _ATTRIBUTE, None)
    if holder is None:
        holder = WeakKeyDictionary()
        setattr(loop, _ATTRIBUTE, holder)
    return holder
