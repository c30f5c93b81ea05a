"""Read the lines of a text file, which may be compressed; each line has a bounded length."""

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
    """Yield the lines of `path`; bytes that are not UTF-8 become surrogates.

    Raises InputError if the file is damaged, or is not text.
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
                    raise InputError(f"line {number} has a NUL byte: the file is not UTF-8 text")
                yield line
    except EOFError:
        raise InputError(f"the gzip file is truncated after line {number}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        if number:
            raise InputError(f"the gzip file is damaged after line {number}: {error}") from None
        raise InputError(f"is not a gzip file, or is damaged: {error}") from None
