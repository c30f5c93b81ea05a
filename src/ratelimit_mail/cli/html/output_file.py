"""OutputFile: the file for a report, checked before the replay and replaced atomically."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.errors import CommandError

__all__ = ["OutputFile"]


class OutputFile:
    """A file to write; raises CommandError if it cannot be written.

    sources: the input files, which must not be overwritten.
    """

    def __init__(self, path: Path, *sources: Path) -> None:
        self.path = path
        try:
            problem = _problem(path, sources)
        except OSError as error:  # for example, the name is too long
            problem = error.strerror or str(error)
        if problem is not None:
            raise self._error(problem)

    def write(self, text: str) -> None:
        """Replace the file by `text`: completely, or not at all."""
        path = self.path.resolve()  # the target of a symbolic link
        temporary = path.with_name(f".report-{os.getpid()}.tmp")
        try:
            try:
                with temporary.open("x", encoding="utf-8", newline="\n") as file:
                    file.write(text)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._error(error.strerror or str(error)) from None

    def _error(self, problem: str) -> CommandError:
        return CommandError(f"--report {escape(os.fspath(self.path))}: {escape(problem)}")


def _problem(path: Path, sources: Sequence[Path]) -> str | None:
    """Return why `path` cannot be written, or None."""
    directory = path.parent
    if not directory.is_dir():
        return f"the directory {os.fspath(directory)} does not exist"
    if path.is_dir():
        return "is a directory; name a file in it"
    if path.exists():
        if not path.is_file():
            return "is not a regular file"
        if any(source.exists() and path.samefile(source) for source in sources):
            return "is the input file, which the report must not overwrite"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"cannot write to the directory {os.fspath(directory)}"
    return None
