"""Steps: logic that is written once as a generator, and run by sync or by async code.

The generator yields calls, and receives their results or their errors.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

__all__ = ["Steps", "run", "run_async", "shielded"]

T = TypeVar("T")
Steps = Generator[Callable[[], Any], Any, T]


def run(steps: Steps[T]) -> T:
    """Make each call that `steps` yields, and return what `steps` returns."""
    resume: Callable[[], Callable[[], Any]] = partial(next, steps)
    failure: BaseException | None = None
    while True:
        try:
            call = resume()
        except StopIteration as end:
            value: T = end.value
            return value
        except RuntimeError as error:
            # A generator turns a StopIteration into a RuntimeError; the caller gets the original.
            if isinstance(failure, StopIteration) and error.__cause__ is failure:
                raise failure from None
            raise
        try:
            resume = partial(steps.send, call())
        except BaseException as error:
            failure = error
            resume = partial(steps.throw, error)


async def run_async(steps: Steps[T]) -> T:
    """Await each call that `steps` yields, and return what `steps` returns."""
    try:
        call = next(steps)
        while True:
            try:
                result = await call()
            except BaseException as error:
                call = steps.throw(error)
            else:
                call = steps.send(result)
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
