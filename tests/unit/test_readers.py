"""Times and columns as data writes them."""

from __future__ import annotations

import pytest

from ratelimit_mail.cli.errors import InputError
from ratelimit_mail.cli.readers.columns import Columns
from ratelimit_mail.cli.readers.times import parse_mail_time, parse_time
from ratelimit_mail.cli.replay.messages import Message, Messages
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
def test_a_time_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither Unix seconds nor ISO 8601"):
        parse_time(text)


def test_a_time_in_milliseconds_is_not_taken_for_seconds() -> None:
    with pytest.raises(ValueError, match="it must be in seconds"):
        parse_time("1700000000000")


def test_a_time_before_the_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="before 1970"):
        parse_time("1969-12-31T23:59:59")


def test_an_endless_time_is_not_printed_whole() -> None:
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
    ],
)
def test_dates_of_mail_are_read(text: str, time: int) -> None:
    assert parse_mail_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "Thu, 1 Jan 1960 00:00:00 +0000",
        "Thu, 1 Jan 2024 10:00:00 +99999999",
        "Mon, 99999999999999999999 Jan 99999999999999999999 10:00:00",
    ],
)
def test_a_date_of_mail_that_is_none_is_none(text: str) -> None:
    assert parse_mail_time(text) is None


def columns(header: str) -> Columns:
    return Columns(header.split(","))


def test_columns_are_found_by_name_whatever_their_order_case_and_spaces() -> None:
    read = columns("size, Sender ,RECIPIENTS,Date").message
    expected = Message(60_000, "ann@example.org", ("bob@example.com",), NOBODY)
    assert read(["9", " ann@example.org ", "bob@example.com", " 60 "]) == expected


@pytest.mark.parametrize("name", ["time", "unix_time", "timestamp", "date"])
def test_the_time_column_has_four_names(name: str) -> None:
    read = columns(f"{name},sender,count").message
    assert read(["7", "ann@example.org", "1"]).time == 7_000


@pytest.mark.parametrize(
    ("cell", "recipients"),
    [
        ("a@x.org b@x.org", ("a@x.org", "b@x.org")),
        ("a@x.org;b@x.org; c@x.org ;", ("a@x.org", "b@x.org", "c@x.org")),
        ("a@x.org a@X.org", ("a@x.org",)),
        (" 12 ", 12),
        ("1000000", 1_000_000),
    ],
)
def test_recipients_are_addresses_or_a_number(cell: str, recipients: object) -> None:
    assert columns("time,sender,recipients").message(["0", "s@x.org", cell]).recipients == (
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
def test_counts_serve_where_no_addresses_are_told(
    header: str, cells: list[str], recipients: object
) -> None:
    message = columns(f"time,sender,{header}").message(["0", "s@x.org", *cells])
    assert message.recipients == recipients


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "at least one"),
        ("0", "at least one"),
        (";", "at least one"),
        ("-3", "'-3' is no number of recipients"),
        ("²", "is no number of recipients"),
        ("1000001", "1,000,001 are more than 1,000,000"),
        ("9" * 100_000, "is no number of recipients"),
        ("bob", "has no '@'"),
        ("a@x.org,b@x.org", "not one bare address"),
    ],
)
def test_recipients_that_are_none_are_refused(cell: str, reason: str) -> None:
    with pytest.raises(ValueError, match="recipients") as caught:
        columns("time,sender,recipients").message(["0", "s@x.org", cell])
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("cell", "sender"),
    [
        ("Ann@Example.ORG", "Ann@example.org"),
        ("7ca53ebbf06a", "7ca53ebbf06a@replay.invalid"),
        ("", "<>"),
        ("<>", "<>"),
    ],
)
def test_a_sender_may_be_an_address_a_hash_or_null(cell: str, sender: str) -> None:
    assert columns("time,sender,count").message(["0", cell, "1"]).sender == sender


def test_client_columns_make_a_client() -> None:
    read = columns("time,sender,count,client,user,protocol,tags").message
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
def test_a_client_that_is_none_is_refused(client: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        columns("time,sender,count,address,protocol").message(["0", "s@x.org", "1", *client])


@pytest.mark.parametrize("row", [["0"], ["0", "s@x.org"], ["0", "s@x.org", "1", "2"], []])
def test_a_row_of_another_width_than_the_header_is_refused(row: list[str]) -> None:
    with pytest.raises(ValueError, match=f"{len(row)} columns where the header has 3"):
        columns("time,sender,count").message(row)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("when,sender,count", "time"),
        ("time,from,count", "sender"),
        ("time,sender,n_to", "recipients"),
        ("time;sender;count", "time"),
    ],
)
def test_a_missing_column_is_named_beside_what_is_there(header: str, missing: str) -> None:
    with pytest.raises(InputError, match=f"no column for the {missing} ") as caught:
        columns(header)
    assert all(repr(name) in str(caught.value) for name in header.split(","))


def test_a_column_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'sender' twice"):
        columns("time,sender,Sender,count")


def test_messages_come_out_by_time_and_those_of_one_time_as_they_stood() -> None:
    messages = Messages()
    for number, time in enumerate([5, 3, 5, 3, 9], 1):
        messages.append(Message(time, f"s{number}@x.org", number, NOBODY))
    found = [(time, e.sender, len(e.recipients)) for time, e in messages.in_order()]
    assert found == [
        (3, "s2@x.org", 2),
        (3, "s4@x.org", 4),
        (5, "s1@x.org", 1),
        (5, "s3@x.org", 3),
        (9, "s5@x.org", 5),
    ]
    assert messages.out_of_order == 2
    assert (messages.first, messages.last) == (3, 9)


def test_made_up_recipients_are_distinct_and_at_a_domain_that_cannot_exist() -> None:
    messages = Messages()
    messages.append(Message(0, "s@x.org", 2, NOBODY))
    [(_, envelope)] = messages.in_order()
    assert envelope.recipients == ("recipient-1@replay.invalid", "recipient-2@replay.invalid")
