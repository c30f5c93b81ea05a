"""MailRecords: the messages of a replay, stored in a temporary file and sorted by time.

Rows are written in runs. A run is sorted and has blocks of a few rows, so that the runs of a file
that is out of order are merged with one block of each in memory. The rows up to the first one that
is out of order are one run; of those that follow, some are sorted together.
"""

from __future__ import annotations

import marshal
import tempfile
import weakref
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from heapq import merge
from itertools import chain, islice, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

from ratelimit_mail._util.cache import BoundedCache
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.envelope import NOBODY, Client, Envelope

__all__ = ["PLACEHOLDER_DOMAIN", "MailRecord", "MailRecords"]

PLACEHOLDER_DOMAIN: Final = "replay.invalid"
"""The domain of addresses that the data does not contain (RFC 2606: it never exists)."""

RUN: Final = 65_536
BLOCK: Final = 2_048
"""Rows that are sorted together, and rows in a block."""

IN_MEMORY: Final = 32 * 1024 * 1024
"""Bytes of rows that are stored before a file is made for them."""

MOST_ENVELOPES: Final = 16_384
MOST_REPEATED: Final = 20
"""How many envelopes are remembered, and the most recipients of one that is."""

_Row = tuple[int, str, "tuple[str, ...] | int", "tuple[Any, ...] | None", "int | None"]
"""The time, the sender, the recipients, and the fields of the client and the size, if known."""


_EnvelopeFields = tuple[str, "tuple[str, ...] | int", "tuple[Any, ...] | None", "int | None"]
"""The same without the time."""


class MailRecord(NamedTuple):
    """One message as read.

    time: in milliseconds since the epoch. recipients: addresses, or only their number.
    size: in bytes; None if it is not known.
    """

    time: int
    sender: str
    recipients: tuple[str, ...] | int
    client: Client
    size: int | None = None


