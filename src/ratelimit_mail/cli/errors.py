"""Errors of the command: a message and exit code, an unusable input file, and rejected rows."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape
from ratelimit_mail.exceptions import (
    BackendError,
    BackendUnavailable,
    OutboxError,
    RateLimitExceeded,
)

__all__ = [
    "INTERRUPTED",
    "MOST_REPORTED",
    "CommandError",
    "InputError",
    "RejectedRow",
    "RejectedRowReporter",
    "reported_errors",
]

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as in shells."""

MOST_REPORTED: Final = 10
"""How many rejected rows are reported one by one."""


MOST_REASONS: Final = 1000
"""How many different reasons are counted; what is in quotes does not make a difference."""

_VALUE: Final = re.compile(r"'[^']*+'|\"[^\"]*+\"|[0-9][0-9,]*+")


class CommandError(click.ClickException):
    """End the command with one line on stderr and exit code 2."""

    exit_code = 2


class InputError(Exception):
    """The input file cannot be read as a whole; the text is the reason, in one line."""


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn an error of a file, an option, an outbox or the store into one line on stderr."""
    try:
        yield
    except OSError as error:
        name = "" if error.filename is None else f"{os.fspath(error.filename)}: "
        raise CommandError(escape(f"{name}{error.strerror or error}")) from None
    except (ValueError, TypeError, ModuleNotFoundError, OutboxError, RateLimitExceeded) as error:
        raise CommandError(escape(str(error))) from None
    except BackendError as error:
        text = f"--store: {error}"
        if isinstance(error, BackendUnavailable):
            text += "; check that it runs, and that the URL names it"
        raise CommandError(escape(text)) from None


class RejectedRow(NamedTuple):
    """A row or message that cannot be read: its place in the file, and the reason."""

    where: str
    reason: str


class RejectedRowReporter:
    """Count the rejected rows of some files, and report the first of them on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._reasons = Counter[str]()
        self.count = 0

    def add(self, row: RejectedRow) -> None:
        """Count a rejected row, and report it if it is among the first."""
        self.count += 1
        reason = _VALUE.sub("...", row.reason[:300])
        if reason in self._reasons or len(self._reasons) < MOST_REASONS:
            self._reasons[reason] += 1
        if self.count <= MOST_REPORTED:
            self._print(f"skipped {row.where}: {row.reason}")

    def close(self, read: int = 0) -> None:
        """Report how many more rows were rejected, and why if it is over 1 % of all.

        read: how many rows were not rejected.
        """
        if self.count <= MOST_REPORTED:
            return
        self._print(f"skipped {self.count - MOST_REPORTED:,} more rows")
        total = self.count + read
        if self.count * 100 <= total:
            return
        share = 100 * self.count / total
        self._print(f"warning: {self.count:,} of {total:,} rows ({share:.1f} %) cannot be read:")
        for reason, number in self.most_common():
            self._print(f"warning: {number:,} of them: {reason}")

    def most_common(self) -> list[tuple[str, int]]:
        """Return the three most common reasons, and how many rows have each."""
        return self._reasons.most_common(3)

    def _print(self, text: str) -> None:
        # One row, one line, however wide the terminal; Text keeps brackets as they are.
        self._console.print(Text(escape(text)), soft_wrap=True)
