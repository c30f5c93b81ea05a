"""Text from strangers made fit for a terminal."""

from __future__ import annotations

__all__ = ["safe"]


def safe(text: str) -> str:
    """`text` with everything that is not printable escaped, as `repr` does it."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)