class MailRecords:
    """Messages in the order of time. The memory that they take does not grow with their number."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # not later, as a file that is open is a warning
        self._end = 0
        self._columns: tuple[list[Any], ...] = _new_columns()
        """The rows that are not stored yet. In columns, as tuples of rows would make the garbage
        collector look for them."""
        self._most = min(BLOCK, RUN)
        """How many of them there may be."""
        self._runs: list[list[tuple[int, int]]] = [[]]
        """Where each block of each run begins, and its size."""
        self._stored = 0
        self._generated: list[str] = []
        self._envelopes = BoundedCache(self._new_envelope, MOST_ENVELOPES, _has_few_recipients)
        self._first = self._last = 0
        self._out_of_order = 0
        self._without_size = 0
        self.has_sizes = False
        """Whether envelopes get the sizes; without them, more envelopes are alike."""

    def append(self, record: MailRecord) -> None:
        """Add a message. Raises InputError if there is no space for the temporary file."""
        times, senders, recipients, clients, sizes = self._columns
        time, sender, of_message, client, size = record
        times.append(time)
        senders.append(sender)
        recipients.append(of_message)
        clients.append(client)
        sizes.append(size)
        if len(times) >= self._most:
            self._store()

    def __len__(self) -> int:
        return self._stored + len(self._columns[0])

    @property
    def first(self) -> int:
        """The earliest time, in milliseconds since the epoch."""
        self._store()
        return self._first

    @property
    def last(self) -> int:
        """The latest time, in milliseconds since the epoch."""
        self._store()
        return self._last

    @property
    def out_of_order(self) -> int:
        """How many messages came after a message with a later time."""
        self._store()
        return self._out_of_order

    @property
    def without_size(self) -> int:
        """How many messages have no known size."""
        self._store()
        return self._without_size

    def times(self) -> Collection[int]:
        """Return the times of all messages, sorted."""
        return _Times(self)

    def by_time(self) -> Iterator[tuple[int, Envelope]]:
        """Yield the time and the envelope of each message, sorted by time.

        Messages with the same time keep the order in which they were added.
        """
        envelope_of = self._envelopes.__getitem__
        for times, senders, recipients, clients, sizes in self._blocks():
            of_envelopes = sizes if self.has_sizes else repeat(None)
            yield from zip(
                times,
                map(envelope_of, zip(senders, recipients, clients, of_envelopes, strict=False)),
                strict=True,
            )

    def rows(self) -> Iterator[_Row]:
        """Yield the messages as they are stored, sorted by time."""
        return _rows_of(self._blocks())

    def _blocks(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the columns of the messages, some rows at a time, sorted by time."""
        self._store()
        if not self._out_of_order:
            yield from chain.from_iterable(map(self._read_run, self._runs))
            return
        runs = [_rows_of(self._read_run(blocks)) for blocks in self._runs]
        rows = merge(*runs, key=itemgetter(0))
        while block := list(islice(rows, BLOCK)):
            yield tuple(zip(*block, strict=True))

    def _store(self) -> None:
        columns, self._columns = self._columns, _new_columns()
        times = columns[0]
        if not times:
            return
        self._note_order(times)
        self._stored += len(times)
        if self._out_of_order:
            self._most = RUN
            self._runs.append([])
            order = sorted(range(len(times)), key=times.__getitem__)
            columns = tuple([column[i] for i in order] for column in columns)
        try:
            self._file.seek(self._end)
            for start in range(0, len(times), BLOCK):
                self._write([column[start : start + BLOCK] for column in columns])
            self._file.flush()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"its messages cannot be stored in {tempfile.gettempdir()}: {reason}"
            ) from None

    def _write(self, columns: Sequence[list[Any]]) -> None:
        """Write a block of the last run."""
        times, senders, recipients, clients, sizes = columns
        self._without_size += sizes.count(None)
        values = senders, recipients, list(map(_fields, clients)), sizes
        block = marshal.dumps((array("q", times).tobytes(), *values))
        self._file.write(block)
        self._runs[-1].append((self._end, len(block)))
        self._end += len(block)

    def _note_order(self, times: Sequence[int]) -> None:
        """Note the earliest and the latest time, and which times come after a later one."""
        if not self._stored:
            self._first = self._last = times[0]
        if times[0] < self._last or sorted(times) != times:
            for time in times:
                if time >= self._last:
                    self._last = time
                else:
                    self._out_of_order += 1
        self._first = min(self._first, *times)
        self._last = max(self._last, times[-1])

    def _read_run(self, blocks: list[tuple[int, int]]) -> Iterator[Sequence[Sequence[Any]]]:
        for start, size in blocks:
            self._file.seek(start)
            # The file has no name, so that nothing else writes to it.
            times, *columns = marshal.loads(self._file.read(size))  # noqa: S302
            yield array("q", times), *columns

    def _new_envelope(self, row: _EnvelopeFields) -> Envelope:
        sender, recipients, fields, size = row
        if isinstance(recipients, int):
            recipients = self._generate(recipients)
        client = NOBODY if fields is None else _client(fields)
        return Envelope(sender, recipients, client, size=size)

    def _generate(self, count: int) -> tuple[str, ...]:
        """Return `count` generated addresses, the same for every message."""
        for number in range(len(self._generated) + 1, count + 1):
            self._generated.append(f"recipient-{number}@{PLACEHOLDER_DOMAIN}")
        return tuple(self._generated[:count])


class _Times(Collection[int]):
    """The times of messages, sorted, which are read again each time."""

    def __init__(self, records: MailRecords) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[int]:
        return map(itemgetter(0), self._records.rows())

    def __contains__(self, time: object) -> bool:
        return any(time == each for each in self)


def _has_few_recipients(row: _EnvelopeFields) -> bool:
    _, recipients, _, _ = row
    number = recipients if isinstance(recipients, int) else len(recipients)
    return number <= MOST_REPEATED


def _new_columns() -> tuple[list[Any], ...]:
    return [], [], [], [], []


def _rows_of(blocks: Iterable[Sequence[Sequence[Any]]]) -> Iterator[Any]:
    for block in blocks:
        yield from zip(*block, strict=True)


def _fields(client: Client) -> tuple[Any, ...] | None:
    if client is NOBODY:
        return None
    return client.address, client.user, client.protocol, client.tags


@lru_cache(MOST_ENVELOPES)
def _client(fields: tuple[Any, ...]) -> Client:
    address, user, protocol, tags = fields
    return Client(address=address, user=user, protocol=protocol, tags=tags)
