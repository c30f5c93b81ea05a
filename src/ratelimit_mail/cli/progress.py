"""How far a replay has come, shown only to a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["watched"]

T = TypeVar("T")


def watched(
    items: Iterable[T], what: str, console: Console, *, total: int | None = None
) -> Iterable[T]:
    """`items`, with a bar on `console` if that is a terminal."""
    if not console.file.isatty():
        return items
    return track(items, what, total=total, console=console, transient=True)
