"""Read the text of a policy file from the disk, and parse it as TOML."""

from __future__ import annotations

import re
import tomllib
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.policy.files.errors import Misplaced

__all__ = ["check_size", "table_of", "text_of"]

LARGEST: Final = 16 << 20
"""In bytes. Larger directories belong in a CSV file beside the policy file."""

MOST_DOTS: Final = 32
"""In one key. The TOML parser takes quadratic time for a key of very many dotted names."""

_TOKEN: Final = re.compile(
    r'''
      """(?:[^"\\]|\\.|"{1,2}+(?!"))*+"{3,5}+
    | \'{3}(?:[^\']|\'{1,2}+(?!\'))*+\'{3,5}+
    | "(?!"")(?:[^"\\\n]|\\[^\n])*+"
    | \'(?!\'\')[^\'\n]*+\'
    | \#[^\n]*+
    | (?P<mark>[.=,\[\]{}\n"\'])
    ''',
    re.DOTALL | re.VERBOSE,
)
"""Strings and comments, and the characters outside of them that may stand beside a key."""


def text_of(path: str | PathLike[str]) -> str:
    """Return the text of a file. Raises Misplaced if it cannot be read, or is too large."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Misplaced("", f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null byte in its name
        raise Misplaced("", f"cannot be read: {error}") from None
    _check_bytes(len(data))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Misplaced("", f"line {line}: not UTF-8") from None


def table_of(text: str) -> dict[str, Any]:
    """Return `text` parsed as TOML. Raises Misplaced that names the line if it is not TOML."""
    if not isinstance(text, str):
        raise TypeError(f"the text of a policy file is needed, not {show(text)}")
    _check_keys(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise Misplaced("", "nested too deep to be read") from None
    except ValueError as error:
        raise Misplaced("", f"not TOML: {str(error)[:300]}") from None


def _check_keys(text: str) -> None:
    """Raise Misplaced if a key has very many dots."""
    if text.count(".") <= MOST_DOTS:
        return
    dots = 0
    for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
        mark = token["mark"]
        if mark == ".":
            dots += 1
            if dots > MOST_DOTS:
                line = token.string.count("\n", 0, token.start()) + 1
                raise Misplaced("", f"line {line}: a key has more than {MOST_DOTS} dots")
        elif mark is not None:
            if mark in "\"'":  # a string without an end: the parser stops here too
                return
            dots = 0


def check_size(text: str) -> str:
    """Return `text`. Raises Misplaced if it is too large to be read again."""
    _check_bytes(len(text.encode()))
    return text


def _check_bytes(size: int) -> None:
    if size > LARGEST:
        raise Misplaced(
            "", f"larger than {LARGEST:,} bytes; keep a large directory in a CSV file beside it"
        )
