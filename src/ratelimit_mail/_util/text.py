"""How errors print a value: whatever it is, in one line and never long."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["short_repr", "show"]


def show(value: object) -> str:
    """`value` as an error may print it: one line, escaped and never long, whatever its repr."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    line = "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text[:81])
    return line if len(line) <= 80 else f"{line[:60]}... ({len(text)} characters)"


def short_repr(value: Any) -> str:
    """A repr of an attrs value that leaves out what is as it would be by default."""
    told = []
    for field in attrs.fields(type(value)):
        held = getattr(value, field.name)
        if not field.repr or field.default == held:
            continue
        shown = repr(held) if field.repr is True else field.repr(held)
        told.append(f"{field.name}={shown}")
    return f"{type(value).__name__}({', '.join(told)})"
