"""The lock by which a worker shows that it is alive: the system releases it when the worker dies.

Each worker locks a file of its own beside the outbox. Nothing depends on a clock: a worker that is
stopped for an hour holds its lock, and so keeps what it is sending.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from pathlib import Path
from typing import Final

from ratelimit_mail.exceptions import OutboxError

__all__ = ["WorkerLock", "is_dead", "remove_dead"]

_ID: Final = re.compile(r"[0-9a-f]{32}")

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class WorkerLock:
    """The lock of one worker, held until `release`. id: its name."""

    def __init__(self, outbox: Path) -> None:
        while True:
            self.id = uuid.uuid4().hex
            self._path = _path(outbox, self.id)
            try:
                self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except OSError as error:
                raise OutboxError(f"the lock of a worker cannot be created: {error}") from error
            # Before it is locked, another worker may take it for one of the dead, and remove it.
            if _lock(self._file) and self._path.exists():
                return
            os.close(self._file)

    def release(self) -> None:
        """Release the lock and remove its file."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(self._file)
        with contextlib.suppress(OSError):  # where an open file cannot be removed
            os.unlink(self._path)


def is_dead(outbox: Path, worker_id: str) -> bool:
    """Return whether a worker has died; then remove its file."""
    if not _ID.fullmatch(worker_id):  # not written by this library: there is no lock to look at
        return True
    path = _path(outbox, worker_id)
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:  # perhaps a worker of another user
        return False
    try:
        if not _lock(file):
            return False
        with contextlib.suppress(OSError):
            os.unlink(path)
        return True
    finally:
        os.close(file)


def remove_dead(outbox: Path) -> None:
    """Remove the locks of workers that died, also of those that the outbox does not know."""
    prefix = f"{outbox.name}-worker-"
    for path in outbox.parent.glob("*-worker-*"):
        if path.name.startswith(prefix) and _ID.fullmatch(path.name[len(prefix) :]):
            is_dead(outbox, path.name[len(prefix) :])


def _path(outbox: Path, worker_id: str) -> Path:
    return outbox.with_name(f"{outbox.name}-worker-{worker_id}")
