"""Event listeners: check that they are callable, and call them safely."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Final

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail.events.kinds import Event

__all__ = ["WARN_EVERY", "Listener", "as_listeners", "deliver", "log_warning_safely"]

Listener = Callable[[Event], object]

WARN_EVERY: Final = 60.0
"""Seconds between two log lines about the same kind of error."""

MOST_ERROR_KINDS: Final = 100


def as_listeners(listener: Listener | Iterable[Listener]) -> tuple[Listener, ...]:
    """Return one or several listeners as a tuple.

    Raises TypeError for a listener that cannot be called with an event or whose call would do
    nothing, and ValueError for an empty list.
    """
    if callable(listener) or isinstance(listener, str) or not isinstance(listener, Iterable):
        listeners: tuple[Any, ...] = (listener,)
    else:
        listeners = tuple(listener)
    if not listeners:
        raise ValueError("listener: the list is empty; at least one is needed")
    for each in listeners:
        if not callable(each):
            raise TypeError(f"listener: {show(each)} is not callable")
        call = getattr(each, "__call__", each)  # noqa: B004 - a callable object's method
        if inspect.iscoroutinefunction(each) or inspect.iscoroutinefunction(call):
            raise TypeError(
                f"listener: {show(each)} is async, but listeners run on a thread without an event"
                " loop: pass a function that hands the event to your loop with"
                " call_soon_threadsafe"
            )
        for is_generator in (inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if is_generator(each) or is_generator(call):
                raise TypeError(
                    f"listener: {show(each)} is a generator function; calling it does nothing"
                )
    return listeners


def deliver(
    queue: SimpleQueue[Event | threading.Event | None], listeners: tuple[Listener, ...]
) -> None:
    """Call `listeners` with each event of `queue` until there is a None; the thread's target.

    A `threading.Event` in the queue is set when all events before it are delivered. This function
    holds no reference to the Dispatcher, which could not be garbage-collected otherwise.
    """
    next_warnings: dict[str, float] = {}
    while (event := queue.get()) is not None:
        if isinstance(event, threading.Event):
            event.set()
            continue
        for listener in listeners:
            try:
                result = listener(event)
                if inspect.iscoroutine(result):
                    result.close()
                    raise TypeError("a listener returned a coroutine")
            except BaseException as error:
                _log_error(error, listener, next_warnings)


def _log_error(error: BaseException, listener: Listener, next_warnings: dict[str, float]) -> None:
    kind, now = type(error).__qualname__, time.monotonic()
    if now < next_warnings.get(kind, 0.0):
        return
    if len(next_warnings) >= MOST_ERROR_KINDS:
        next_warnings.clear()
    next_warnings[kind] = now + WARN_EVERY
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = "?" if trace is None else trace.tb_lineno
    file = "?" if trace is None else os.path.basename(trace.tb_frame.f_code.co_filename)
    name = getattr(listener, "__qualname__", type(listener).__qualname__)
    log_warning_safely(f"the event listener {name} raised {kind} at {file}:{line}")


def log_warning_safely(line: str) -> None:
    """Log a warning; ignore errors of the log's handlers."""
    with contextlib.suppress(Exception):
        log_warning("%s", line)
