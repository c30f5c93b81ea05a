"""What can be wrong with an input: all of it, or one row of it."""

from __future__ import annotations

from typing import NamedTuple

import click
from rich.console import Console
from rich.text import Text

from ratelimit_mail._util.text import escape

__all__ = [
    "INTERRUPTED",
    "TOLD_IN_FULL",
    "CommandError",
    "InputError",
    "RejectedRow",
    "RejectedRows",
]


class InputError(Exception):
    """The file as a whole cannot be replayed; the text says why, in one line."""


class RejectedRow(NamedTuple):
    """A row or message that was left out: where it stands, and why."""

    where: str
    reason: str


INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells know it."""


class CommandError(click.ClickException):
    """One line on the error stream and exit code 2."""

    exit_code = 2


TOLD_IN_FULL = 10


class RejectedRows:
    """The broken rows of one file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.count = 0

    def add(self, broken: RejectedRow) -> None:
        """Count a broken row, and say what is wrong with it if it is among the first."""
        self.count += 1
        if self.count <= TOLD_IN_FULL:
            self._tell(f"left out, {broken.where}: {broken.reason}")

    def close(self) -> None:
        """Say how many more there were."""
        if self.count > TOLD_IN_FULL:
            self._tell(f"left out, {self.count - TOLD_IN_FULL:,} more broken rows")

    def _tell(self, text: str) -> None:
        # One complaint, one line, however wide the terminal; Text keeps brackets as they are.
        self._console.print(Text(escape(text)), soft_wrap=True)
