"""`replay` on mail files as programs and people have left them: what is a message, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import replay_json, run_replay
from rlm_testkit.growth import assert_grows_linearly

from ratelimit_mail.cli.readers import open_mail_files
from ratelimit_mail.cli.replay.mail_records import MailRecord

POLICY = "leeds-office365"

FROM = "From ann@example.org Tue Nov 14 22:13:20 2023\n"
HEADER = "From: ann@example.org\nTo: bob@example.net\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n"
PASTED = (
    "From eve@example.com Tue Nov 14 21:00:00 2023\n"
    "From: eve@example.com\nTo: ann@example.org\nDate: Tue, 14 Nov 2023 21:00:00 +0000\n\nHello\n"
)
LAST = f"{FROM}{HEADER}\nHi\n"


def messages_and_senders(tmp_path: Path, text: str | bytes) -> tuple[int, int, int]:
    """Replay an mbox file; return its messages, its senders and how many were skipped."""
    file = tmp_path / "box"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    report = replay_json(file, POLICY)
    return report["rows"]["messages"], report["senders"]["seen"], report["rows"]["broken"]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(
    "text",
    [
        f"see below\n----\n{PASTED}\n",
        "Hello\n\nFrom now on, we meet at noon.\nAnn\n\n",
        "Hello\n>From eve@example.com Tue Nov 14 21:00:00 2023\n\n",
        f"{'x' * 1_048_576}From eve@example.com Tue Nov 14 21:00:00 2023\n\n",
    ],
    ids=["not after a blank line", "a sentence", "quoted", "a long line"],
)
def test_a_from_line_in_a_text_does_not_begin_a_message(
    tmp_path: Path, text: str, end: str
) -> None:
    box = f"{FROM}{HEADER}\n{text}{LAST}".replace("\n", end)
    assert messages_and_senders(tmp_path, box.encode()) == (2, 1, 0)


@pytest.mark.parametrize("after", ["", "\n", "\n\n"])
def test_a_message_pasted_within_the_content_length_is_text(tmp_path: Path, after: str) -> None:
    text = f"x\n\n{PASTED}"
    message = f"{FROM}{HEADER}Content-Length: {len(text)}\n\n{text}{after}"
    assert messages_and_senders(tmp_path, f"{message}{LAST}") == (2, 1, 0)
    assert messages_and_senders(tmp_path, message) == (1, 1, 0)


@pytest.mark.parametrize("length", ["3", "0", "999999999999999", "some", "-1"])
def test_a_wrong_content_length_hides_no_message(tmp_path: Path, length: str) -> None:
    box = f"{FROM}{HEADER}Content-Length: {length}\n\nHello\n\n{PASTED}\n{LAST}"
    assert messages_and_senders(tmp_path, box) == (3, 2, 0)


@pytest.mark.parametrize("line", ["From x", "From ann at example.org  Tue Nov 14 22:13:20 2023"])
@pytest.mark.parametrize("text", ["", "\n", "Hello\n\n", "Hello\n\n\n"])
def test_a_from_line_after_a_blank_line_begins_a_message(
    tmp_path: Path, line: str, text: str
) -> None:
    box = f"{line}\n{HEADER}\n{text}" * 3
    assert messages_and_senders(tmp_path, box) == (3, 1, 0)


@pytest.mark.parametrize(
    "header",
    [
        f"quite Delivered-To: eve@example.net\n continued: eve\n{HEADER}",
        f">From eve@example.org Wed Feb 23 18:20:17 2005\n{HEADER}",
        f"Return-Path: <ann@example.org>\nFrom eve@example.org Wed Feb 23 2005\n{HEADER}",
        HEADER.replace(":", "  :", 1).replace("\nTo:", "\nTo \t:"),
        f"\tcontinued: eve\n{HEADER}",
        f": no name\n{HEADER}",
    ],
    ids=["words", "quoted From", "From", "blank before the colon", "continuation", "no name"],
)
@pytest.mark.parametrize("kind", ["mbox", "Maildir"])
def test_a_line_that_is_not_a_header_field_does_not_hide_those_after_it(
    tmp_path: Path, header: str, kind: str
) -> None:
    if kind == "mbox":
        assert messages_and_senders(tmp_path, f"{FROM}{header}\nHi\n") == (1, 1, 0)
        return
    for name in ("cur", "new", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "1").write_text(f"{header}\nHi\n")
    assert replay_json(tmp_path, POLICY)["rows"]["messages"] == 1


def test_a_date_in_a_zone_that_is_not_understood_leaves_the_time_to_received(
    tmp_path: Path,
) -> None:
    received = "Received: from a by b; Tue, 14 Nov 2023 22:13:{:02} +0000"
    box = "".join(
        f"{FROM}{received.format(second)}\nFrom: ann@example.org\nTo: bob@example.net\n"
        f"Date: Tue, 14 Nov 2023 17:13:{second:02} {zone}\n\nHi\n\n"
        for second, zone in enumerate(["-0500", "EST5EDT", "H0500", "GMT -0500", "-05:00"])
    )
    (tmp_path / "box").write_text(box)
    assert replay_json(tmp_path / "box", POLICY)["span"]["seconds"] == 4


# What stands before the first message.


@pytest.mark.parametrize("before", ["\n", "\r\n\r\n", "\n\n\n"])
def test_blank_lines_before_the_first_message_are_ignored(tmp_path: Path, before: str) -> None:
    assert messages_and_senders(tmp_path, before + LAST) == (1, 1, 0)


def test_text_before_the_first_message_is_reported(tmp_path: Path) -> None:
    text = f"Archive of a list\n\nFrom here on\n\n{LAST}\n{LAST}"
    assert messages_and_senders(tmp_path, text) == (2, 1, 1)
    assert run_replay(tmp_path / "box", POLICY).stderr.startswith(
        "skipped the text before message 1: it belongs to no message"
    )


# Archives of mailing lists.

MASKED = (
    "From {0} at example.org  Tue Nov 14 22:13:2{1} 2023\n"
    "From: {0} at example.org (Some Name, {0})\n{2}"
    "Date: Tue, 14 Nov 2023 22:13:2{1} +0000\n\nHi\n\n"
)


def test_an_archive_of_a_list_counts_the_list_as_the_recipient(tmp_path: Path) -> None:
    box = MASKED.format("ann", 0, "") + MASKED.format("bob", 1, "To: list at example.org\n")
    assert messages_and_senders(tmp_path, box) == (2, 2, 0)
    assert run_replay(tmp_path / "box", POLICY).stderr == (
        "note: messages of an archive of a mailing list name no recipient: the list itself"
        " counts as one (1)\n"
    )


def test_the_time_of_an_archive_may_come_from_its_from_line(tmp_path: Path) -> None:
    box = "".join(MASKED.format("ann", i, "").replace("Date: ", "Date: about ") for i in (0, 7))
    (tmp_path / "box").write_text(box)
    assert replay_json(tmp_path / "box", POLICY)["span"]["seconds"] == 7


def test_a_message_without_recipients_elsewhere_is_left_out(tmp_path: Path) -> None:
    box = f"{FROM}{HEADER.replace('To: bob@example.net', 'X: y')}\nHi\n"
    assert messages_and_senders(tmp_path, f"{box}\n{LAST}") == (1, 1, 1)


# Resent messages.

RESENT = (
    "Resent-From: eve@example.com\nResent-Date: Tue, 14 Nov 2023 23:13:20 +0000\n"
    "Resent-To: a@example.net, b@example.net\n"
)
NO_RESENT_TO = RESENT.replace("Resent-To: a@example.net, b@example.net\n", "")


@pytest.mark.parametrize(
    ("blocks", "sender", "time"),
    [
        (RESENT, "eve@example.com", 1_700_003_600),
        (NO_RESENT_TO, "ann@example.org", 1_700_000_000),
        (RESENT.replace("Resent-Date", "X-Date"), "ann@example.org", 1_700_000_000),
        (RESENT + RESENT.replace("eve", "kim"), "eve@example.com", 1_700_003_600),
        (RESENT.replace("23:13:20 +0000", "soon"), "eve@example.com", 1_700_000_000),
    ],
    ids=["resent", "by a list", "without a date", "twice", "with a wrong date"],
)
def test_a_resent_message_is_read_as_resent_only_if_it_says_to_which_recipients(
    tmp_path: Path, blocks: str, sender: str, time: int
) -> None:
    (tmp_path / "box").write_text(f"{FROM}{blocks}{HEADER}\nHi\n")
    [record] = open_mail_files([tmp_path / "box"])
    assert isinstance(record, MailRecord)
    assert (record.sender, record.time) == (sender, time * 1000)


def test_many_resent_fields_take_linear_time(tmp_path: Path) -> None:
    def box(number: int) -> Path:
        fields = "".join(f"Resent-{i}: x\n" for i in range(number))
        path = tmp_path / f"box.{number}"
        path.write_text(f"{FROM}{fields}{RESENT}{HEADER}\nHi\n")
        return path

    def read(path: Path) -> None:
        [record] = open_mail_files([path])
        assert isinstance(record, MailRecord)
        assert record.sender == "eve@example.com"

    assert_grows_linearly(read, box, 1_000)
