"""Broken mail files: each reader says in clear words what it cannot read, and reads all the rest.

The normal run tries a few inputs of each format; `nox -s fuzz` tries 10,000.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratelimit_mail.cli.errors import InputError, RejectedRow
from ratelimit_mail.cli.readers import FORMATS, open_mail_files
from ratelimit_mail.cli.readers.base import ReadOptions
from ratelimit_mail.cli.replay.mail_records import MailRecord

pytestmark = pytest.mark.fuzz

LONGEST = 1.0
"""Seconds on the processor that one file may take."""

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_INPUTS", "15")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Sample(NamedTuple):
    """A file that is broken at random, and a message behind it that must be read all the same."""

    text: str
    last: str


SAMPLES = {
    "mbox": Sample(
        "From ann at x.org  Tue Nov 14 22:13:20 2023\nFrom: ann at x.org (Ann)\n"
        "Date: Tue, 14 Nov 2023 23:13:20 GMT +0100\n\nHi\n\n"
        "From x\nReceived: from a by b; Tue, 14 Nov 2023 22:13:20 +0000\nFrom: B <b@x.org>\n"
        "To: =?utf-8?q?K=C3=A5?= <k@x.org>, l@x.org;\nResent-Date: 14 Nov 2023 22:13:20 EST\n"
        "Resent-From: c@x.org\nContent-Length: 4\nDate: soon\n\nHi\n\n\n",
        "\n\nFrom last@x.org Tue Nov 14 22:13:20 2023\nFrom: last@x.org\nTo: k@x.org\n"
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\n\nHi\n",
    ),
    "ses": Sample(
        '{"eventType":"Send","mail":{"timestamp":"2023-11-14T22:13:20Z","source":"A <a@x.org>",'
        '"messageId":"1","destination":["b@x.org"],"tags":{"ses:source-ip":["192.0.2.7"]}}}\n'
        '{"Type":"Notification","Message":"{\\"eventType\\":\\"Bounce\\",\\"mail\\":{}}"}\n',
        '\n{"eventType":"Send","mail":{"timestamp":"2023-11-14T22:13:20Z","source":"last@x.org",'
        '"messageId":"last","destination":["b@x.org"]}}\n',
    ),
    "postfix": Sample(
        "Nov 14 22:13:20 mx postfix/smtpd[1]: 4F1A2B3C4D: client=a[192.0.2.7], sasl_username=ann\n"
        "Nov 14 22:13:20 mx postfix/cleanup[1]: 4F1A2B3C4D: message-id=<1@x>\n"
        "2023-11-14T22:13:20.1+01:00 mx postfix/qmgr[1]: 4F1A2B3C4D: from=<a@x.org>, size=1, n=1\n"
        "Nov 14 22:13:20 mx postfix/smtp[1]: 4F1A2B3C4D: to=<b@x.org>, orig_to=<c@x.org>, relay=x\n"
        '{"__REALTIME_TIMESTAMP":"1700000000000000","SYSLOG_IDENTIFIER":"postfix/qmgr",'
        '"MESSAGE":"4F1A2B3C4D: removed","_HOSTNAME":"mx"}\n'
        "<22>1 2023-11-14T22:13:20Z mx postfix/qmgr 1 - - 4F1A2B3C4D: removed\n",
        "\nNov 14 22:13:20 last postfix/smtpd[1]: 5F1A2B3C4D: client=unknown[unknown]\n"
        "Nov 14 22:13:20 last postfix/qmgr[1]: 5F1A2B3C4D: from=<last@x.org>, size=1, nrcpt=1\n"
        "Nov 14 22:13:20 last postfix/smtp[1]: 5F1A2B3C4D: to=<b@x.org>, relay=x, status=sent\n",
    ),
    "exim": Sample(
        "2023-11-14 22:13:20 1abcDE-000123-AB <= a@x.org H=pc [192.0.2.7] P=esmtpsa A=p:ann"
        ' T="x" for b@x.org\n'
        "2023-11-14 22:13:20 +0100 [9] 1abcDE-000124-AB <= a@x.org U=ann P=local S=1\n"
        "2023-11-14 22:13:20 1abcDE-000124-AB => bob <b@x.org> R=local T=local_delivery\n"
        "2023-11-14 22:13:20 1abcDE-000124-AB Completed\n",
        "\n2023-11-14 22:13:20 1zzzzz-000123-AB <= last@x.org U=x P=local S=1 for b@x.org\n",
    ),
    "exchange-tracking": Sample(
        "#Software: Microsoft Exchange Server\n"
        "#Fields: date-time,client-ip,event-id,message-id,recipient-address,sender-address\n"
        "2023-11-14T22:13:20.1Z,192.0.2.7,RECEIVE,<1@x>,b@x.org;c@x.org,a@x.org\n"
        "2023-11-14T22:13:21.1Z,,SEND,<1@x>,b@x.org,a@x.org\n"
        "2023-11-14T22:13:21.1Z,,DELIVER,<2@x>,b@x.org,a@x.org\n",
        "\n2023-11-14T22:13:20.1Z,,RECEIVE,<last@x>,b@x.org,last@x.org\n",
    ),
    "exchange-trace": Sample(
        '#TYPE x\n"Received","SenderAddress","RecipientAddress","MessageTraceId","FromIP",'
        '"MessageId"\n'
        '"11/14/2023 10:13:20 PM","a@x.org","b@x.org","1","192.0.2.7","<1@x>"\n'
        '"11/14/2023 10:13:20 PM","a@x.org","c@x.org","1","192.0.2.7","<1@x>"\n',
        '\n"11/14/2023 10:13:20 PM","last@x.org","c@x.org","last","","<2@x>"\n',
    ),
    "google": Sample(
        "Message ID,Start date,Sender,Direction,Recipient address\n"
        "<1@x>,2023/11/14 22:13:20 UTC,a@x.org,Sent,b@x.org\n"
        "<1@x>,2023/11/14 22:13:20 UTC,a@x.org,Received,c@x.org\n",
        "\n<last@x>,2023/11/14 22:13:20 UTC,last@x.org,Sent,b@x.org\n",
    ),
    "csv": Sample(
        "sep=;\nSent;From;To;Cc;Client IP;User;Protocol;Tags\n"
        "14.11.2023 22:13:20;A <a@x.org>;b@x.org, c@x.org;;192.0.2.7;ann;esmtps;x y\n"
        "14/11/2023;a@x.org;\"B\" <b@x.org>;['d@x.org'];;;;\n1700000000000;;5;;;;;\n",
        "\n1700000000;last@x.org;b@x.org;;;;;\n",
    ),
}

TABLES = ("csv", "exchange-trace", "exchange-tracking", "google")

HOSTILE = st.one_of(
    st.text(st.sampled_from("aZ0.@+-_ \"'\\<>()[]{},;:/%=!#?&*\r\n\t\0\x1b\x7f\u00e9\u0130")),
    st.text(max_size=20),
    st.sampled_from(["\n\n", "\nFrom ", "9" * 30, "{}", "[]", "\\u0000", "From: x\n", "a@b " * 99]),
    st.builds(lambda piece, n: piece * n, st.text(min_size=1, max_size=3), st.integers(1, 3000)),
)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), HOSTILE), max_size=5)


def broken(text: str, edits: list[tuple[float, int, str]]) -> str:
    """Return `text` with pieces cut out and others put in."""
    for place, length, piece in edits:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + length :]
    return text


def read(file: Path, name: str) -> list[MailRecord | RejectedRow] | None:
    """Return what a file has; None if it is an error, in clear words."""
    words = ""
    items: list[MailRecord | RejectedRow] | None
    try:
        files = open_mail_files([file], ReadOptions(year=2023), name)
        items = list(files)
    except InputError as error:
        words = str(error)
        items = None
    if items is None:
        assert 0 < len(words) < 2000
        return None
    for item in items:
        if isinstance(item, RejectedRow):
            assert item.where
            assert 0 < len(item.reason) < 2000
    assert all(files.reading.texts())
    return items


def check(file: Path, name: str) -> list[MailRecord | RejectedRow] | None:
    for attempt in range(3):  # a pause of the garbage collector may make one slow
        begin = process_time()
        items = read(file, name)
        if process_time() - begin <= LONGEST or attempt == 2:
            assert process_time() - begin <= LONGEST
            return items
    raise AssertionError


@pytest.mark.parametrize("name", SAMPLES)
def test_a_whole_sample_is_recognized_and_read(tmp_path: Path, name: str) -> None:
    sample = SAMPLES[name]
    (tmp_path / "file").write_text(sample.text + sample.last)
    assert open_mail_files([tmp_path / "file"]).format == name
    items = read(tmp_path / "file", name)
    assert items
    assert "last@x.org" in [each.sender for each in items if isinstance(each, MailRecord)]
    assert set(SAMPLES) | {"maildir"} == set(FORMATS)


@pytest.mark.parametrize("name", SAMPLES)
def test_broken_files(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "file"
    sample = SAMPLES[name]

    @given(EDITS)
    @fuzz
    def run(edits: list[tuple[float, int, str]]) -> None:
        text = broken(sample.text, edits) + sample.last
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        items = check(file, name)
        if items is not None and '"' not in "".join(piece for *_, piece in edits):
            senders = {each.sender for each in items if isinstance(each, MailRecord)}
            # A header or a quote that is broken changes the rows after it, and zeros make a text
            # look like UTF-16; then they are reported.
            may_change = name in TABLES or any("\0" in piece for *_, piece in edits)
            is_reported = may_change and any(isinstance(x, RejectedRow) for x in items)
            assert "last@x.org" in senders or is_reported

    run()


def test_broken_maildirs(tmp_path_factory: pytest.TempPathFactory) -> None:
    box = tmp_path_factory.mktemp("fuzz")
    for name in ("cur", "new", "tmp"):
        (box / name).mkdir()
    header = SAMPLES["mbox"].text.partition("\n")[2]

    @given(EDITS)
    @fuzz
    def run(edits: list[tuple[float, int, str]]) -> None:
        data = broken(header, edits).encode("utf-8", "surrogatepass")
        (box / "new" / "1").write_bytes(data)
        items = check(box, "maildir")
        assert items is not None
        assert len(items) == 1

    run()


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, lzma.compress]


def test_broken_compressed_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "file"
    packed = [pack(SAMPLES["csv"].text.encode()) for pack in PACKERS]

    @given(st.sampled_from(packed), st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40))
    @fuzz
    def run(data: bytes, place: float, length: int, piece: bytes) -> None:
        at = int(place * len(data))
        file.write_bytes(data[:at] + piece + data[at + length :])
        check(file, "csv")

    run()
