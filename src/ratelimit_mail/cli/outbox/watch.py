"""Run an outbox in a thread, show its progress, and end it at SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from ratelimit_mail.outbox import Outbox

__all__ = ["Watch"]

STEP: Final = 0.25
"""Seconds between two looks at the thread."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Watch:
    """One run of an outbox.

    The outbox runs in a thread of its own, so that a signal handler, which runs in the main thread,
    may stop it at any moment without waiting for a lock that it holds itself.

    on_stop: called once after a signal, if a message is still in hand.
    signal: the signal that stopped it; None if none did.
    """

    def __init__(self, outbox: Outbox, on_stop: Callable[[], None]) -> None:
        self._outbox = outbox
        self._on_stop = on_stop
        self._error: BaseException | None = None
        self.signal: int | None = None

    def run(self, *, until_empty: bool, every: Callable[[], float]) -> None:
        """Run the outbox until it ends. A second signal raises KeyboardInterrupt.

        every: shows the progress, first before anything is sent, and returns in how many seconds
            it is called again.
        """
        thread = threading.Thread(
            target=self._run, args=(until_empty,), name="ratelimit_mail outbox", daemon=True
        )
        with self._handlers():
            due = time.monotonic() + every()
            thread.start()
            is_reported = False
            try:
                while thread.is_alive():
                    if self.signal is not None and not is_reported:
                        is_reported = True
                        self._on_stop()
                    if self.signal is None and time.monotonic() >= due:
                        due = time.monotonic() + every()
                    thread.join(STEP)
            except Exception:
                # The message in hand is finished, whatever is wrong with the progress.
                self._outbox.stop()
                thread.join()
                raise
        if self._error is not None:
            raise self._error

    def _run(self, until_empty: bool) -> None:
        try:
            if self.signal is None:
                self._outbox.run(until_empty)
        except BaseException as error:
            self._error = error

    @contextmanager
    def _handlers(self) -> Iterator[None]:
        before: dict[int, Any] = {}
        try:
            for each in SIGNALS:
                before[each] = signal.signal(each, self._handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self._outbox.stop()
