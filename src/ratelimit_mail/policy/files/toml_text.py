"""The text of a policy file: read from the disk, and as TOML."""

from __future__ import annotations

import tomllib
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.policy.files.errors import Misplaced

__all__ = ["checked", "table_of", "text_of"]

LARGEST: Final = 16 << 20
"""In bytes. Larger directories belong in a CSV file beside the policy file."""


def text_of(path: str | PathLike[str]) -> str:
    """The text in a file. Raises Misplaced where there is none, or too much."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Misplaced("", f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a null byte in its name
        raise Misplaced("", f"cannot be read: {error}") from None
    _bounded(len(data))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Misplaced("", f"line {line}: not UTF-8") from None


def table_of(text: str) -> dict[str, Any]:
    """`text` read as TOML. Raises Misplaced that says in which line it is none."""
    if not isinstance(text, str):
        raise TypeError(f"the text of a policy file is needed, not {show(text)}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise Misplaced("", "nested too deep to be read") from None
    except ValueError as error:
        raise Misplaced("", f"no TOML: {str(error)[:300]}") from None


def checked(text: str) -> str:
    """`text`, if it may be written. Raises Misplaced where it could not be read again."""
    _bounded(len(text.encode()))
    return text


def _bounded(size: int) -> None:
    if size > LARGEST:
        raise Misplaced(
            "", f"larger than {LARGEST:,} bytes; keep a large directory in a CSV file beside it"
        )
