"""Scripts: steps written once, that one colour runs and the other awaits.

A script is a generator that yields calls and receives their results, or their errors.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

__all__ = ["Steps", "run", "run_async", "shielded"]

T = TypeVar("T")
Steps = Generator[Callable[[], Any], Any, T]


def run(script: Steps[T]) -> T:
    """Make each call of `script`, and return what it returns."""
    step: Callable[[], Callable[[], Any]] = partial(next, script)
    failed: BaseException | None = None
    while True:
        try:
            call = step()
        except StopIteration as end:
            value: T = end.value
            return value
        except RuntimeError as error:
            # A generator may not let a StopIteration through, but whoever called may.
            if isinstance(failed, StopIteration) and error.__cause__ is failed:
                raise failed from None
            raise
        try:
            step = partial(script.send, call())
        except BaseException as error:
            failed = error
            step = partial(script.throw, error)


async def run_async(script: Steps[T]) -> T:
    """Await each call of `script`, and return what it returns."""
    try:
        call = next(script)
        while True:
            try:
                result = await call()
            except BaseException as error:
                call = script.throw(error)
            else:
                call = script.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def shielded(call: Coroutine[Any, Any, T]) -> T:
    """Return the result of `call`, which goes on to its end however often this task is cancelled.

    A cancellation is raised when the call has ended.
    """
    import asyncio

    task = asyncio.ensure_future(call)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # or asyncio complains that nobody has looked at it
        raise cancelled
    return task.result()
