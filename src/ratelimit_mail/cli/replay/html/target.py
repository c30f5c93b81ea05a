"""The file that a report is written to: checked before the work, and replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError

__all__ = ["Target"]


class Target:
    """A file to be written; raises CommandError where that cannot work.

    source: the file that is read, which must not be overwritten.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self.path = path
        try:
            why = _why_not(path, source)
        except OSError as error:  # a name that is too long, say
            why = error.strerror or str(error)
        if why is not None:
            raise self._complaint(why)

    def write(self, text: str) -> None:
        """Put `text` there: all of it, or nothing."""
        path = self.path.resolve()  # what a link leads to, not the link
        beside = path.with_name(f".report-{os.getpid()}.tmp")
        try:
            try:
                with beside.open("x", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise self._complaint(error.strerror or str(error)) from None

    def _complaint(self, why: str) -> CommandError:
        return CommandError(f"--report {escape(os.fspath(self.path))}: {escape(why)}")


def _why_not(path: Path, source: Path) -> str | None:
    """What is wrong with `path`, if anything is."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {os.fspath(folder)}"
    if path.is_dir():
        return "is a folder; name a file in it"
    if path.exists():
        if not path.is_file():
            return "is no regular file"
        if path.samefile(source):
            return "is the mail itself, which a report must not overwrite"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"nothing can be written to the folder {os.fspath(folder)}"
    return None
