"""Make a call that must come to its end, whatever signal handlers raise meanwhile.

Signal handlers run in the main thread. So such a call is made in a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Generic, TypeVar

from ratelimit_mail._util.logger import log_warning

__all__ = ["INTERRUPTIONS", "LONGEST_CALL", "Interruptions", "call_elsewhere", "undisturbed"]

LONGEST_CALL: Final = 10.0
"""Seconds after which the caller does not wait any more for a call that must come to its end."""

T = TypeVar("T")


class _Call(Generic[T]):
    """A call in a thread of its own."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.finished = threading.Event()
        self.result: list[T] = []
        self.error: BaseException | None = None
        self._function = function
        self._begun = threading.Lock()

    def start(self) -> None:
        """Start it; after an interruption, when it may have been started, start it again."""
        try:
            threading.Thread(target=self._run, daemon=True).start()
        except RuntimeError:  # no thread can be started while the interpreter ends
            self._run()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self.result.append(self._function())
        except BaseException as error:
            self.error = error
        finally:
            self.finished.set()


def undisturbed(
    function: Callable[[], T],
    seconds: float = LONGEST_CALL,
    interruptions: list[BaseException] | None = None,
) -> T:
    """Return what `function` returns, which no signal handler interrupts.

    What signal handlers raise in this thread is added to `interruptions`; without that list, it is
    raised when the call has ended. A call that takes longer than `seconds` goes on in its thread,
    and raises TimeoutError here.
    """
    call = _Call(function)
    raised: list[BaseException] = [] if interruptions is None else interruptions
    end = monotonic() + seconds
    is_started = False
    while not call.finished.is_set() and (remaining := end - monotonic()) > 0:
        try:
            if not is_started:
                call.start()
                is_started = True
            call.finished.wait(remaining)
        except BaseException as error:
            raised.append(error)
    if interruptions is None and raised:
        raise raised[0]
    if call.error is not None:
        raise call.error
    if not call.finished.is_set():
        raise TimeoutError(f"a call took longer than {seconds:g} seconds")
    return call.result[0]


def call_elsewhere(function: Callable[[], object]) -> None:
    """Begin to call `function` in a thread of its own, and return. What it raises is logged.

    For the garbage collector, which may run while this very thread holds a lock.
    """

    def call() -> None:
        try:
            function()
        except Exception as error:
            log_warning("a message that was broken off stays counted: %r", error)

    with suppress(RuntimeError):  # no thread can be started while the interpreter ends
        threading.Thread(target=call).start()


class Interruptions(threading.local):
    """What signal handlers raised during a call whose answer is needed all the same.

    A backend that supports it waits for the answer, adds the exception to `deferred`, and returns
    the answer. deferred: None if the caller does not ask for that.
    """

    deferred: list[BaseException] | None = None

    def during(self, function: Callable[[], T]) -> tuple[T, list[BaseException]]:
        """Return what `function` returns, and the exceptions that were put off."""
        outer, self.deferred = self.deferred, []
        try:
            deferred = self.deferred
            return function(), deferred
        finally:
            self.deferred = outer


INTERRUPTIONS: Final = Interruptions()
