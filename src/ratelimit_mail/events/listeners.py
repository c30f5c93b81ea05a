"""Listeners: what may be one, and how they are called, whatever they do."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final

from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import show
from ratelimit_mail.events.kinds import Event

__all__ = ["WARN_EVERY", "Listener", "checked", "deliver", "log_warning_safely"]

Listener = Callable[[Event], object]

WARN_EVERY: Final = 60.0
"""Seconds between two lines in the log about one trouble."""

MOST_TROUBLES: Final = 100


def checked(listener: object) -> tuple[Listener, ...]:
    """What to call; raises TypeError or ValueError where that is nothing or would be no use."""
    found = listener if isinstance(listener, Iterable) and not callable(listener) else [listener]
    listeners = tuple(found)
    if not listeners:
        raise ValueError("listener: the list is empty; at least one is needed")
    for each in listeners:
        if not callable(each):
            raise TypeError(f"listener: {show(each)} is nothing to call with an event")
        call = getattr(each, "__call__", each)  # noqa: B004 - a callable object's method
        if inspect.iscoroutinefunction(each) or inspect.iscoroutinefunction(call):
            raise TypeError(
                f"listener: {show(each)} is async, and nobody would await it: give a function"
                " that hands the event to your event loop, by call_soon_threadsafe"
            )
        for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if kind(each) or kind(call):
                raise TypeError(f"listener: {show(each)} is a generator; a call does nothing")
    return listeners


def deliver(
    mail: SimpleQueue[Event | threading.Event | None], listeners: tuple[Listener, ...]
) -> None:
    """Call `listeners` with each event of `mail`, until there is a None: what the thread does.

    A `threading.Event` there is set when all before it has been told. Nothing here holds the
    Dispatcher, which could not be collected then.
    """
    warns_again: dict[str, float] = {}
    while (event := mail.get()) is not None:
        if isinstance(event, threading.Event):
            event.set()
            continue
        for listener in listeners:
            try:
                result = listener(event)
                if inspect.iscoroutine(result):
                    result.close()
                    raise TypeError("a coroutine that nobody awaits")
            except BaseException as error:
                _report(error, listener, warns_again)


def _report(error: BaseException, listener: Listener, warns_again: dict[str, float]) -> None:
    kind, now = type(error).__qualname__, time.monotonic()
    if now < warns_again.get(kind, 0.0):
        return
    if len(warns_again) >= MOST_TROUBLES:
        warns_again.clear()
    warns_again[kind] = now + WARN_EVERY
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    line = "?" if trace is None else trace.tb_lineno
    file = "?" if trace is None else os.path.basename(trace.tb_frame.f_code.co_filename)
    name = getattr(listener, "__qualname__", type(listener).__qualname__)
    log_warning_safely(f"a listener of events, {name}, raised {kind} at {file}:{line}")


def log_warning_safely(line: str) -> None:
    """Log `line`, whatever the handlers of the log do."""
    with contextlib.suppress(Exception):
        log_warning("%s", line)
