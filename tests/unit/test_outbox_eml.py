"""How `outbox put` reads a message: its recipients, and its text without Bcc."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Client
from ratelimit_mail.cli.outbox.eml import read_message

HEAD = b"From: Ann <ann@leeds.ac.uk>\nTo: bob@example.com\n"
LINE = st.binary(max_size=20).filter(lambda line: not set(line) & set(b"\r\n"))
END = st.sampled_from([b"\n", b"\r\n", b"\r"])


def read(
    content: bytes,
    *recipients: str,
    sender: str | None = None,
    from_headers: bool = True,
) -> tuple[bytes, str, list[str]]:
    text, envelope = read_message(
        content,
        sender=sender,
        recipients=recipients,
        from_headers=from_headers,
        client=Client(),
    )
    return text, envelope.sender, list(envelope.recipients)


def test_the_recipients_are_those_in_to_cc_and_bcc() -> None:
    text, sender, recipients = read(HEAD + b"Cc: cy@example.com\nBCC : dee@example.com\n\nHi\n")
    assert text == HEAD + b"Cc: cy@example.com\n\nHi\n"
    assert sender == "ann@leeds.ac.uk"
    assert sorted(recipients) == ["bob@example.com", "cy@example.com", "dee@example.com"]


def test_arguments_replace_the_headers_or_are_added_to_them() -> None:
    content = HEAD + b"\nHi\n"
    _, _, recipients = read(content, "eve@example.com", from_headers=False)
    assert recipients == ["eve@example.com"]
    _, _, recipients = read(content, "eve@example.com")
    assert recipients == ["eve@example.com", "bob@example.com"]


@pytest.mark.parametrize("sender", ["", "<>"])
def test_the_sender_of_the_envelope_may_be_another_and_the_null_sender(sender: str) -> None:
    assert read(HEAD + b"\n", sender="list@leeds.ac.uk")[1] == "list@leeds.ac.uk"
    assert read(HEAD + b"\n", sender=sender)[1] == "<>"


@given(
    end=END,
    bcc=st.lists(LINE, min_size=1, max_size=3),
    field=st.sampled_from([b"Bcc", b"bcc", b"BCC ", b"Resent-Bcc"]),
    body=st.lists(LINE, max_size=4),
    place=st.integers(0, 2),
)
def test_bcc_goes_with_its_continuation_lines_and_nothing_else_changes(
    end: bytes, bcc: list[bytes], field: bytes, body: list[bytes], place: int
) -> None:
    lines = [b"From: ann@leeds.ac.uk", b"To: bob@example.com"]
    hidden = [field + b":" + bcc[0], *(b" " + each for each in bcc[1:])]
    rest = end.join([b"", *body])
    with_bcc = end.join([*lines[:place], *hidden, *lines[place:], rest])
    text, _, _ = read(with_bcc, "bob@example.com", sender="ann@leeds.ac.uk", from_headers=False)
    assert text == end.join([*lines, rest])


def test_a_line_of_an_mbox_file_before_the_message_is_left_out() -> None:
    text, _, _ = read(b"From ann@leeds.ac.uk Thu Jan  1 00:00:00 1970\n" + HEAD + b"\nHi\n")
    assert text == HEAD + b"\nHi\n"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "the message is empty"),
        (b"Hello\n", "line 1: 'Hello' is not a header such as"),
        (HEAD + b"\x1b[2J\n\nHi", r"line 3: '\x1b[2J' is not a header such as"),
        (b" folded\n\nHi", "line 1: ' folded' is not a header such as"),
        (b"To: bob@example.com\n\nHi", "the message has no header From; add a line"),
        (b"From: ann@leeds.ac.uk\n\nHi", "the message has no recipients in To, Cc or Bcc"),
        (b"From: ann@leeds.ac.uk\nTo: bob\n\nHi", "To: "),
    ],
)
def test_an_error_names_the_line_or_the_header(content: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        read(content)
