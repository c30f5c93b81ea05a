"""The readers of mail files: times, CSV columns, and records sorted by time."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import accumulate
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimit_mail._util.epoch import milliseconds_of
from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.readers.csv_columns import MessageColumns
from ratelimit_mail.cli.readers.times import parse_mail_time, parse_time
from ratelimit_mail.cli.replay import mail_records
from ratelimit_mail.cli.replay.mail_records import MailRecord, MailRecords
from ratelimit_mail.envelope import NOBODY, Client


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0", 0),
        ("1700000000", 1_700_000_000_000),
        ("1700000000.5", 1_700_000_000_500),
        ("1700000000.1239", 1_700_000_000_123),
        ("1970-01-02", 86_400_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14 22:13:20.25Z", 1_700_000_000_250),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
    ],
)
def test_unix_seconds_and_iso_8601_are_read_to_the_millisecond(text: str, time: int) -> None:
    assert parse_time(text) == time


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1e9", "0x10", "2023-13-01", "١٢", "nan"])
def test_an_invalid_time_raises_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="neither Unix seconds nor ISO 8601"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1700000000123", 1_700_000_000_123),
        ("1700000000123.9", 1_700_000_000_123),
        ("1700000000123456", 1_700_000_000_123),
        ("253402300799", 253_402_300_799_000),
        ("253402300800", 253_402_300_800),
    ],
)
def test_what_would_be_after_the_year_9999_in_seconds_is_milliseconds_or_microseconds(
    text: str, time: int
) -> None:
    assert parse_time(text) == time


def test_a_number_that_is_too_large_for_any_unit_raises_an_error() -> None:
    with pytest.raises(ValueError, match="after the year 9999"):
        parse_time("9" * 20)


def test_a_time_before_the_epoch_raises_an_error() -> None:
    with pytest.raises(ValueError, match="before 1970"):
        parse_time("1969-12-31T23:59:59")


def test_a_very_long_time_is_shortened_in_the_error() -> None:
    with pytest.raises(ValueError, match="characters") as caught:
        parse_time("x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("Tue, 14 Nov 2023 22:13:20 +0000", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 17:13:20 -0500 (EST)", 1_700_000_000_000),
        ("Tue Nov 14 22:13:20 2023", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 22:13:20 -0000", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 22:13:20", 1_700_000_000_000),
        ("Tue,14 Nov 2023 22:13:20+0000", 1_700_000_000_000),
        ("14 Nov 23 22:13:20 UT", 1_700_000_000_000),
        ("14-Nov-2023 22.13.20 GMT", 1_700_000_000_000),
        ("Tuesday, November 14, 2023 10:13:20 PM", 1_700_000_000_000),
        ("Tue Nov 14 17:13:20 EST 2023", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 23:13:20 GMT +0100", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 23:13:20 UTC+01:00", 1_700_000_000_000),
        ("Wed, 15 Nov 2023 03:43:20 +05:30 (IST (India))", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 23:13:20 CET", 1_700_000_000_000),
        ("Tue, 14 Nov 2023 12:13:20 AM +0200", 1_699_913_600_000),
        ("Sat, 31 Dec 2016 23:59:60 +0000", 1_483_228_799_000),
    ],
)
def test_dates_of_mail_headers_are_parsed(text: str, time: int) -> None:
    assert parse_mail_time(text) == time


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_each_date_that_the_standard_library_writes_is_parsed(time: datetime, offset: int) -> None:
    time = time.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    assert parse_mail_time(format_datetime(time)) == milliseconds_of(time)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "Thu, 1 Jan 1960 00:00:00 +0000",
        "Thu, 1 Jan 2024 10:00:00 +99999999",
        "Mon, 99999999999999999999 Jan 99999999999999999999 10:00:00",
        "Tue, 14 Nov 2023 17:13:20 EST5EDT",
        "Tue, 14 Nov 2023 17:13:20 H0500",
        "Tue, 14 Nov 2023 17:13:20 Local",
        "Tue, 14 Nov 2023 17:13:20 +0100 +0200",
        "Tue, 14 Nov 2023 17:13:20 +0090",
        "Tue, 14 Nov 2023 17:13:20 PM",
        "Tue, 14 Nov 2023 17:13:20 (EST",
        "Tue, 14 Nov Dec 2023 17:13:20 +0000",
        "Tue, Nov 2023 17:13:20 +0000",
        "Tue, 14 Nov 2023 17:13:61 +0000",
        "Tue, 31 Nov 2023 17:13:20 +0000",
    ],
)
def test_an_invalid_date_of_a_mail_header_is_none(text: str) -> None:
    assert parse_mail_time(text) is None


def columns_of(header: str) -> MessageColumns:
    return MessageColumns(header.split(","))


def test_columns_are_recognized_in_any_order_case_and_with_spaces() -> None:
    read = columns_of("size, Sender ,RECIPIENTS,Date").record
    expected = MailRecord(60_000, "ann@example.org", ("bob@example.com",), NOBODY, 9)
    assert read(["9", " ann@example.org ", "bob@example.com", " 60 "]) == expected


@pytest.mark.parametrize("name", ["time", "unix_time", "timestamp", "date"])
def test_the_time_column_has_four_names(name: str) -> None:
    read = columns_of(f"{name},sender,count").record
    assert read(["7", "ann@example.org", "1"]).time == 7_000


@pytest.mark.parametrize(
    ("cell", "recipients"),
    [
        ("a@x.org b@x.org", ("a@x.org", "b@x.org")),
        ("a@x.org;b@x.org; c@x.org ;", ("a@x.org", "b@x.org", "c@x.org")),
        ("a@x.org a@X.org", ("a@x.org",)),
        ("a@x.org,b@x.org, c@x.org,", ("a@x.org", "b@x.org", "c@x.org")),
        ('Ann <a@x.org>, "B, C" <b@x.org>; c@x.org', ("a@x.org", "b@x.org", "c@x.org")),
        ("<a@x.org>\n,<b@x.org>", ("a@x.org", "b@x.org")),
        ("['a@x.org', 'b@x.org']", ("a@x.org", "b@x.org")),
        ('["a@x.org"]', ("a@x.org",)),
        ("a@x.org##Receive, Deliver;b@x.org##Receive, Fail", ("a@x.org", "b@x.org")),
        (" 12 ", 12),
        ("1000000", 1_000_000),
    ],
)
def test_recipients_are_addresses_or_a_number(cell: str, recipients: object) -> None:
    assert columns_of("time,sender,recipients").record(["0", "s@x.org", cell]).recipients == (
        recipients
    )


@pytest.mark.parametrize(
    ("header", "cells", "recipients"),
    [
        ("n_recipients", ["5"], 5),
        ("count", ["6"], 6),
        ("n_to,n_cc", ["3", "4"], 7),
        ("n_to,n_cc,recipients", ["3", "4", "a@x.org"], ("a@x.org",)),
        ("n_to,n_cc,count", ["3", "4", "1"], 1),
    ],
)
def test_numbers_are_used_if_there_are_no_addresses(
    header: str, cells: list[str], recipients: object
) -> None:
    record = columns_of(f"time,sender,{header}").record(["0", "s@x.org", *cells])
    assert record.recipients == recipients


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "at least one"),
        ("0", "at least one"),
        (";", "at least one"),
        ("-3", "'-3' is not a number of recipients"),
        ("²", "is not a number of recipients"),
        ("1000001", "1,000,001 is more than 1,000,000"),
        ("9" * 100_000, "is not a number of recipients"),
        ("bob", "has no '@'"),
        ("a@x.org,b", "has no '@'"),
        ("Ann <a@x.org", "angle bracket without its twin"),
    ],
)
def test_invalid_recipients_raise_an_error(cell: str, reason: str) -> None:
    with pytest.raises(ValueError, match="recipients") as caught:
        columns_of("time,sender,recipients").record(["0", "s@x.org", cell])
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("cell", "sender"),
    [
        ("Ann@Example.ORG", "Ann@example.org"),
        ("7ca53ebbf06a", "7ca53ebbf06a@replay.invalid"),
        ("", "<>"),
        ("<>", "<>"),
        ("Ann Example <ann@x.org>", "ann@x.org"),
        ("<ann@x.org>", "ann@x.org"),
    ],
)
def test_a_sender_may_be_an_address_a_hash_or_null(cell: str, sender: str) -> None:
    assert columns_of("time,sender,count").record(["0", cell, "1"]).sender == sender


def test_the_client_columns_describe_the_client() -> None:
    read = columns_of("time,sender,count,client,user,protocol,tags").record
    row = ["0", "s@x.org", "1", "129.100.0.7", "ann", "SMTP", "wireless; reznet"]
    expected = Client(
        address="129.100.0.7", user="ann", protocol="smtp", tags=["wireless", "reznet"]
    )
    assert read(row).client == expected
    assert read(["0", "s@x.org", "1", "", "", "", ""]).client is NOBODY


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (["300.1.1.1", "smtp"], "client address"),
        (["10.0.0.1", "telnet"], "client protocol"),
    ],
)
def test_an_invalid_client_raises_an_error(client: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        columns_of("time,sender,count,address,protocol").record(["0", "s@x.org", "1", *client])


@pytest.mark.parametrize("row", [["0"], ["0", "s@x.org"], ["0", "s@x.org", "1", "2"], []])
def test_a_row_with_another_length_than_the_header_raises_an_error(row: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(row)} columns where the header has 3"):
        columns_of("time,sender,count").record(row)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("when,sender,count", "time"),
        ("time,from,count", "sender"),
        ("time,sender,n_to", "recipients"),
        ("time;sender;count", "time"),
    ],
)
def test_a_missing_column_is_an_error_that_lists_the_header(header: str, missing: str) -> None:
    with pytest.raises(InputError, match=f"no column for the {missing} ") as caught:
        columns_of(header)
    assert all(repr(name) in str(caught.value) for name in header.split(","))


def test_a_first_row_without_a_time_is_not_of_1970() -> None:
    with pytest.raises(ValueError, match="time: '' is neither"):
        columns_of("time,sender,count").record(["", "s@x.org", "1"])


def test_a_repeated_column_is_an_error() -> None:
    with pytest.raises(InputError, match="'sender' twice"):
        columns_of("time,sender,Sender,count")


def test_records_are_sorted_by_time_and_otherwise_keep_their_order() -> None:
    records = MailRecords()
    for number, time in enumerate([5, 3, 5, 3, 9], 1):
        records.append(MailRecord(time, f"s{number}@x.org", number, NOBODY))
    result = [(time, e.sender, len(e.recipients)) for time, e in records.by_time()]
    assert result == [
        (3, "s2@x.org", 2),
        (3, "s4@x.org", 4),
        (5, "s1@x.org", 1),
        (5, "s3@x.org", 3),
        (9, "s5@x.org", 5),
    ]
    assert records.out_of_order == 2
    assert (records.first, records.last) == (3, 9)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
@settings(max_examples=30)
def test_records_of_several_runs_are_sorted_by_time_and_otherwise_keep_their_order(
    times: list[int],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mail_records, "RUN", 8)
        patch.setattr(mail_records, "BLOCK", 3)
        patch.setattr(mail_records, "IN_MEMORY", 100)
        records = MailRecords()
        client = Client(address="192.0.2.1", user="ann", tags=["wireless"])
        for number, time in enumerate(times):
            records.append(MailRecord(time, f"s{number}@x.org", ("a@b.c",), client))
        for _ in range(2):
            result = [(time, e.sender, e.client) for time, e in records.by_time()]
            ordered = sorted(enumerate(times), key=lambda item: item[1])
            assert result == [(time, f"s{number}@x.org", client) for number, time in ordered]
        assert list(records.times()) == sorted(times)
        assert (len(records), records.first, records.last) == (len(times), min(times), max(times))
        newest = accumulate(times, max)
        late = [time < before for time, before in zip(times[1:], newest, strict=False)]
        assert records.out_of_order == sum(late)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_memory_of_records_does_not_grow_with_their_number(
    direction: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_records, "RUN", 100)
    monkeypatch.setattr(mail_records, "BLOCK", 10)
    monkeypatch.setattr(mail_records, "IN_MEMORY", 1000)
    client = Client(user="ann")

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            records = MailRecords()
            for number in range(count):
                recipients = tuple(f"r{number}-{i}@b.c" for i in range(21))
                time = 10**6 + number * direction
                records.append(MailRecord(time, "s@x.org", recipients, client))
            assert sum(1 for _ in records.by_time()) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(1000) < 2 * peak(250)


def test_records_without_space_for_their_file_are_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mail_records, "RUN", 1)
    records = MailRecords()
    monkeypatch.setattr(records._file, "write", Mock(side_effect=OSError(28, "No space left")))
    with pytest.raises(InputError, match=r"cannot be stored in .*: No space left"):
        records.append(MailRecord(0, "s@x.org", 1, NOBODY))


def test_generated_recipients_are_distinct_and_in_a_reserved_domain() -> None:
    records = MailRecords()
    records.append(MailRecord(0, "s@x.org", 2, NOBODY))
    [(_, envelope)] = records.by_time()
    assert envelope.recipients == ("recipient-1@replay.invalid", "recipient-2@replay.invalid")


def test_an_endless_line_of_an_mbox_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "box.mbox"
    start = b"From a@b.c Tue Nov 14 22:13:20 2023\nFrom: a@b.c\nTo: d@e.f\n"
    path.write_bytes(start + b"\n" + b"x" * (20 << 20) + b"\n\n" + start)
    tracemalloc.start()
    try:
        assert len(list(open_mail_files([path]))) == 2
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
