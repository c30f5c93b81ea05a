"""Programs that run an outbox, one after the other, and are killed at a chosen step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from ratelimit_mail import Policy
from ratelimit_mail.backends import MemoryBackend
from ratelimit_mail.outbox import CallableTransport, OutgoingMessage
from ratelimit_mail.outbox.store import Store
from ratelimit_mail.outbox.worker import OutboxWorker
from ratelimit_mail.outbox.worker_lock import WorkerLock
from ratelimit_mail.testing import ManualClock
from rlm_testkit.outbox import Scene

__all__ = ["STEPS", "Killed", "Programs"]


class Killed(BaseException):
    """The worker is killed here: it does nothing more, and its lock is free."""


STEPS: Final = ("claim", "begin_sending", "finish", "charge_done", "release")
"""Each is a transaction of a worker. It is killed before it, or right after it."""


class Programs:
    """Programs, one after the other, on one file and one count, and the server they send to."""

    def __init__(self, folder: Path, policy: Policy, **options: Any) -> None:
        self.folder = folder
        self.policy = policy
        self.options = options
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)
        self.sent: list[tuple[int, str]] = []
        self.send: Callable[[OutgoingMessage], Any] = self.accept
        self.program = self.start()

    def accept(self, message: OutgoingMessage) -> None:
        """Record a message as sent."""
        self.sent.append((self.clock(), message.message_id))

    def start(self) -> Scene:
        """Return a new program."""
        return Scene(
            self.folder / "outbox.db",
            self.policy,
            CallableTransport(lambda message: self.send(message)),
            clock=self.clock,
            backend=self.backend,
            **self.options,
        )

    def kill_at(self, step: str, when: str, number: int = 1) -> bool:
        """Run the program until it is killed before or after a step for the `number`th time.

        Return whether it was; it has ended by itself if there were fewer steps.
        """
        program = self.program
        original = getattr(Store, step)
        transaction = Store._transaction
        calls = 0
        is_dead = False

        def step_or_die(store: Store, *args: Any, **options: Any) -> Any:
            nonlocal calls, is_dead
            calls += 1
            if calls >= number and when == "before":
                is_dead = True
                raise Killed
            result = original(store, *args, **options)
            if calls >= number:
                is_dead = True
                raise Killed
            return result

        def alive_transaction(store: Store, **options: Any) -> Any:
            """Whatever handles the exception can note nothing either."""
            if is_dead:
                raise Killed
            return transaction(store, **options)

        def die(worker: OutboxWorker, **_: Any) -> None:
            """Run without the steps at the end, which a killed program does not take."""
            worker._store.register(worker._me, self.clock())
            worker._keep_house(self.clock())
            worker._loop(True)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, step, step_or_die)
            patch.setattr(Store, "_transaction", alive_transaction)
            patch.setattr(OutboxWorker, "run", die)
            locks: list[WorkerLock] = []
            make = WorkerLock.__init__

            def remember(lock: WorkerLock, outbox: Path) -> None:
                make(lock, outbox)
                locks.append(lock)

            patch.setattr(WorkerLock, "__init__", remember)
            with contextlib.suppress(Killed):
                program.outbox.run(until_empty=True)
        program.outbox.close()
        for lock in locks:
            os.close(lock._file)
        self.program = self.start()
        return is_dead
