"""What can be wrong with an input: all of it, or one row of it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Broken", "InputError"]


class InputError(Exception):
    """The file as a whole cannot be replayed; the text says why, in one line."""


class Broken(NamedTuple):
    """A row or message that was left out: where it stands, and why."""

    where: str
    reason: str
