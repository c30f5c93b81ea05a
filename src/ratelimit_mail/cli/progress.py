"""A progress bar for long loops, shown only on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["with_progress"]

T = TypeVar("T")


def with_progress(
    items: Iterable[T], label: str, console: Console, *, total: int | None = None
) -> Iterable[T]:
    """Return `items`, with a progress bar labelled `label` if `console` is a terminal."""
    if not console.file.isatty():
        return items
    return track(items, label, total=total, console=console, transient=True)
