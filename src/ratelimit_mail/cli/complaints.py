"""Broken rows told on the error stream: the first in full, the rest only counted."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ratelimit_mail.cli.errors import Broken
from ratelimit_mail.cli.escaping import safe

__all__ = ["TOLD_IN_FULL", "Complaints"]

TOLD_IN_FULL = 10


class Complaints:
    """The broken rows of one file."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.count = 0

    def add(self, broken: Broken) -> None:
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
        self._console.print(Text(safe(text)), soft_wrap=True)
