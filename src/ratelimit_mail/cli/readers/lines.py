"""The lines of a text file, also a compressed one, each of bounded length."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ratelimit_mail.cli.errors import InputError

__all__ = ["LONGEST_LINE", "read_lines"]

LONGEST_LINE: Final = 4 * 1024 * 1024


def read_lines(path: Path) -> Iterator[str]:
    """The lines of `path`; bytes that are not UTF-8 come as surrogates.

    Raises InputError where the file is damaged, or no text at all.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(f"line {number} is longer than {LONGEST_LINE:,} characters")
                if "\0" in line:
                    raise InputError(f"line {number} has a NUL byte: this is no UTF-8 text")
                yield line
    except EOFError:
        raise InputError(f"the gzip file is cut short, after line {number}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        if number:
            raise InputError(f"the gzip file is damaged after line {number}: {error}") from None
        raise InputError(f"is no gzip file, or a damaged one: {error}") from None
