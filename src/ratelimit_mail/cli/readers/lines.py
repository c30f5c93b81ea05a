"""Read the lines of text in UTF-8 or UTF-16; each line has a bounded length."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any, Final

from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.byte_stream import ByteStream, DamagedError

__all__ = ["LONGEST_LINE", "encoding_of", "read_lines"]

LONGEST_LINE: Final = 4 * 1024 * 1024


def read_lines(stream: ByteStream) -> Iterator[str]:
    """Yield the lines of `stream`; bytes that are not UTF-8 become surrogates.

    Raises InputError if the stream is damaged, or is not text.
    """
    number = 0
    try:
        encoding, errors = encoding_of(stream.peek(512))
        buffer: Any = stream
        file = io.TextIOWrapper(buffer, encoding=encoding, errors=errors, newline="")
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise InputError(f"line {number} is longer than {LONGEST_LINE:,} characters")
            if "\0" in line:
                raise InputError(f"line {number} has a NUL byte: the file is not text")
            yield line
    except DamagedError as error:
        raise error.after(f"line {number}" if number else None) from None


def encoding_of(start: bytes) -> tuple[str, str]:
    """Return the encoding of text that begins with `start`, and how to read what is not in it."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "replace"
    # Letters of English in UTF-16 have a zero in nearly every second byte.
    for first, encoding in enumerate(("utf-16-be", "utf-16-le")):
        zeros, others = start[first::2], start[1 - first :: 2]
        if len(start) >= 4 and zeros.count(0) * 10 > len(zeros) * 9 and 0 not in others:
            return encoding, "replace"
    return "utf-8-sig", "surrogateescape"
