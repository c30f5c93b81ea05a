"""How errors, reprs and terminals print a value: escaped, in one line and never long."""

from __future__ import annotations

from typing import Any, Final

import attrs

__all__ = ["duration", "escape", "has_control", "short_repr", "show"]


_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit and the next one, such as `1 d 3 h`."""
    if seconds <= 0:
        return "now"
    rest = max(1, round(seconds))
    words: list[str] = []
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            words.append(f"{number} {unit}")
        if words and (not number or len(words) == 2):
            break
    return " ".join(words)


def escape(text: str) -> str:
    """Return `text` with each character that is not printable escaped, as `repr` does it."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in text)


def has_control(text: str) -> bool:
    """Return whether `text` has a control character, a line separator or half a surrogate pair."""
    if text.isprintable():
        return False
    from unicodedata import category  # few texts need it

    return any(category(each) in ("Cc", "Zl", "Zp", "Cs") for each in text)


def show(value: object) -> str:
    """Return the repr of `value` for an error: one line, escaped and never long."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    line = escape(text[:81])
    return line if len(line) <= 80 else f"{line[:60]}... ({len(text)} characters)"


def short_repr(self: Any) -> str:
    """Return a repr of an attrs value that leaves out the fields with their default value."""
    arguments = []
    for field in attrs.fields(type(self)):
        argument = getattr(self, field.name)
        if not field.repr or field.default == argument:
            continue
        text = repr(argument) if field.repr is True else field.repr(argument)
        arguments.append(f"{field.name}={text}")
    return f"{type(self).__name__}({', '.join(arguments)})"
