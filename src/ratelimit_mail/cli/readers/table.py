"""Read the messages of CSV files: a row for each message, or rows that are joined by an id."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers.base import Item, Reading, Source, Start
from ratelimit_mail.cli.readers.column_names import with_known_names
from ratelimit_mail.cli.readers.csv_columns import MessageColumns
from ratelimit_mail.cli.readers.csv_table import CsvTable, header_of, read_table
from ratelimit_mail.cli.readers.open_messages import OpenMessage, OpenMessages, RecentIds, item_of
from ratelimit_mail.cli.readers.times import (
    AMBIGUOUS,
    TimeParser,
    date_order_of,
    is_numeric_date,
)

__all__ = ["CsvReader", "Layout", "read_messages"]

FIRST: Final = 100
SAMPLE: Final = 10_000
"""Rows in which dates in numbers are looked for, and what shows the order of day and month."""

_CLOCK: Final = re.compile(r"\s*+[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?[^/-]{0,20}")

TOO_LATE: Final = "belongs to a message of more than 100,000 messages before; sort the file by time"


@attrs.frozen(kw_only=True)
class Layout:
    """What is known of the columns of a format.

    columns: the column of each field, by name. id_columns: the columns whose cells are the same in
    all rows of a message; none if each row is a message. left_out: a column, the cells in it with
    which a row is left out, and the note about them.
    """

    columns: Mapping[str, str] = attrs.field(factory=dict)
    id_columns: tuple[str, ...] = ()
    left_out: tuple[str, frozenset[str], str] | None = None


class CsvReader:
    """A CSV file with a row for each message."""

    name = "csv"
    is_log = False

    def recognizes(self, start: Start) -> bool:
        """Return whether a header names a time, a sender and recipients."""
        try:
            known, _ = with_known_names(header_of(start.lines[:100]), {})
        except InputError:
            return False
        try:
            MessageColumns(known)
        except InputError:
            return False
        return True

    def read(self, sources: Iterable[Source], reading: Reading) -> Iterator[Item]:
        """Yield the messages of CSV files, in the order of the files."""
        for source in sources:
            columns = reading.options.columns
            layout = Layout()
            if "id" in columns:
                layout = Layout(id_columns=(columns["id"],))
            yield from read_messages(source, reading, layout)


def read_messages(source: Source, reading: Reading, layout: Layout) -> Iterator[Item]:
    """Yield the messages of a CSV file whose header names the columns; skip blank lines."""
    chosen = {**layout.columns, **reading.options.columns}
    table = read_table(source.lines(), has_header=not _is_by_number(chosen))
    header, guessed = with_known_names(table.header, chosen)
    if guessed:
        names = ", ".join(f"{field}={name}" for field, name in guessed.items())
        reading.remark(f"columns, guessed by their names: {names}; --columns says others")
    columns = MessageColumns(header, shown=table.header)
    rows = _with_times(table, columns, reading)
    if layout.id_columns:
        yield from _joined(rows, table.header, columns, reading, layout)
        return
    for line, row in rows:
        try:
            if isinstance(row, csv.Error):
                raise row
            yield columns.record(row)
        except (ValueError, csv.Error) as error:
            yield RejectedRow(f"line {line}", _reason(row, error))


def _is_by_number(chosen: Mapping[str, str]) -> bool:
    """Return whether all columns that are needed are named by their number: there is no header."""
    has_all = {"time", "sender"} <= chosen.keys() and ("recipients" in chosen or "count" in chosen)
    return has_all and all(name.isdigit() for name in chosen.values())


def _with_times(
    table: CsvTable, columns: MessageColumns, reading: Reading
) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Tell `columns` how times are written in a table, and return its rows."""
    options = reading.options
    rows = table.rows
    first = list(islice(rows, FIRST))
    order = options.date_order
    whole = [row for _, row in first if isinstance(row, list)]
    if whole:
        columns.join_date_and_clock(whole[0], _CLOCK)
        if order is None and any(is_numeric_date(columns.time_text(row)) for row in whole):
            first += islice(rows, SAMPLE - FIRST)
            texts = [columns.time_text(row) for _, row in first if isinstance(row, list)]
            order = date_order_of(texts)
            if order is None:
                parse = TimeParser(None, options.timezone)
                for text in texts:
                    if _is_ambiguous(parse, text):
                        raise InputError(f"the date {show(text)} {AMBIGUOUS}")
    columns.parse_time = TimeParser(order, options.timezone)
    return chain(first, rows)


def _is_ambiguous(parse: TimeParser, text: str) -> bool:
    try:
        parse(text)
    except ValueError as error:
        return AMBIGUOUS in str(error)
    return False


def _joined(
    rows: Iterator[tuple[int, list[str] | csv.Error]],
    header: list[str],
    columns: MessageColumns,
    reading: Reading,
    layout: Layout,
) -> Iterator[Item]:
    """Yield a message for all rows with the same id and sender."""
    names = [name.strip().lower() for name in header]
    ids = [names.index(name.lower()) for name in layout.id_columns if name.lower() in names]
    if not ids:
        raise InputError(f"no column {show(layout.id_columns[0])} to join rows by")
    messages = OpenMessages(lambda _, message: item_of(message))
    seen = RecentIds()
    for line, row in rows:
        where = f"line {line}"
        try:
            if isinstance(row, csv.Error):
                raise row
            if _is_left_out(row, names, layout, reading):
                continue
            record = columns.record(row)
        except (ValueError, csv.Error) as error:
            yield RejectedRow(where, _reason(row, error))
            continue
        if isinstance(record.recipients, int):
            yield record
            continue
        message_id = next((row[i] for i in ids if row[i].strip()), "")
        if not message_id:
            yield RejectedRow(where, f"has no {show(header[ids[0]])} to join it by")
            continue
        key = f"{record.sender} {message_id}"
        message = messages.get(key)
        if message is None:
            if not seen.is_new(key):
                yield RejectedRow(where, TOO_LATE)
                continue
            message = OpenMessage(where, record.time, record.sender, client=record.client)
            message.size = record.size
            yield from messages.add(key, message)
        message.time = min(message.time, record.time)
        for recipient in record.recipients:
            messages.add_recipient(message, recipient)
    yield from messages.close_all()


def _is_left_out(row: list[str], names: list[str], layout: Layout, reading: Reading) -> bool:
    if layout.left_out is None or layout.left_out[0] not in names or len(row) != len(names):
        return False
    column, cells, note = layout.left_out
    if row[names.index(column)].strip().lower() not in cells:
        return False
    reading.notes[note] += 1
    return True


def _reason(row: list[str] | csv.Error, error: Exception) -> str:
    if isinstance(row, list) and not _is_utf8(row):
        return f"{error}; the row is not UTF-8"
    return str(error)


def _is_utf8(row: list[str]) -> bool:
    return not any("\ud800" <= ch <= "\udfff" for cell in row for ch in cell)
