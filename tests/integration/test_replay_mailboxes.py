"""`replay` on mail files as programs and people have left them: what is a message, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import replay_json

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
