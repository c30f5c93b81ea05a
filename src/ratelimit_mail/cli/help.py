"""Help that fits a terminal of any width: no word is broken, and no sentence is cut."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Final

import click

__all__ = ["CommandGroup"]

WIDEST: Final = 80
UNBROKEN: Final = "\u2011"
"""A hyphen at which lines are not broken; it becomes a hyphen again in the end."""

NARROW: Final = 60
"""Below that, the description of an option stands below it."""


class _Formatter(click.HelpFormatter):
    """A formatter that takes the width of the terminal, also below the 50 columns of click."""

    def __init__(
        self,
        indent_increment: int = 2,
        width: int | None = None,
        max_width: int | None = None,
    ) -> None:
        if width is None:
            columns = shutil.get_terminal_size().columns
            width = max(min(columns, max_width or WIDEST) - 2, 20)
        super().__init__(indent_increment, width, max_width)

    def write_text(self, text: str) -> None:
        """Write text with lines that are not broken within options and names."""
        super().write_text(text.replace("-", UNBROKEN))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write each term and its description."""
        if self.width < NARROW:
            col_max = 2
        whole = [(term, text.replace("-", UNBROKEN)) for term, text in rows]
        super().write_dl(whole, col_max, col_spacing)

    def getvalue(self) -> str:
        """Return what was written."""
        return super().getvalue().replace(UNBROKEN, "-")


class _Context(click.Context):
    formatter_class = _Formatter


class CommandGroup(click.Group):
    """A group whose help has the whole first sentence of each of its commands."""

    context_class = _Context

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with a name, whose help fits the terminal too."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.context_class = _Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command and its first sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(limit=200))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
