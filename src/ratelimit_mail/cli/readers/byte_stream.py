"""ByteStream: the bytes of a file or of standard input, unpacked, some of them read ahead.

A file that is compressed is recognized by its first bytes, whatever its name. Unpacking needs a
bounded memory, however large the contents are.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from ratelimit_mail.cli.errors import InputError

__all__ = ["ByteStream", "DamagedError", "open_stream"]

CHUNK: Final = 64 * 1024
ZSTD_CHUNK: Final = 2 * 1024
"""Four bytes of zstd may be 128 KiB of contents."""

BEFORE: Final = 4
"""Bytes before what `find` finds that are not dropped."""

LARGEST_DICTIONARY: Final = 256 * 1024 * 1024
"""Bytes of memory that unpacking may need; no common setting of xz or zstd needs more."""

MAGIC: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}

STANDARD_INPUT: Final = Path("-")


class DamagedError(Exception):
    """A compressed file is damaged or truncated.

    kind: how it is compressed. reason: what is wrong; None if it is truncated.
    """

    def __init__(self, kind: str, reason: str | None) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def after(self, place: str | None) -> InputError:
        """Return the error for the input; `place` is the last thing read, such as `line 3`."""
        if self.reason is None:
            return InputError(f"the {self.kind} file is truncated after {place or 'its start'}")
        if place is None:
            return InputError(f"is not a {self.kind} file, or is damaged: {self.reason}")
        return InputError(f"the {self.kind} file is damaged after {place}: {self.reason}")


class ByteStream(io.BufferedIOBase):
    """Bytes that can be read once, and looked at before they are read.

    read: returns the next bytes, at most as many as its argument, and none at the end.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = read
        self._buffer = bytearray()
        self._start = 0
        self._dropped = 0
        """How many bytes were before the buffer."""

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._dropped + self._start

    def readable(self) -> bool:
        """Return True."""
        return True

    @property
    def buffered(self) -> bytes:
        """The bytes that are read ahead."""
        return bytes(self._buffer[self._start :])

    def peek(self, size: int, offset: int = 0) -> bytes:
        """Return up to `size` of the bytes that come after the next `offset`."""
        self._fill(offset + size)
        start = self._start + offset
        return bytes(self._buffer[start : start + size])

    def find(self, needle: bytes) -> int:
        """Return how many bytes are before the next `needle`, or -1 if there is not one.

        Bytes before it are dropped, but for some: the result counts from what is left.
        """
        while True:
            index = self._buffer.find(needle, self._start)
            if index >= 0:
                return index - self._start
            self._drop(max(0, len(self._buffer) - self._start - len(needle) - BEFORE))
            if not self._more():
                return -1

    def skip(self, size: int) -> None:
        """Drop up to `size` bytes."""
        while size > 0:
            available = len(self._buffer) - self._start
            step = min(size, available)
            self._drop(step)
            size -= step
            if size and not self._more():
                return

    def read1(self, size: int = -1, /) -> bytes:
        """Return some bytes, at most `size`, with at most one read."""
        if self._start == len(self._buffer):
            return self._source(CHUNK if size < 0 else size)
        data = self.peek(min(len(self._buffer) - self._start, CHUNK if size < 0 else size))
        self._drop(len(data))
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        pieces = []
        left = sys.maxsize if size is None or size < 0 else size
        while left and (data := self.read1(min(left, CHUNK))):
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line, at most `size` bytes of it."""
        most = sys.maxsize if size is None or size < 0 else size
        searched = 0
        while True:
            end = self._buffer.find(b"\n", self._start + searched)
            available = len(self._buffer) - self._start
            if end >= 0 or available >= most or not self._more():
                length = available if end < 0 else end + 1 - self._start
                line = bytes(self._buffer[self._start : self._start + min(length, most)])
                self._drop(len(line))
                return line
            searched = available

    def _fill(self, size: int) -> None:
        while len(self._buffer) - self._start < size and self._more():
            pass

    def _more(self) -> bool:
        data = self._source(CHUNK)
        self._buffer += data
        return bool(data)

    def _drop(self, size: int) -> None:
        self._start += size
        if self._start > CHUNK and self._start * 2 > len(self._buffer):
            del self._buffer[: self._start]
            self._dropped += self._start
            self._start = 0


@contextlib.contextmanager
def open_stream(path: Path) -> Iterator[ByteStream]:
    """Open a file, or standard input for `-`, and unpack it.

    Raises OSError if it cannot be read. Reading raises DamagedError, and InputError if what it is
    compressed with is not installed.
    """
    if path == STANDARD_INPUT:
        yield unpacked(sys.stdin.buffer.read)
    else:
        with path.open("rb", buffering=0) as file:
            yield unpacked(file.read)


def unpacked(read: Callable[[int], bytes]) -> ByteStream:
    """Return the contents of what `read` returns, which may be compressed."""
    packed = ByteStream(read)
    start = packed.peek(max(map(len, MAGIC)))
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            if kind == "gzip":
                return ByteStream(_gzip(packed))
            return ByteStream(_Unpacker(kind, packed).read)
    return packed


def _gzip(packed: ByteStream) -> Callable[[int], bytes]:
    file = gzip.GzipFile(fileobj=packed, mode="rb")

    def read(size: int) -> bytes:
        try:
            return file.read1(size)
        except EOFError:
            raise DamagedError("gzip", None) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamagedError("gzip", str(error)) from None

    return read


class _Engine(Protocol):
    """A decompressor of one stream, as bz2, lzma and compression.zstd have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Unpacker:
    """Unpack streams that stand one after another."""

    def __init__(self, kind: str, packed: ByteStream) -> None:
        self._kind = kind
        self._packed = packed
        self._chunk = ZSTD_CHUNK if kind == "zstd" else CHUNK
        self._engine = _engine(kind)

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size` but for zstd; none at the end."""
        while True:
            data = b""
            if self._engine.eof:
                data = self._engine.unused_data.lstrip(b"\0") or self._packed.read1(self._chunk)
                if not data.strip(b"\0"):  # xz files may end in zeros
                    if not data:
                        return b""
                    continue
                self._engine = _engine(self._kind)
            elif self._engine.needs_input and not (data := self._packed.read1(self._chunk)):
                raise DamagedError(self._kind, None)
            try:
                unpacked_data = self._engine.decompress(data, size)
            except Exception as error:  # each library has errors of its own
                raise DamagedError(self._kind, str(error) or type(error).__name__) from None
            if unpacked_data:
                return unpacked_data


def _engine(kind: str) -> _Engine:
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(memlimit=LARGEST_DICTIONARY)
    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter, ZstdDecompressor

        # The largest window, as a power of two.
        return ZstdDecompressor(options={DecompressionParameter.window_log_max: 28})
    try:
        import zstandard
    except ModuleNotFoundError:
        raise InputError(
            "is compressed with zstd, which needs a library before Python 3.14:"
            " python -m pip install 'ratelimit-mail[zstd]'"
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_DICTIONARY)
    return _OldZstd(decompressor.decompressobj())


class _OldZstd:
    """A decompressor of the library `zstandard` with the interface of the others."""

    needs_input = True

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @property
    def eof(self) -> bool:
        return bool(self._engine.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._engine.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:  # noqa: ARG002
        return bytes(self._engine.decompress(data))
