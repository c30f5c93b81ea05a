"""Lay out tables as readable TOML: a heading for each table, and conditions in one line.

tomli-w alone would choose between the two by length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

import tomli_w

from ratelimit_mail._util.text import show
from ratelimit_mail.policy.files.errors import Misplaced, join

__all__ = ["document"]

WITHOUT_HEADING: Final = ("when", "limits")
"""Keys of tables that are written inline: conditions, and an override's numbers."""

WIDTH: Final = 88


def document(table: Mapping[str, Any]) -> str:
    """Return the text of `table`. Raises Misplaced for what UTF-8 cannot hold."""
    return "\n".join([*_lines(table, "", ""), ""]).lstrip("\n")


def _lines(table: Mapping[str, Any], heading: str, place: str) -> Iterator[str]:
    """Yield the lines of a table: first its own keys, because a heading ends them."""
    below: list[tuple[str, str, str, Mapping[str, Any]]] = []
    for key, value in table.items():
        written, here = _key(key, place), join(place, key)
        name = join(heading, written)
        if isinstance(value, Mapping) and key not in WITHOUT_HEADING:
            below.append((f"[{name}]", name, here, value))
        elif _is_list_of_tables(value):
            below += ((f"[[{name}]]", name, f"{here}[{i}]", each) for i, each in enumerate(value))
        else:
            yield f"{written} = {_value(value, here, len(written) + 3)}"
    for line, name, here, value in below:
        yield from ("", line, *_lines(value, name, here))


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _value(value: Any, place: str, before: int = 0) -> str:
    """Return `value` as TOML; a list too long for one line has a line for each element."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(key, place)} = {_value(each, place)}" for key, each in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        elements = [_value(each, place) for each in value]
        line = f"[{', '.join(elements)}]"
        if before + len(line) <= WIDTH and "\n" not in line:
            return line
        lines = ",\n".join(elements).replace("\n", "\n    ")
        return f"[\n    {lines},\n]"
    if isinstance(value, date):
        return value.isoformat()
    return tomli_w.dumps({"v": _without_surrogates(value, place)})[4:-1]


def _key(key: str, place: str) -> str:
    return tomli_w.dumps({_without_surrogates(key, place): 0})[:-5]


def _without_surrogates(value: Any, place: str) -> Any:
    if isinstance(value, str) and any("\ud800" <= ch <= "\udfff" for ch in value):
        raise Misplaced(place, f"{show(value)} has half a character, which UTF-8 cannot hold")
    return value
