"""How the command ends where something is wrong: one line, and an exit code."""

from __future__ import annotations

import click

__all__ = ["INTERRUPTED", "Complaint"]

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells know it."""


class Complaint(click.ClickException):
    """One line on the error stream and exit code 2."""

    exit_code = 2
