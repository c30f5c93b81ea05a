"""Change a file safely: one writer at a time, and the old or the new contents after a crash."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO

__all__ = ["exclusive", "replace_file"]


@contextlib.contextmanager
def exclusive(path: str | PathLike[str]) -> Iterator[Path]:
    """Hold the lock of a file while the block runs, and yield the path to write to.

    Waits while another thread or process holds it. The lock is a file beside it, `.name.lock`,
    because the file itself is replaced. It stays there, because a lock file that is removed can be
    locked by two processes at once. A symbolic link is followed, so that it is not replaced by a
    file.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("ab") as file:
        # Who may change the file may lock it.
        with contextlib.suppress(PermissionError):
            _copy_permissions(target, file.fileno())
        _lock(file)
        try:
            yield target
        finally:
            _unlock(file)


def replace_file(path: Path, contents: bytes) -> None:
    """Write a file so that each reader sees its old contents or its new ones, also after a crash.

    The new file has the permissions of the old one, and its owner where that is allowed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            _copy_permissions(path, file.fileno())
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _copy_permissions(path: Path, descriptor: int) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    if sys.platform != "win32":
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable; some systems cannot open a folder, and do not need it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(file: BinaryIO) -> None:
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.05)
            else:
                return

    def _unlock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
