"""`replay`: counts worked out by hand, from each kind of file."""

from __future__ import annotations

import gzip
import mailbox
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import replay_json, run_replay, write_lines

LEEDS = "leeds-office365"
T0 = 1_700_000_000
SENDER_KEYS = ("sender", "messages", "accepted", "deferred", "rejected")


def replay(file: Path, policy: str = LEEDS) -> dict[str, Any]:
    return replay_json(file, policy)


def decisions(file: Path, policy: str = LEEDS) -> tuple[int, ...]:
    """Return how many messages are accepted, deferred and rejected."""
    messages = replay(file, policy)["messages"]
    return tuple(messages[name]["messages"] for name in ("accepted", "deferred", "rejected"))


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Write messages of four senders; a comment states each expected decision."""
    rows: list[tuple[float, str, int]] = []
    rows += [(T0 + i, "ann@leeds.example", 1) for i in range(30)]  # accepted
    rows += [(T0 + 30, "ann@leeds.example", 1)]  # the 31st in a minute: deferred
    rows += [(T0 + 59.999, "ann@leeds.example", 1)]  # a millisecond too early: deferred
    rows += [(T0 + 60, "ann@leeds.example", 1)]  # the first has left: accepted
    rows += [(T0 + 100, "bob@leeds.example", 101)]  # above 100: rejected
    rows += [(T0 + 101, "bob@leeds.example", 100)]  # accepted
    rows += [(T0 + 200 + 3 * i, "cat@leeds.example", 100) for i in range(100)]  # accepted
    rows += [(T0 + 1000, "cat@leeds.example", 1)]  # the 10,001st recipient: deferred
    rows += [(T0 + 2000, "dan@leeds.example", 7)]  # accepted
    rows += [(T0 + 86_600, "cat@leeds.example", 100)]  # a day after the first: accepted
    lines = [f"{time},{sender},{count}" for time, sender, count in rows]
    return write_lines(tmp_path / "by-hand.csv", "time,sender,recipients", *lines)


def test_every_count_equals_the_one_worked_out_by_hand(by_hand: Path) -> None:
    assert replay(by_hand) == {
        "file": str(by_hand),
        "format": "csv",
        "policy": LEEDS,
        "span": {"first": T0, "last": T0 + 86_600, "seconds": 86_600},
        "rows": {"messages": 138, "broken": 0, "out_of_order": 0, "sorted": False},
        "messages": {
            "total": 138,
            "accepted": {"messages": 134, "share": 134 / 138},
            "deferred": {"messages": 3, "share": 3 / 138},
            "rejected": {"messages": 1, "share": 1 / 138},
        },
        "tiers": [
            {
                "tier": None,
                "total": 138,
                "accepted": {"messages": 134, "share": 134 / 138},
                "deferred": {"messages": 3, "share": 3 / 138},
                "rejected": {"messages": 1, "share": 1 / 138},
            }
        ],
        "limits": [
            {"limit": "100 recipients per message", "deferred": 0, "rejected": 1},
            {"limit": "30 messages per minute per sender", "deferred": 2, "rejected": 0},
            {"limit": "10000 recipients per day per sender", "deferred": 1, "rejected": 0},
        ],
        "senders": {"seen": 4, "affected": 3, "share": 0.75},
        "most_affected": [
            dict(zip(SENDER_KEYS, values, strict=True))
            for values in [
                ("ann@leeds.example", 33, 31, 2, 0),
                ("bob@leeds.example", 2, 1, 0, 1),
                ("cat@leeds.example", 102, 101, 1, 0),
            ]
        ],
    }


def test_the_tables_show_the_numbers_of_the_json(by_hand: Path) -> None:
    result = run_replay(by_hand, LEEDS)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in [
        "messages 138, each tried once at its time",
        "from 2023-11-14 22:13:20 UTC",
        "to 2023-11-15 22:16:40 UTC, 1 day, 0:03:20 later",
        "order as in the file",
        "skipped 0 that cannot be read",
        "all 138",
        "accepted 134 97.10 %",
        "deferred 3 2.17 %",
        "rejected 1 0.72 %",
        "100 recipients per message 0 1",
        "30 messages per minute per sender 2 0",
        "10000 recipients per day per sender 1 0",
        "seen 4",
        "affected: deferred or rejected 3 75.00 %",
        "ann@leeds.example 33 31 2 0",
        "bob@leeds.example 2 1 0 1",
        "cat@leeds.example 102 101 1 0",
    ]:
        assert lines.count(line) == 1, line
    assert not any("dan@leeds.example" in line for line in lines)


def test_the_client_columns_select_the_tier(tmp_path: Path) -> None:
    header = "time,sender,recipients,client,protocol,tags"
    file = write_lines(
        tmp_path / "tiers.csv",
        header,
        f"{T0},ann@uwo.ca,51,129.100.1.1,smtp,",  # tier 1 only has 500 a day
        f"{T0},bob@uwo.ca,51,129.100.1.1,webmail,",
        f"{T0},cat@uwo.ca,51,129.100.1.1,smtp,wireless",
        f"{T0},dan@uwo.ca,51,8.8.8.8,smtp,",
        f"{T0},eve@uwo.ca,50,,,",
        f"{T0},fay@uwo.ca,501,129.100.1.1,,",
    )
    report = replay(file, "western-convergence")
    tiers = {x["tier"]: (x["accepted"]["messages"], x["total"]) for x in report["tiers"]}
    assert tiers == {"tier 1": (1, 2), "tier 2": (1, 4)}
    lines = [
        " ".join(x.split()) for x in run_replay(file, "western-convergence").stdout.splitlines()
    ]
    assert "tier 1 2" in lines
    assert "tier 2 4" in lines


def test_internal_recipients_do_not_count_under_a_limit_on_external_ones(tmp_path: Path) -> None:
    inside = ";".join(f"r{i}@uwo.ca" for i in range(60))
    outside = " ".join(f"r{i}@example.com" for i in range(60))
    file = write_lines(
        tmp_path / "log.csv",
        "time,sender,recipients",
        f"{T0},ann@uwo.ca,{inside}",
        f"{T0},bob@uwo.ca,{outside}",
    )
    assert decisions(file, "western-convergence") == (1, 0, 1)


def test_refused_attempts_count_if_the_policy_counts_them(tmp_path: Path) -> None:
    rows = [f"{T0 + 600 * i},ann@uwo.ca,30" for i in range(4)]
    file = write_lines(tmp_path / "log.csv", "time,sender,count", *rows)
    assert decisions(file, "western-convergence") == (1, 0, 3)


def test_no_message_is_retried(tmp_path: Path) -> None:
    rows = [f"{T0},ann@x.org,1"] * 40 + [f"{T0 + 3600},ann@x.org,1"]
    file = write_lines(tmp_path / "log.csv", "time,sender,count", *rows)
    assert decisions(file) == (31, 10, 0)


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("recipients", "101"),
        ("recipients", ";".join(f"r{i}@example.com" for i in range(101))),
        ("n_recipients", "101"),
        ("count", "101"),
        ("n_to,n_cc", "1,100"),
    ],
)
def test_recipients_may_be_given_as_addresses_or_numbers(
    tmp_path: Path, header: str, cells: str
) -> None:
    file = write_lines(tmp_path / "log.csv", f"time,sender,{header}", f"{T0},ann@x.org,{cells}")
    assert decisions(file) == (0, 0, 1)


def test_a_repeated_address_is_one_recipient(tmp_path: Path) -> None:
    cells = " ".join(f"r{i % 100}@example.com" for i in range(150))
    file = write_lines(tmp_path / "log.csv", "time,sender,recipients", f"{T0},ann@x.org,{cells}")
    assert decisions(file) == (1, 0, 0)


def test_iso_times_set_the_clock(tmp_path: Path) -> None:
    rows = ["2024-05-01T10:00:00Z,ann@x.org,1"] * 30
    rows += ["2024-05-01T12:00:59+02:00,ann@x.org,1", "2024-05-01 10:01:00,ann@x.org,1"]
    file = write_lines(tmp_path / "log.csv", "date,sender,count", *rows)
    assert decisions(file) == (31, 1, 0)


def test_messages_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    # Unsorted, the first message would set the clock an hour ahead.
    times = [T0 + 3600, *reversed(range(T0, T0 + 31))]
    file = write_lines(
        tmp_path / "log.csv", "time,sender,count", *[f"{t},ann@x.org,1" for t in times]
    )
    assert decisions(file) == (31, 1, 0)
    rows = {"messages": 32, "broken": 0, "out_of_order": 31, "sorted": True}
    assert replay(file)["rows"] == rows
    assert "31 came after a later message; sorted by time" in run_replay(file, LEEDS).stdout


def test_a_csv_file_with_a_byte_order_mark_and_crlf_is_read(tmp_path: Path) -> None:
    file = tmp_path / "LOG.CSV"
    file.write_bytes(b'\xef\xbb\xbf"time",sender,count\r\n\r\n1,"ann@x.org",1\r\n')
    assert decisions(file) == (1, 0, 0)


def test_a_gzip_file_is_read(tmp_path: Path, by_hand: Path) -> None:
    file = tmp_path / "by-hand.csv.gz"
    file.write_bytes(gzip.compress(by_hand.read_bytes()))
    assert decisions(file) == (134, 3, 1)


def mail(second: int, sender: str, recipients: int, **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["Date"] = format_datetime(datetime.fromtimestamp(T0 + second, UTC))
    message["From"] = f"Somebody <{sender}>"
    message["To"] = ", ".join(f"r{i}@example.com" for i in range(recipients))
    for name, value in headers.items():
        message[name] = value
    message.set_content("From here on it is body.\nDate: nonsense\n")
    return message


def mails() -> list[EmailMessage]:
    return [mail(i, "ann@x.org", 1) for i in range(31)] + [mail(40, "bob@x.org", 101)]


def test_an_mbox_is_replayed_and_not_changed(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for message in mails():
        box.add(message)
    box.close()
    before = (tmp_path / "box").read_bytes()
    assert decisions(tmp_path / "box") == (30, 1, 1)
    assert replay(tmp_path / "box")["format"] == "mbox"
    assert (tmp_path / "box").read_bytes() == before


def test_a_maildir_is_replayed_and_not_changed(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "box")
    for message in mails():
        box.add(message)
    before = sorted((tmp_path / "box").rglob("*"))
    report = replay(tmp_path / "box")
    assert report["format"] == "maildir"
    assert report["messages"]["total"] == 32
    assert [x["sender"] for x in report["most_affected"]] == ["ann@x.org", "bob@x.org"]
    assert sorted((tmp_path / "box").rglob("*")) == before


def test_bcc_and_sender_headers_are_used_as_in_smtplib(tmp_path: Path) -> None:
    bcc = ", ".join(f"b{i}@example.com" for i in range(100))
    box = mailbox.mbox(tmp_path / "box")
    box.add(mail(0, "ann@x.org", 1, Bcc=bcc, Sender="office@x.org"))
    box.close()
    assert replay(tmp_path / "box")["most_affected"][0]["sender"] == "office@x.org"


@pytest.mark.parametrize(
    ("date", "received", "expected"),
    [
        ("Tue, 14 Nov 2023 23:13:20 +0100", "Wed, 15 Nov 2023 00:00:00 +0000", T0),
        ("last Tuesday", "Tue, 14 Nov 2023 22:13:21 +0000", T0 + 1),
        (None, "Tue, 14 Nov 2023 22:13:21 +0000", T0 + 1),
        ("last Tuesday", "no time", T0 + 2),
        (None, None, T0 + 2),
    ],
)
def test_the_time_comes_from_date_or_else_received_or_else_the_from_line(
    tmp_path: Path, date: str | None, received: str | None, expected: int
) -> None:
    lines = ["From ann@x.org Tue Nov 14 22:13:22 2023", "From: ann@x.org", "To: bob@x.org"]
    if received:
        older = "Received: from a by b; Mon, 13 Nov 2023 00:00:00 +0000"
        lines += [f"Received: from b (x; y) by c; {received}", older]
    if date:
        lines += [f"Date: {date}"]
    file = write_lines(tmp_path / "box", *lines, "", "Hello")
    assert replay(file)["span"]["first"] == expected


def test_the_ten_most_affected_senders_are_listed_in_order(tmp_path: Path) -> None:
    rows = [f"{T0},s{n:02}@x.org,1" for n in range(1, 13) for _ in range(30 + n % 12)]
    file = write_lines(tmp_path / "log.csv", "time,sender,count", *rows)
    report = replay(file)
    assert report["senders"] == {"seen": 12, "affected": 11, "share": 11 / 12}
    affected = [(x["sender"], x["deferred"]) for x in report["most_affected"]]
    assert affected == [(f"s{n:02}@x.org", n) for n in range(11, 1, -1)]
